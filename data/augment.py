"""Random changes of a training image. Its aspect ratio stays, so the planned grid stays valid."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reference.mixing import cutmix, mixup, sample_box

from .laws import Augment, Mix

CORNER = (128, 128, 128)
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601


def resize(
    image: UInt8[np.ndarray, "h w 3"],
    size: tuple[int, int],
    box: tuple[float, float, float, float] | None = None,
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """`box` (left, top, right, bottom) of the image at `size` (height, width): bilinear, antialiased."""
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))


def augmented(
    rng: np.random.Generator,
    image: UInt8[np.ndarray, "h w 3"],
    size: tuple[int, int],
    law: Augment,
    fit: bool = False,
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A random crop of the image at `size`, perhaps mirrored, its colours moved a little.

    The planned size has the image's own aspect ratio; `fit` first crops another image to that of `size`.
    """
    if fit:
        image = fitting(rng, image, size)
    out = resize(image, size, crop_box(rng, image.shape[:2], law))
    if law.flip and rng.random() < 0.5:
        out = out[:, ::-1]
    if law.turn:
        out = turned(out, law.turn * rng.uniform(-1, 1))
    return jitter(rng, out, law.jitter) if law.jitter else out


def fitting(
    rng: np.random.Generator, image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The largest part of the image with the aspect ratio of `size`, at a random place."""
    scale = min(n / m for n, m in zip(image.shape, size))
    sides = [max(1, min(n, round(m * scale))) for n, m in zip(image.shape, size)]
    # One number a side whatever the size, so that the picture is the same at another size.
    top, left = (int(rng.random() * (n - side + 1)) for n, side in zip(image.shape, sides))
    return image[top : top + sides[0], left : left + sides[1]]


def mixed(
    rng: np.random.Generator, image: UInt8[np.ndarray, "h w 3"], partner: UInt8[np.ndarray, "h w 3"], law: Mix
) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    """A picture of both, and the partner's weight in it."""
    weight = float(rng.beta(law.alpha, law.alpha))
    if rng.random() < law.cut:
        return cutmix(image, partner, sample_box(rng, (image.shape[0], image.shape[1]), weight))
    return mixup(image, partner, weight), weight


def turned(image: UInt8[np.ndarray, "h w 3"], angle: float) -> UInt8[np.ndarray, "h w 3"]:
    """Turned about its centre by `angle` radians, bilinear; the corners that come into view are grey."""
    degrees, bilinear = float(np.rad2deg(angle)), Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).rotate(degrees, bilinear, fillcolor=CORNER))


def crop_box(rng: np.random.Generator, size: tuple[int, int], law: Augment) -> tuple[float, float, float, float]:
    """A box with a share ~ U(crop, 1) of the area, anywhere; its aspect ratio moves by at most `stretch`."""
    share = np.sqrt(rng.uniform(law.crop, 1.0))
    tilt = np.exp(rng.uniform(-1, 1) * np.log1p(law.stretch) / 2)
    height, width = (min(side * share * t, side) for side, t in zip(size, (tilt, 1 / tilt)))
    top, left = rng.uniform(0, size[0] - height), rng.uniform(0, size[1] - width)
    return left, top, left + width, top + height


def jitter(rng: np.random.Generator, image: UInt8[np.ndarray, "h w 3"], amount: float) -> UInt8[np.ndarray, "h w 3"]:
    """Brightness, contrast and saturation, each times 1 ± amount."""
    brightness, contrast, saturation = 1 + amount * rng.uniform(-1, 1, 3).astype(np.float32)
    x = image.astype(np.float32)
    grey = (x @ GREY)[..., None]
    x = grey + saturation * (x - grey)
    mean = grey.mean()
    x = brightness * (mean + contrast * (x - mean))
    return x.round().clip(0, 255).astype(np.uint8)
