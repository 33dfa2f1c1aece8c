"""Digit strips, the embedded data set: handwritten digits, one of them highlighted; the label is that digit.

An image is a row or a column of K = 1…8 digits, so aspect ratios range from 8:1 to 1:8. Digits have the same size for
every K at the native aspect ratio; squashed to a square they blur.

Digits: "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,
from `sklearn.datasets.load_digits`. Training and test strips share no glyph.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from ..errors import check_in
from ..manifest import Manifest, as_names
from ..randomness import Purpose, generator
from .generated import Generated
from .source import Attribute, Source

CELL = 20  # pixels, side of the square in which a digit is drawn
MOST = 8  # digits in a strip
FIRST_TEST_GLYPH = 1437
TRAIN_ODDS = (0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05)  # of K = 1…8; the test set draws K uniformly
HORIZONTAL = 0.6  # share of rows; the rest are columns
PAPER, LIT = 0.05, 0.4  # brightness of the background of a digit, and of the highlighted digit
GLYPH_HEIGHT = (14.0, 20.0)  # pixels
ROTATION, SHEAR, SHIFT = 0.25, 0.25, 1.5  # radians, slope, pixels: largest change of a glyph either way


@lru_cache
def glyphs() -> tuple[Float[np.ndarray, "G 8 8"], Int[np.ndarray, " G"]]:
    """All 1,797 glyphs in [0, 1] and their digits."""
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8) / 16.0, digits.astype(np.int32)


class DigitStrips:
    """Strips drawn on demand from their index; only a few integers are stored for each."""

    def __init__(self, split: str, count: int, seed: int, smallest: float = GLYPH_HEIGHT[0]):
        self.made_of = split, count, seed, smallest
        self.heights = smallest, GLYPH_HEIGHT[1]
        training = split == "train"
        self.key = [seed, int(training)]
        self.pool = np.arange(len(glyphs()[1]))
        self.pool = self.pool[:FIRST_TEST_GLYPH] if training else self.pool[FIRST_TEST_GLYPH:]
        # With one random stream per property, a strip is the same for any count.
        purposes = (Purpose.STRIP_DIGITS, Purpose.STRIP_DIRECTION, Purpose.STRIP_LIT)
        draw = [generator(p, *self.key).random(count) for p in purposes]
        odds = TRAIN_ODDS if training else (1 / MOST,) * MOST
        self.digits = 1 + np.searchsorted(np.cumsum(odds)[:-1], draw[0], side="right")
        self.horizontal = draw[1] < HORIZONTAL
        self.lit = (draw[2] * self.digits).astype(int)
        self.chosen = generator(Purpose.STRIP_GLYPHS, *self.key).integers(len(self.pool), size=(count, MOST))
        long, short = self.digits * CELL, np.full(count, CELL)
        sizes = np.where(self.horizontal[:, None], np.stack([short, long], -1), np.stack([long, short], -1))
        label_of = glyphs()[1][self.pool]
        self.manifest = Manifest(
            names=as_names([f"{split}-{i}" for i in range(count)]),
            sizes=sizes.astype(np.int32),
            labels=label_of[self.chosen[np.arange(count), self.lit]],
            classes=tuple("0123456789"),
            where=f"digit strips, {split}",
        )

    def __reduce__(self):
        """Pickle the arguments alone; a worker samples the tables again (30 MB for 300,000 strips)."""
        return DigitStrips, self.made_of

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """Properties beside the label. The size of a strip tells its count and orientation, but neither the half in
        which the lit digit stands nor the first digit."""
        late = 2 * self.lit + 1 - self.digits
        first = glyphs()[1][self.pool[self.chosen[:, 0]]]
        return (
            Attribute("count", tuple(map(str, range(1, MOST + 1))), self.digits - 1),
            Attribute("orientation", ("row", "column"), np.where(self.digits > 1, 1 - self.horizontal, -1)),
            Attribute("half", ("first", "second"), np.where(late == 0, -1, (late > 0).astype(int))),
            Attribute("first digit", tuple("0123456789"), first),
        )

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        """Draw strip `index`."""
        count = self.digits[index]
        rng = generator(Purpose.STRIP_STROKES, *self.key, index)
        strokes = Strokes.sample(rng, int(count), self.heights)
        cells = draw_glyphs(strokes, glyphs()[0][self.pool[self.chosen[index, :count]]])
        paper = np.where(np.arange(count) == self.lit[index], LIT, PAPER)[:, None, None]
        cells = paper + (1 - paper) * cells
        gray = np.concatenate(cells, axis=1 if self.horizontal[index] else 0)
        return np.repeat((255 * gray).round().astype(np.uint8)[..., None], 3, axis=-1)


class Strokes(NamedTuple):
    """How each glyph is drawn."""

    height: Float[np.ndarray, " N"]
    """Height and breadth of the 8 x 8 grid of a glyph, in pixels."""
    breadth: Float[np.ndarray, " N"]
    angle: Float[np.ndarray, " N"]
    shear: Float[np.ndarray, " N"]
    shift_y: Float[np.ndarray, " N"]
    shift_x: Float[np.ndarray, " N"]

    @classmethod
    def sample(cls, rng: np.random.Generator, count: int, heights: tuple[float, float] = GLYPH_HEIGHT) -> "Strokes":
        """Random strokes."""
        height, breadth = rng.uniform(*heights, (2, count))
        angle, shear = rng.uniform(-1, 1, (2, count)) * np.array([[ROTATION], [SHEAR]])
        return cls(height, breadth, angle, shear, *rng.uniform(-SHIFT, SHIFT, (2, count)))

    def of(self, chosen: np.ndarray) -> "Strokes":
        """Those of some glyphs."""
        return Strokes(*(leaf[chosen] for leaf in self))


def draw_glyphs(
    strokes: Strokes, ink: Float[np.ndarray, "N 8 8"], cell: int = CELL
) -> Float[np.ndarray, "N cell cell"]:
    """Draw each glyph into a cell, resized, rotated, sheared and shifted; bilinear."""
    height, breadth, angle, shear, shift_y, shift_x = (leaf[:, None, None] for leaf in strokes)
    y, x = np.mgrid[:cell, :cell] - (cell - 1) / 2
    y, x = y - shift_y, x - shift_x
    y, x = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    x = x + shear * y
    return _bilinear(ink, y * 8 / height + 3.5, x * 8 / breadth + 3.5)


def _bilinear(
    ink: Float[np.ndarray, "N 8 8"], y: Float[np.ndarray, "N h w"], x: Float[np.ndarray, "N h w"]
) -> Float[np.ndarray, "N h w"]:
    """Interpolate `ink` at real coordinates; 0 outside."""
    framed = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    y, x = np.clip(y + 1, 0, 8.999), np.clip(x + 1, 0, 8.999)
    top, left = y.astype(int), x.astype(int)
    y, x = y - top, x - left
    n = np.arange(len(ink))[:, None, None]
    upper = framed[n, top, left] * (1 - x) + framed[n, top, left + 1] * x
    lower = framed[n, top + 1, left] * (1 - x) + framed[n, top + 1, left + 1] * x
    return upper * (1 - y) + lower * y


@dataclass(frozen=True)
class Digits(Generated):
    """Embedded digit strips."""

    smallest: float = GLYPH_HEIGHT[0]
    """Smallest height of a digit, in pixels; the largest is 20. Small digits can only be read at high resolution."""

    WHAT = "digit strips"

    def __post_init__(self):
        super().__post_init__()
        check_in(f"[1, {GLYPH_HEIGHT[1]:g}]", smallest=self.smallest)

    def drawn(self, split: str, count: int, channels: int) -> Source:
        return DigitStrips(split, count, self.seed, self.smallest)
