"""Moving digits, the embedded clips: one digit in a lit box among others, all moving on a torus.

A label that needs motion cannot be read from one frame. On a torus with a uniform first place, every place in a single
frame is equally likely for every direction: a model of single frames stays at 1/8, and one that sees frames in random
order cannot tell a direction from its opposite, and stays at 1/2. Frames, height and width are drawn independently of
the label.   Choice: sides, speeds and numbers of frames.

Digits: see `digits.py`. Training and validation clips share no glyph.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from reference.resize import resize_image
from reference.sampling.frames import frames_at

from ..manifest import Manifest, as_names
from ..randomness import Purpose, generator
from .digits import FIRST_TEST_GLYPH, glyphs
from .generated import Generated
from .source import Source

Task = Literal["direction", "speed", "digit"]

SIDES = (24, 32, 40, 48)  # pixels: aspect ratios from 1:2 to 2:1
FRAMES = (4, 8, 12, 16, 24)
GLYPH, BOX = 10, 14  # pixels, sides of a digit and of the lit box around one
PAPER, LIT = 0.05, 0.45  # brightness of the canvas and of the box
SPEED = (1.0, 3.0)  # pixels per frame
MOST = 4  # digits
CLASSES: dict[str, tuple[str, ...]] = {
    "direction": ("right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right"),
    "speed": ("slow", "medium", "fast"),
    "digit": tuple("0123456789"),
}


class Paths(NamedTuple):
    """The digits of a clip; the first one is lit."""

    glyphs: Int[np.ndarray, " D"]
    first: Float[np.ndarray, "D 2"]
    """Places (y, x) in the first frame, as shares of the canvas."""
    velocity: Float[np.ndarray, "D 2"]
    """Pixels per frame along y and x."""


@lru_cache
def enlarged() -> Float[np.ndarray, "G glyph glyph"]:
    """All glyphs at the size in which they are drawn."""
    stacked = np.moveaxis(glyphs()[0], 0, -1)
    return np.moveaxis(resize_image(stacked, (GLYPH, GLYPH)), -1, 0)


class MovingDigitClips:
    """Clips drawn on demand from their index; only a few numbers are stored for each."""

    def __init__(self, split: str, count: int, seed: int, task: Task, channels: int):
        self.made_of = split, count, seed, task, channels
        training = split == "train"
        self.key, self.channels = [seed, int(training)], channels
        pool = np.arange(len(glyphs()[1]))
        self.pool = pool[:FIRST_TEST_GLYPH] if training else pool[FIRST_TEST_GLYPH:]
        rng = generator(Purpose.CLIP_FACTS, *self.key)
        # One line of random numbers per clip: a clip is the same for any count.
        draw = rng.random((count, 7))
        pick = lambda values, u: np.array(values)[(u * len(values)).astype(int)]
        sizes = np.stack([pick(FRAMES, draw[:, 0]), pick(SIDES, draw[:, 1]), pick(SIDES, draw[:, 2])], -1)
        self.direction, self.speed = (draw[:, 3] * 8).astype(int), SPEED[0] + draw[:, 4] * (SPEED[1] - SPEED[0])
        self.lit = pick(self.pool, draw[:, 5])
        self.others = (draw[:, 6] * MOST).astype(int)
        third = np.minimum(3 * (self.speed - SPEED[0]) / (SPEED[1] - SPEED[0]), 2).astype(int)
        labels = {"direction": self.direction, "speed": third, "digit": glyphs()[1][self.lit]}[task]
        self.manifest = Manifest(
            names=as_names([f"{split}-{i}" for i in range(count)]),
            sizes=sizes.astype(np.int32),
            labels=labels.astype(np.int32),
            classes=CLASSES[task],
            where=f"moving digits, {task}, {split}",
            channels=channels,
        )

    def __reduce__(self):
        """Pickle the arguments alone; a worker samples the table again."""
        return MovingDigitClips, self.made_of

    def paths(self, index: int) -> Paths:
        """Digits, first places and velocities of a clip."""
        rng, count = generator(Purpose.CLIP_PATHS, *self.key, index), 1 + int(self.others[index])
        angle = np.append(self.direction[index], rng.integers(8, size=count - 1)) * np.pi / 4
        speed = np.append(self.speed[index], rng.uniform(*SPEED, count - 1))
        chosen = np.append(self.lit[index], rng.choice(self.pool, count - 1))
        return Paths(chosen, rng.random((count, 2)), speed[:, None] * np.stack([np.sin(angle), np.cos(angle)], -1))

    def clip(self, index: int, times: Float[np.ndarray, " F"]) -> UInt8[np.ndarray, "F h w C"]:
        """Draw the frames at these times."""
        frames, height, width = self.manifest.sizes[index].tolist()
        paths, canvas = self.paths(index), np.array([height, width])
        gray = np.full((len(times), height, width), PAPER)
        for frame, number in zip(gray, frames_at(times, frames)):
            places = np.floor(paths.first * canvas + number * paths.velocity).astype(int)
            put(frame, np.full((BOX, BOX), LIT), places[0] - (BOX - GLYPH) // 2)
            for place, ink in zip(places, enlarged()[paths.glyphs]):
                put(frame, ink, place)
        pixels = (255 * gray).round().astype(np.uint8)[..., None]
        return np.repeat(pixels, self.channels, axis=-1)

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w C"]:
        """The frame in the middle."""
        return self.clip(index, np.array([0.5]))[0]


def put(frame: Float[np.ndarray, "h w"], ink: Float[np.ndarray, "a b"], corner: Int[np.ndarray, " 2"]) -> None:
    """Draw onto a torus, in place: the brighter of both, and what leaves on one side enters on the other."""
    rows, columns = ((corner[a] + np.arange(ink.shape[a])) % frame.shape[a] for a in (0, 1))
    here = np.ix_(rows, columns)
    frame[here] = np.maximum(frame[here], ink)


class Stills:
    """Images instead of clips: one frame of each, at a time that follows from its number."""

    def __init__(self, source: MovingDigitClips):
        self.source = source
        known = source.manifest
        self.manifest = replace(known, sizes=known.sizes[:, 1:], where=f"{known.where}, stills")

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w C"]:
        """One frame of clip `index`."""
        return self.source.clip(index, np.array([index * 0.618 % 1]))[0]


@dataclass(frozen=True)
class MovingDigits(Generated):
    """Embedded clips of digits that move on a torus, gray or the same in three channels."""

    train_images: int = 200_000
    """Number of training clips."""
    val_images: int = 2_000
    """Number of validation clips."""
    task: Task = "direction"
    """What the label is, of the digit in the lit box: direction of motion (8), speed (3) or digit (10)."""
    stills: bool = False
    """Images instead of clips, one frame of each, to train a model of images first."""

    WHAT, CHANNELS = "moving digits", (1, 3)

    def drawn(self, split: str, count: int, channels: int) -> Source:
        clips = MovingDigitClips(split, count, self.seed, self.task, channels)
        return Stills(clips) if self.stills else clips
