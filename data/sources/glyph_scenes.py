"""Glyph scenes: one to six shapes of any color on a canvas of any aspect ratio, with the class of every pixel; endless.

Shapes lie anywhere, also on top of each other; the class of a pixel is the uppermost shape there, or the background.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from ..manifest import Manifest, as_names
from ..randomness import Purpose, generator
from .generated import Generated
from .glyphs import COVERED, SHAPES, TEXTURES, canvas, inside, shading
from .source import Source

MOST = 6  # shapes in a scene
DIAMETER = (0.3, 0.75)  # in short sides of the canvas
EDGE = 0.1  # share of a side that no middle of a shape is closer to its ends
TILT = 0.4  # radians, largest rotation of a shape either way
NOISE, SLOPE = 8.0, 40.0  # of each pixel; of the background, from edge to edge
CONTRAST = 60.0  # least distance of the colors of a shape and of the background, by their largest channel
REACH = 1.12  # radii from the middle of a shape within which it lies: the corners of a square


class Thing(NamedTuple):
    """A shape of a scene; places and lengths in pixels."""

    shape: int
    y: float
    x: float
    diameter: float
    angle: float
    texture: int
    color: tuple[float, float, float]


class Scenes:
    """Scenes drawn on demand from their index."""

    def __init__(self, split: str, count: int, seed: int):
        self.made_of = split, count, seed
        self.key = [seed, int(split == "train")]
        draw = generator(Purpose.SCENE_FACTS, *self.key).random((count, 4 + MOST))
        normal = np.sqrt(-2 * np.log1p(-draw[:, 1])) * np.cos(2 * np.pi * draw[:, 2])
        self.counts = 1 + (draw[:, 3] * MOST).astype(int)
        self.shapes = (draw[:, 4:] * len(SHAPES)).astype(np.int32)
        self.shapes[np.arange(MOST) >= self.counts[:, None]] = -1
        self.manifest = Manifest(
            names=as_names([f"{split}-{i}" for i in range(count)]),
            sizes=canvas(np.stack([draw[:, 0], normal], -1)),
            labels=np.where(self.shapes >= 0, self.shapes + 1, -1).astype(np.int32),
            classes=("background", *SHAPES),
            where=f"glyph scenes, {split}",
            masks=True,
        )

    def __reduce__(self):
        """Pickle the arguments alone; a worker draws the tables again."""
        return Scenes, self.made_of

    def things(self, index: int) -> tuple[list[Thing], Float[np.ndarray, " 3"]]:
        """The shapes of a scene, from below to above, and the color of the background."""
        height, width = self.manifest.sizes[index].tolist()
        rng = generator(Purpose.SCENE_THINGS, *self.key, index)
        ground = rng.uniform(0, 255, 3)
        found = []
        for shape in self.shapes[index, : self.counts[index]].tolist():
            place, size, angle = rng.random(2), rng.uniform(*DIAMETER), rng.uniform(-TILT, TILT)
            texture, color = int(rng.integers(len(TEXTURES))), rng.uniform(0, 255, 3)
            if np.abs(color - ground).max() < CONTRAST:
                color = 255 - ground
            diameter = size * min(height, width)
            y, x = (EDGE + (1 - 2 * EDGE) * place) * [height, width]
            found.append(Thing(shape, float(y), float(x), diameter, angle, texture, (*color.tolist(),)))
        return found, ground

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        """Draw scene `index`."""
        height, width = self.manifest.sizes[index].tolist()
        things, ground = self.things(index)
        rng = generator(Purpose.SCENE_PIXELS, *self.key, index)
        slope = rng.uniform(-SLOPE, SLOPE, 2)
        rise, run = (s * (np.arange(n, dtype=np.float32) / n - 0.5) for s, n in zip(slope, (height, width)))
        picture = ground.astype(np.float32) + (rise[:, None] + run)[..., None]
        for thing in things:
            part = window(thing, height, width)
            y, x = places(thing, part)
            cover = coverage(thing, y, x)[..., None]
            paint = np.array(thing.color, np.float32) * shading(thing.texture, y, x)[..., None]
            picture[part] += cover * (paint - picture[part])
        picture += rng.normal(0, NOISE, (height, width, 1))
        return picture.round().clip(0, 255).astype(np.uint8)

    def mask(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """The class of every pixel: 0 for the background, 1 for the first shape."""
        height, width = self.manifest.sizes[index].tolist()
        labels = np.zeros((height, width), np.uint8)
        for thing in self.things(index)[0]:
            part = window(thing, height, width)
            labels[part][coverage(thing, *places(thing, part)) > COVERED] = thing.shape + 1
        return labels


def window(thing: Thing, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the canvas that hold a shape."""
    reach = REACH * thing.diameter / 2 + 1
    return tuple(  # pyright: ignore[reportReturnType]
        slice(max(0, int(middle - reach)), max(0, min(side, int(middle + reach) + 1)))
        for middle, side in ((thing.y, height), (thing.x, width))
    )


def places(thing: Thing, part: tuple[slice, slice]) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Coordinates y and x of the middles of pixels in the frame of a shape of radius 1."""
    rows, columns = (np.arange(p.start, p.stop, dtype=np.float32) + 0.5 for p in part)
    y = (rows[:, None] - thing.y) * (2 / thing.diameter)
    x = (columns - thing.x) * (2 / thing.diameter)
    cos, sin = np.cos(thing.angle), np.sin(thing.angle)
    return cos * y - sin * x, sin * y + cos * x


def coverage(thing: Thing, y: Float[np.ndarray, "h w"], x: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Share of each pixel that a shape covers, about."""
    return np.clip(inside(thing.shape, y, x) * thing.diameter / 2 + 0.5, 0, 1)


@dataclass(frozen=True)
class GlyphScenes(Generated):
    """Generated scenes of shapes with masks, for --task segment."""

    train_images: int = 50_000
    """Number of training images."""
    val_images: int = 1_000
    """Number of validation images."""

    WHAT = "glyph scenes"

    def drawn(self, split: str, count: int, channels: int) -> Source:
        return Scenes(split, count, self.seed)
