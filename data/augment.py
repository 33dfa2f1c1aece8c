"""Augmentation: parts of random changes of a training image that keep its planned grid valid."""

import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image

from reference.sampling.mixing import cutmix, mixup, sample_box

from .sampling.augment import Augment, Mix
from .sources.decode import Box

CORNER = 128  # mid-gray; 0 in pixels that are already normalized
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601


def recolor(rng: np.random.Generator, image: Num[np.ndarray, "h w C"], options: Augment) -> Num[np.ndarray, "h w C"]:
    """Change the colors of an image at random; its geometry is a matter of `data/geometry.py`."""
    if options.gray and rng.random() < options.gray:
        image = without_colors(image)
    if options.invert and rng.random() < options.invert:
        image = inverted(image)
    return jitter(rng, image, options.jitter) if options.jitter else image


def without_colors(image: Num[np.ndarray, "h w C"]) -> Num[np.ndarray, "h w C"]:
    """The luma of RGB in all three channels; alpha, and images of other channels, stay."""
    if image.shape[2] not in (3, 4):
        return image
    gray = (image[..., :3].astype(np.float32) @ LUMA)[..., None]
    gray = gray.round().astype(np.uint8) if image.dtype == np.uint8 else gray
    return np.concatenate([np.repeat(gray, 3, -1), image[..., 3:]], -1).astype(image.dtype)


def inverted(image: Num[np.ndarray, "h w C"]) -> Num[np.ndarray, "h w C"]:
    """255 − x, or −x of normalized pixels; alpha stays."""
    colors, alpha = np.split(image, [3 if image.shape[2] == 4 else image.shape[2]], -1)
    return np.concatenate([255 - colors if image.dtype == np.uint8 else -colors, alpha], -1)


def fit_box(rng: np.random.Generator, frame: Box, size: tuple[int, int]) -> Box:
    """The largest box in an image with the aspect ratio of `size` (height, width), in whole pixels, at random."""
    full = int(frame[3]), int(frame[2])
    scale = min(n / m for n, m in zip(full, size))
    height, width = (max(1, min(n, round(m * scale))) for n, m in zip(full, size))
    # One random number per side, whatever the size: the same region at every size.
    top, left = (int(rng.random() * (n - side + 1)) for n, side in zip(full, (height, width)))
    return left, top, left + width, top + height


def mix(
    rng: np.random.Generator, image: Num[np.ndarray, "h w C"], partner: Num[np.ndarray, "h w C"], options: Mix
) -> tuple[Num[np.ndarray, "h w C"], float]:
    """The mixed image, and the weight of the partner."""
    weight = float(rng.beta(options.alpha, options.alpha))
    if rng.random() < options.cutmix:
        return cutmix(image, partner, sample_box(rng, (image.shape[0], image.shape[1]), weight))
    return mixup(image, partner, weight), weight


def rotate(image: Num[np.ndarray, "h w C"], angle: float) -> Num[np.ndarray, "h w C"]:
    """Rotate about the center by `angle` radians, bilinear; exposed corners are gray."""
    degrees, bilinear = float(np.rad2deg(angle)), Image.Resampling.BILINEAR
    gray = CORNER if image.dtype == np.uint8 else 0
    if image.dtype == np.uint8 and image.shape[2] == 3:  # all three channels at once: the same values, faster
        return np.asarray(Image.fromarray(image).rotate(degrees, bilinear, fillcolor=(gray, gray, gray)))
    channels = (Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2]))
    return np.stack([np.asarray(c.rotate(degrees, bilinear, fillcolor=gray)) for c in channels], -1)


def rotate_mask(mask: UInt8[np.ndarray, "h w"], angle: float, corner: int) -> UInt8[np.ndarray, "h w"]:
    """Rotate labels as `rotate` does pixels: each pixel takes the nearest label; exposed corners are `corner`."""
    turned = Image.fromarray(np.ascontiguousarray(mask)).rotate(
        float(np.rad2deg(angle)), Image.Resampling.NEAREST, fillcolor=corner
    )
    return np.asarray(turned)


def crop_box(rng: np.random.Generator, within: Box, options: Augment) -> Box:
    """A random box with a share ~ U(crop, 1) of the area; its aspect ratio changes by at most `stretch`."""
    size = within[3] - within[1], within[2] - within[0]
    share = np.sqrt(rng.uniform(options.crop, 1.0))
    tilt = np.exp(rng.uniform(-1, 1) * np.log1p(options.stretch) / 2)
    height, width = (min(side * share * t, side) for side, t in zip(size, (tilt, 1 / tilt)))
    top, left = within[1] + rng.uniform(0, size[0] - height), within[0] + rng.uniform(0, size[1] - width)
    return left, top, left + width, top + height


def jitter(rng: np.random.Generator, image: Num[np.ndarray, "h w C"], amount: float) -> Num[np.ndarray, "h w C"]:
    """Scale brightness, contrast and, in color images, saturation by 1 ± amount each; alpha stays."""
    brightness, contrast, saturation = 1 + amount * rng.uniform(-1, 1, 3).astype(np.float32)
    channels = image.shape[2]
    x = image[..., :3].astype(np.float32) if channels == 4 else image.astype(np.float32)
    gray = (x @ LUMA)[..., None] if channels in (3, 4) else x
    x = gray + saturation * (x - gray)
    mean = gray.mean()
    x = brightness * (mean + contrast * (x - mean))
    x = x.round().clip(0, 255).astype(np.uint8) if image.dtype == np.uint8 else x
    return np.concatenate([x, image[..., 3:]], -1) if channels == 4 else x
