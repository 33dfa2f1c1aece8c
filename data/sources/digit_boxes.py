"""Digits on strips and pages, each with its box: rows and columns of 1 to 8 places, pages of up to 3 x 4; some places
are empty. Embedded, not downloaded.

A box is the smallest one around the pixels of a glyph with at least a third of full ink, as they are drawn. Training
and test images share no glyph.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ..boxes import COUNTS, Boxes
from ..manifest import Manifest, as_names
from ..randomness import Purpose, generator
from .digit_captions import NUMBERS
from .digits import FIRST_TEST_GLYPH, Strokes, draw_glyphs, glyphs
from .generated import Generated
from .source import Source

PLACES = 12  # of an image, at most
PAGE, ROW = 0.4, 0.35  # share of pages and of rows; the rest are columns
OCCUPIED = 0.85  # probability that a place has a digit
PITCH = (20.0, 28.0)  # pixels between places
HEIGHT = (12.0, 26.0)  # of a glyph in pixels
CELL = 36  # pixels, side of the square in which a glyph is drawn
INK = 1 / 3  # of the pixels of a glyph that its box holds
PAPER, PEN, NOISE = (0.0, 0.4), (0.6, 1.0), 0.03  # brightness


class DigitPages:
    """Images drawn on demand; a table has what decides where each digit lies."""

    def __init__(self, split: str, count: int, seed: int, words: bool = False):
        self.made_of = split, count, seed, words
        self.key = [seed, int(split == "train")]
        pool = np.arange(len(glyphs()[1]))
        self.pool = pool[:FIRST_TEST_GLYPH] if split == "train" else pool[FIRST_TEST_GLYPH:]
        draw = generator(Purpose.PAGE_LAYOUT, *self.key).random((count, 4 + PLACES))
        self.places = layouts(draw[:, :3])
        self.pitch = PITCH[0] + draw[:, 3] * (PITCH[1] - PITCH[0])
        self.used = occupied(draw[:, 4:], self.places)
        number = int(self.used.sum())
        self.chosen = self.pool[generator(Purpose.PAGE_GLYPHS, *self.key).integers(len(self.pool), size=number)]
        self.strokes = Strokes.sample(generator(Purpose.PAGE_STROKES, *self.key), number, HEIGHT)
        self.ends = np.concatenate([[0], np.cumsum(self.used.sum(-1))])
        sizes = np.ceil(self.places * self.pitch[:, None]).astype(np.int32)
        boxes = self._boxes(sizes)
        self.manifest = Manifest(
            names=as_names([f"{split}-{i}" for i in range(count)]),
            sizes=sizes,
            labels=boxes.label_sets(),
            classes=NUMBERS if words else tuple("0123456789"),
            where=f"pages of digits, {split}",
            boxes=boxes,
        )

    def __reduce__(self):
        """Pickle the arguments alone; a worker makes the tables again."""
        return DigitPages, self.made_of

    def _boxes(self, sizes: Int[np.ndarray, "N 2"]) -> Boxes:
        """The box of every digit, within its image."""
        image, place = np.nonzero(self.used)
        middles = self._middles(image, place)
        corners = extents(self.strokes, glyphs()[0][self.chosen]) + np.tile(middles[:, ::-1], 2)
        corners = corners.clip(0, np.tile(sizes[image, ::-1], 2)).astype(np.float32)
        areas = (corners[:, 2:] - corners[:, :2]).prod(-1)
        kinds = np.full(len(corners), COUNTS, np.int32)
        return Boxes(self.ends, corners, glyphs()[1][self.chosen], kinds, areas)

    def _middles(self, image: Int[np.ndarray, " K"], place: Int[np.ndarray, " K"]) -> Float[np.ndarray, "K 2"]:
        """The middle of each place (y, x) in pixels of its image."""
        at = np.stack(np.divmod(place, self.places[image, 1]), -1)
        return (at + 0.5) * self.pitch[image, None]

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        """Draw image `index`."""
        height, width = self.manifest.sizes[index].tolist()
        mine = slice(self.ends[index], self.ends[index + 1])
        place = np.flatnonzero(self.used[index])
        corners = self._middles(np.full(len(place), index), place) - CELL / 2
        whole = np.floor(corners)
        strokes = self.strokes.of(np.arange(mine.start, mine.stop))
        offset = corners - whole
        strokes = strokes._replace(shift_y=strokes.shift_y + offset[:, 0], shift_x=strokes.shift_x + offset[:, 1])
        canvas = np.zeros((height + 2 * CELL, width + 2 * CELL))
        cells = draw_glyphs(strokes, glyphs()[0][self.chosen[mine]], CELL)
        for (top, left), cell in zip((whole + CELL).astype(int).tolist(), cells):
            under = canvas[top : top + CELL, left : left + CELL]
            np.maximum(under, cell, out=under)
        rng = generator(Purpose.PAGE_PIXELS, *self.key, index)
        paper, pen = rng.uniform(*PAPER), rng.uniform(*PEN)
        gray = paper + (pen - paper) * canvas[CELL:-CELL, CELL:-CELL] + rng.normal(0, NOISE, (height, width))
        return np.repeat((255 * gray).round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def layouts(draw: Float[np.ndarray, "N 3"]) -> Int[np.ndarray, "N 2"]:
    """Rows and columns of places from uniform numbers: a page, a row or a column."""
    long = 1 + (draw[:, 1] * 8).astype(int)
    page = np.stack([2 + (draw[:, 1] * 2).astype(int), 2 + (draw[:, 2] * 3).astype(int)], -1)
    ones = np.ones_like(long)
    kinds = [draw[:, 0] < PAGE, draw[:, 0] < PAGE + ROW]
    return np.where(
        kinds[0][:, None], page, np.where(kinds[1][:, None], np.stack([ones, long], -1), np.stack([long, ones], -1))
    )


def occupied(draw: Float[np.ndarray, "N places"], places: Int[np.ndarray, "N 2"]) -> Bool[np.ndarray, "N places"]:
    """Which places have a digit: at least one of an image."""
    there = np.arange(draw.shape[1]) < places.prod(-1)[:, None]
    used = there & (draw < OCCUPIED)
    first = np.where(there, draw, np.inf).argmin(-1)
    used[np.arange(len(used)), first] = True
    return used


def extents(strokes: Strokes, ink: Float[np.ndarray, "K 8 8"]) -> Float[np.ndarray, "K 4"]:
    """Left, top, right and bottom of each glyph as it is drawn, from the middle of its cell."""
    seen = np.zeros((len(ink), 9, 9), bool)  # corners of pixels, each of up to four
    for y, x in np.ndindex(2, 2):
        seen[:, y : y + 8, x : x + 8] |= ink >= INK
    height, breadth, angle, shear, shift_y, shift_x = (leaf[:, None, None] for leaf in strokes)
    y, x = np.mgrid[:9, :9] - 4.0
    y, x = y * height / 8, x * breadth / 8
    x = x - shear * y
    y, x = np.cos(angle) * y + np.sin(angle) * x + shift_y, np.cos(angle) * x - np.sin(angle) * y + shift_x
    low = [np.where(seen, v, np.inf).min((1, 2)) for v in (x, y)]
    high = [np.where(seen, v, -np.inf).max((1, 2)) for v in (x, y)]
    return np.stack([*low, *high], -1)


@dataclass(frozen=True)
class DigitBoxes(Generated):
    """Embedded digits on strips and pages, with boxes, for --task detect."""

    train_images: int = 30_000
    """Number of training images."""
    val_images: int = 500
    """Number of validation images."""
    words: bool = False
    """Classes are called zero to nine, as in captions, and not 0 to 9."""

    WHAT = "pages of digits"

    def drawn(self, split: str, count: int, channels: int) -> Source:
        return DigitPages(split, count, self.seed, self.words)
