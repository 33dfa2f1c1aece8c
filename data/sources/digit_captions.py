"""Digit strips with captions: "a row of five digits, the marked digit is a seven", "column, 3 digits, second marked".

A caption mentions each fact of its strip (direction, number of digits, place of the highlighted digit, and that digit)
with a probability of its own, so captions are partial, and one caption is true of many strips. The direction and the
place are not mentioned where there is one digit: they cannot be seen.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Int, UInt8

from ..randomness import Purpose, generator
from .digits import MOST, DigitStrips
from .generated import Generated
from .label_sets import first_seen, without_repeats
from .source import Attribute, Source

CAPTIONS = 4  # drawn for a strip; equal ones count once
DIRECTIONS = ("row", "column")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
# Probability that a caption mentions the direction, the number of digits, the place, the highlighted digit. Where the
# first three were twice as likely, a model learned them first, and the digit late (docs/contrastive.md).
MENTIONED = (0.3, 0.35, 0.2, 0.9)
# A template is a scene and a mark, each in the forms for both facts, the first alone, and the second alone.
SCENES = (
    ("a {direction} of {count} {digits}", "a {direction} of digits", "{count} {digits}"),
    ("{direction}, {figure} {digits}", "{direction}", "{figure} {digits}"),
    ("{count} {digits} in a {direction}", "digits in a {direction}", "just {count} {digits}"),
    ("{direction} with {figure} {digits}", "{direction} with digits", "strip of {figure}"),
)
MARKS = (
    ("the {place} digit is marked, {digit}", "the {place} digit is marked", "the marked digit is {digit}"),
    ("{place} marked, {digit}", "{place} marked", "{digit} marked"),
    ("{digit} lit in the {place} place", "the {place} place lit", "{digit} lit"),
    ("{digit} highlighted, the {place}", "the {place} highlighted", "highlighted is {digit}"),
)
SHAPE = (len(SCENES), len(MARKS), 3, MOST + 1, MOST + 1, 11)  # scene, mark, and facts from 1 on; 0: not mentioned


def caption(scene: int, mark: int, direction: int, count: int, place: int, digit: int) -> str:
    """The caption of facts, counted from 1; 0: not mentioned."""
    words = {
        "direction": DIRECTIONS[direction - 1],
        "count": NUMBERS[count],
        "figure": str(count),
        "digits": "digit" if count == 1 else "digits",
        "place": PLACES[place - 1],
        "digit": f"{'an' if digit == 9 else 'a'} {NUMBERS[digit - 1]}",
    }
    parts = [form(SCENES[scene], direction, count), form(MARKS[mark], place, digit)]
    return ", ".join(part.format(**words) for part in parts if part)


def form(forms: tuple[str, str, str], first: int, second: int) -> str:
    """The form for both facts, or for the one that is mentioned; empty where none is."""
    return forms[0 if first and second else 1 if first else 2] if first or second else ""


@lru_cache
def captions() -> tuple[tuple[str, ...], Int[np.ndarray, " C"]]:
    """The distinct captions, and the caption of every template with all its facts, by its place in SHAPE."""
    texts: dict[str, int] = {}
    of_code = [texts.setdefault(caption(*code), len(texts)) for code in np.ndindex(*SHAPE)]
    return tuple(texts), np.array(of_code, np.int32)


class CaptionedStrips:
    """Digit strips whose label sets are captions; everything is drawn again from the arguments, also by workers."""

    def __init__(self, split: str, count: int, seed: int):
        self.made_of = split, count, seed
        self.strips = DigitStrips(*self.made_of)
        strips = self.strips.manifest
        direction = np.where(self.strips.horizontal, 1, 2)
        facts = np.stack([direction, self.strips.digits, self.strips.lit + 1, strips.labels + 1], -1)
        texts, of_code = captions()
        drawn = of_code[np.ravel_multi_index(tuple(np.moveaxis(codes(facts, self.strips.key), -1, 0)), SHAPE)]
        labels, used = first_seen(without_repeats(drawn))
        self.manifest = replace(strips, labels=labels, classes=tuple(texts[i] for i in used))
        self.attributes = attributes(facts)

    def __reduce__(self):
        return CaptionedStrips, self.made_of

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        """Draw strip `index`."""
        return self.strips.image(index, shrink)


def codes(facts: Int[np.ndarray, "N 4"], key: list[int]) -> Int[np.ndarray, "N M 6"]:
    """Template and mentioned facts of each caption; a caption that would say nothing names the digit."""
    draw = generator(Purpose.STRIP_CAPTIONS, *key).random((len(facts), CAPTIONS, 6))
    said = draw[..., 2:] < MENTIONED
    said[..., [0, 2]] &= facts[:, None, 1:2] > 1
    said[..., 3] |= ~said.any(-1)
    templates = (draw[..., :2] * (len(SCENES), len(MARKS))).astype(np.int64)
    return np.concatenate([templates, said * facts[:, None]], -1)


def attributes(facts: Int[np.ndarray, "N 4"]) -> tuple[Attribute, ...]:
    """Digit, count and orientation with the plainest caption of each value; a single digit has no orientation."""
    direction, count, _, digit = facts.T
    plainest = lambda *codes: tuple((caption(0, 0, *code),) for code in codes)
    digits = plainest(*((0, 0, 0, d) for d in range(1, 11)))
    counts = plainest(*((0, c, 0, 0) for c in range(1, MOST + 1)))
    directions = plainest(*((d, 0, 0, 0) for d in (1, 2)))
    return (
        Attribute("digit", NUMBERS, digit - 1, digits),
        Attribute("count", NUMBERS[1 : MOST + 1], count - 1, counts),
        Attribute("orientation", DIRECTIONS, np.where(count > 1, direction - 1, -1), directions),
    )


@dataclass(frozen=True)
class DigitCaptions(Generated):
    """Embedded digit strips with captions, for --task contrast."""

    WHAT = "digit strips"

    def drawn(self, split: str, count: int, channels: int) -> Source:
        return CaptionedStrips(split, count, self.seed)
