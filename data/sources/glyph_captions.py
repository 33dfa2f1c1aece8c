"""Glyph fields with captions: "two small striped red stars at the top", "blue ring, on black"; endless, not downloaded.

A caption mentions each fact with a probability of its own: captions are partial, and one is true of many images. Six of
the 36 pairs of color and shape, one of each color and one of each shape, occur in validation alone.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ..errors import DataError, check_in
from ..manifest import Manifest, as_names
from ..randomness import Purpose, generator
from .generated import Generated
from .glyphs import COLORS, COUNTS, COVERED, FACTS, SHAPES, Glyphs, canvas, painted
from .label_sets import first_seen, without_repeats
from .source import Attribute, Source

CAPTIONS = 4  # drawn for an image; equal ones count once
# Probability that a caption mentions shape, color, texture, size, position, count, background.
MENTIONED = (0.9, 0.9, 0.5, 0.5, 0.5, 0.7, 0.3)
NAMES = ("shape", "color", "texture", "size", "position", "count", "background")
PLACES = ("in the middle", "on the left", "on the right", "at the top", "at the bottom")
NOUNS, LAYOUTS = 4, 4  # forms of the things, and of what stands around them: 16 templates
SEEN = (len(COLORS) - 1) * len(SHAPES)  # pairs of color and shape in training
CODES = (NOUNS, LAYOUTS, *(1 + len(values) for values in FACTS))


def caption(noun: int, layout: int, *facts: int) -> str:
    """The caption of facts, counted from 1; 0: not mentioned. Without a number, one thing stands for any number."""
    shape, color, texture, size, position, count, background = facts
    word = lambda k: FACTS[k][facts[k] - 1] if facts[k] else ""
    thing = word(0) or "thing"
    thing += ("es" if thing == "cross" else "s") if count > 1 else ""
    things = spaced(
        spaced(word(5), word(3), word(2), word(1), thing),
        comma(spaced(word(5), word(1), thing), spaced(word(3), word(2))),
        comma(spaced(word(5), thing), spaced(word(3), word(1)), word(2)),
        comma(spaced(word(1), thing), word(5), spaced(word(2), word(3))),
        only=noun,
    )
    place, ground = PLACES[position - 1] if position else "", word(6)
    return spaced(
        spaced(things, place, f"on {ground}" if ground else ""),
        comma(f"{ground} background" if ground else "", spaced(things, place)),
        comma(f"{word(4)}" if position else "", things, ground and f"{ground} ground"),
        comma(spaced(place, f"on {ground}" if ground else ""), things),
        only=layout,
    )


def spaced(*parts: str, only: int | None = None) -> str:
    """Parts that are not empty, with spaces; or one of them."""
    return " ".join(part for part in parts if part) if only is None else parts[only]


def comma(*parts: str) -> str:
    """Parts that are not empty, with commas."""
    return ", ".join(part for part in parts if part)


class GlyphField:
    """Glyph fields whose label sets are captions; everything is drawn again from the arguments, also by workers."""

    def __init__(self, split: str, count: int, seed: int, texts: int | None = None):
        self.made_of = split, count, seed, texts
        training = split == "train"
        self.key = [seed, int(training)]
        rng = generator(Purpose.GLYPH_FACTS, *self.key)
        draw = rng.random((count, len(FACTS) + 3))
        self.facts = (draw[:, : len(FACTS)] * [len(values) for values in FACTS]).astype(np.int64)
        if training:
            self.facts[:, 1] = seen_color(self.facts[:, 0], draw[:, 1])
        normal = np.sqrt(-2 * np.log1p(-draw[:, -2])) * np.cos(2 * np.pi * draw[:, -1])
        codes, labels = self._captions(self._drawn() if texts is None else few(self.facts, texts))
        self.caption_facts = codes[:, 2:]
        self.manifest = Manifest(
            names=as_names([f"{split}-{i}" for i in range(count)]),
            sizes=canvas(np.stack([draw[:, -3], normal], -1)),
            labels=labels,
            classes=tuple(caption(*code) for code in codes.tolist()),
            where=f"glyph fields, {split}",
        )

    def _drawn(self) -> Int[np.ndarray, "N M 9"]:
        """Template and mentioned facts of each caption; a caption that would say nothing names the shape."""
        draw = generator(Purpose.GLYPH_CAPTIONS, *self.key).random((len(self.facts), CAPTIONS, 2 + len(FACTS)))
        said = draw[..., 2:] < MENTIONED
        said[..., 0] |= ~said.any(-1)
        templates = (draw[..., :2] * (NOUNS, LAYOUTS)).astype(np.int64)
        return np.concatenate([templates, said * (1 + self.facts[:, None])], -1)

    def _captions(self, codes: Int[np.ndarray, "N M 9"]) -> tuple[Int[np.ndarray, "Y 9"], Int[np.ndarray, "N L"]]:
        """Codes of each distinct caption, and the captions of each image."""
        flat = np.ravel_multi_index(tuple(np.moveaxis(codes, -1, 0)), CODES)
        used, drawn = np.unique(flat, return_inverse=True)
        table = np.stack(np.unravel_index(used, CODES), -1)
        number: dict[str, int] = {}
        text = np.array([number.setdefault(caption(*code), i) for i, code in enumerate(table.tolist())])
        labels, kept = first_seen(without_repeats(text[drawn].reshape(flat.shape)))
        return table[kept], labels

    @cached_property
    def attributes(self) -> tuple[Attribute, ...]:
        """All facts, and pairs of color and shape that training images have, or have not."""
        found = [Attribute(name, FACTS[k], self.facts[:, k], prompts(k)) for k, name in enumerate(NAMES)]
        pairs = tuple(caption(0, 0, s, c, 0, 0, 0, 0, 0) for c in range(1, 7) for s in range(1, 7))
        number = self.facts[:, 1] * len(SHAPES) + self.facts[:, 0]
        unseen = self.facts[:, 0] == self.facts[:, 1]
        found += [Attribute("seen pairs", pairs, np.where(unseen, -1, number))]
        return (*found, Attribute("unseen pairs", pairs, np.where(unseen, number, -1))) if unseen.any() else (*found,)

    def entails(self) -> Bool[np.ndarray, "N Y"]:
        """Whether each caption is true of each image."""
        said = self.caption_facts
        return ((said == 0) | (said == 1 + self.facts[:, None])).all(-1)

    def __reduce__(self):
        return GlyphField, self.made_of

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        """Draw image `index`."""
        return self.painted(index)[0]

    def mask(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """1 where a shape is, 0 on the background."""
        return (self.painted(index)[1] >= COVERED).astype(np.uint8)

    def painted(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
        """Pixels, and how much of each is covered by shapes."""
        height, width = self.manifest.sizes[index].tolist()
        rng = generator(Purpose.GLYPH_PIXELS, *self.key, index)
        return painted(rng, Glyphs(*self.facts[index].tolist()), (height, width))


def seen_color(shape: Int[np.ndarray, " N"], draw: np.ndarray) -> Int[np.ndarray, " N"]:
    """A color for each shape other than the one of the same number: those pairs are held out."""
    other = (draw * (len(COLORS) - 1)).astype(np.int64)
    return other + (other >= shape)


def few(facts: Int[np.ndarray, "N 7"], texts: int) -> Int[np.ndarray, "N 1 9"]:
    """One caption for each image, color and shape: `texts` different ones in training, since the number of things is
    mentioned for as many pairs of color and shape as this needs. Many images have the same caption."""
    shape, color, number = facts[:, 0], facts[:, 1], facts[:, 5]
    pair = 5 * shape + color - (color > shape)
    told = (shape != color) & (7 * pair % SEEN < (texts - SEEN) // (len(COUNTS) - 1))  # spread over colors and shapes
    nothing = np.zeros_like(shape)
    codes = (nothing, nothing, 1 + shape, 1 + color, nothing, nothing, nothing, told * (1 + number), nothing)
    return np.stack(codes, -1)[:, None]


def prompts(k: int) -> tuple[tuple[str, ...], ...]:
    """The plainest caption of each value of a fact."""
    alone = lambda value: tuple(value if j == k else 0 for j in range(len(FACTS)))
    return tuple((caption(0, 0, *alone(value)),) for value in range(1, 1 + len(FACTS[k])))


@dataclass(frozen=True)
class GlyphCaptions(Generated):
    """Generated shapes with captions, for --task contrast; six pairs of color and shape are in validation alone."""

    train_images: int = 50_000
    """Number of training images."""

    texts: int | None = None
    """Number of different training captions, 30, 33, … 120, one an image: many images share it; auto: endless."""

    WHAT = "glyph fields"

    def __post_init__(self):
        super().__post_init__()
        check_in("[30, 120]", texts=self.texts)
        if self.texts and self.texts % (len(COUNTS) - 1):
            raise DataError(f"data.source.texts={self.texts} must be a multiple of {len(COUNTS) - 1}")

    def drawn(self, split: str, count: int, channels: int) -> Source:
        return GlyphField(split, count, self.seed, self.texts)
