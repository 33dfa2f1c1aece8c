"""Geometry of a training picture: one object that moves pixels, masks and boxes alike, so that labels follow pixels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num, UInt8

from .augment import crop_box, fit_box, rotate, rotate_mask
from .sampling.augment import Augment
from .sources.decode import Box

IGNORE = 255  # label of pixels without a class
FULL_TURN = 4  # quarter turns


class Geometry(NamedTuple):
    """A box of an image, resized, turned by 90 degrees, mirrored and rotated, in this order."""

    box: Box
    """Left, top, right and bottom of the region, in pixels of the image."""
    size: tuple[int, int]
    """Height and width of the picture."""
    quarter_turns: int = 0
    """Turns by 90 degrees, counter-clockwise."""
    flip: bool = False
    """Whether the turned picture is mirrored left to right."""
    angle: float = 0.0
    """Rotation of the mirrored picture about its center in radians, counter-clockwise."""

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width of the resized box, before it is turned."""
        return transposed(self.size, self.quarter_turns)

    def at(self, size: tuple[int, int]) -> "Geometry":
        """The same region of the image as a picture of another size (height, width)."""
        return self._replace(size=size)

    def of_pixels(self, region: Num[np.ndarray, "h w C"]) -> Num[np.ndarray, "H W C"]:
        """The picture of the box, resized to `upright`; corners exposed by a rotation are gray."""
        picture = self._turned(region)
        return rotate(picture, self.angle) if self.angle else picture

    def of_mask(self, mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "H W"]:
        """The labels of the picture, from those of the whole image: at the middle of each pixel, the label of the
        nearest pixel of the image. IGNORE beyond the image and in exposed corners."""
        left, top, right, bottom = self.box
        rows, columns = (
            np.floor(low + (np.arange(new) + 0.5) * (high - low) / new).astype(np.int64)
            for low, high, new in zip((top, left), (bottom, right), self.upright)
        )
        inside = [(0 <= places) & (places < n) for places, n in zip((rows, columns), mask.shape)]
        labels = mask[np.ix_(*(np.clip(p, 0, n - 1) for p, n in zip((rows, columns), mask.shape)))]
        labels = self._turned(np.where(inside[0][:, None] & inside[1], labels, IGNORE).astype(np.uint8))
        return rotate_mask(labels, self.angle, IGNORE) if self.angle else labels

    def of_boxes(self, boxes: Num[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
        """Boxes (left, top, right, bottom) in pixels of the image → in pixels of the picture, not clipped to it.

        A rotated box becomes the smallest box that holds it.
        """
        left, top, right, bottom = self.box
        height, width = self.upright
        x = (boxes[:, [0, 2, 2, 0]] - left) * width / (right - left)
        y = (boxes[:, [1, 1, 3, 3]] - top) * height / (bottom - top)
        for _ in range(self.quarter_turns % FULL_TURN):
            x, y, height, width = y, width - x, width, height
        x = width - x if self.flip else x
        x, y = x - width / 2, y - height / 2
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        x, y = cos * x + sin * y + width / 2, cos * y - sin * x + height / 2
        return np.stack([x.min(-1), y.min(-1), x.max(-1), y.max(-1)], -1)

    def _turned(self, region: Num[np.ndarray, "h w *C"]) -> Num[np.ndarray, "H W *C"]:
        picture = np.rot90(region, self.quarter_turns)
        return picture[:, ::-1] if self.flip else picture


def transposed(sides: tuple[int, int], quarter_turns: int) -> tuple[int, int]:
    """Height and width after quarter turns: an odd number exchanges them."""
    return sides if quarter_turns % 2 == 0 else (sides[1], sides[0])


def sample_quarter_turns(rng: np.random.Generator, options: Augment | None) -> int:
    """0 to 3 with equal probability, where the options turn images."""
    return int(rng.integers(FULL_TURN)) if options and options.quarter_turns else 0


def sample_geometry(
    rng: np.random.Generator,
    frame: Box,
    size: tuple[int, int],
    options: Augment,
    quarter_turns: int = 0,
    fitted: bool = False,
) -> Geometry:
    """A random crop, mirror and rotation of an image with this frame; the choices are the same for every `size`.

    With `fitted` the crop has the aspect ratio of the picture, whatever that of the image.
    """
    within = fit_box(rng, frame, transposed(size, quarter_turns)) if fitted else frame
    box = crop_box(rng, within, options)
    flip = options.flip and rng.random() < 0.5
    angle = options.rotate * rng.uniform(-1, 1) if options.rotate else 0.0
    return Geometry(box, size, quarter_turns, flip, angle)
