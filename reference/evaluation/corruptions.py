"""Corruptions of images at their native size, of rising strength.   [NaViT, app. H]

Each is a function (x, strength, rng) → x of an image "h w C" with values in [0, 1]; results may leave that range.
Lengths are in pixels of an image of area 224², so that they mean the same at every size.

Choice: the paper takes the images of the benchmark model-vs-human (Geirhos et al., arXiv:2106.07411), squares of 224
pixels. Its conditions are kept; the definitions are written anew, for any size and any number of channels.

Not here: sketches and stylized images, which need data.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Image = Float[np.ndarray, "h w C"]
Rng = np.random.Generator

SIDE = 224.0  # pixels, of the image in which lengths are given
LUMA = np.array([0.299, 0.587, 0.114])  # of ITU-R BT.601
NOISE_CONTRAST = 0.3  # of an image to which noise is added
NOTHING = 1e-9  # of the largest amplitude: smaller ones are rounding
SPLINE = ((-2, 1 / 16), (-1, 4 / 16), (0, 6 / 16), (1, 4 / 16), (2, 1 / 16))
BANDS = 4  # of an eidolon, an octave each, from one pixel on
GRAIN = 10.0  # pixels, standard deviation of the bumps of a displacement


def scale(x: Image) -> float:
    """Pixels of this image for each pixel of one of area 224²."""
    return float(np.sqrt(x.shape[0] * x.shape[1])) / SIDE


def luma(x: Image) -> Float[np.ndarray, "h w 1"]:
    """Brightness: the weighted mean of red, green and blue, or the mean of other channels."""
    return (x @ LUMA)[..., None] if x.shape[2] == 3 else x.mean(-1, keepdims=True)


def saturate(x: Image, saturation: float, rng: Rng) -> Image:
    """y + s (x − y) with the luma y: s = 1 is the image, 0 without color, −1 has opposite colors of equal luma."""
    y = luma(x)
    return y + saturation * (x - y)


def rotate(x: Image, degrees: float, rng: Rng) -> Float[np.ndarray, "y x C"]:
    """A rotation by a multiple of 90 degrees, counterclockwise; odd ones exchange height and width."""
    return np.rot90(x, round(degrees / 90))


def change_contrast(x: Image, contrast: float, rng: Rng) -> Image:
    """½ + c (x − ½)."""
    return 0.5 + contrast * (x - 0.5)


def add_noise(x: Image, width: float, rng: Rng) -> Image:
    """The luma at a contrast of 30 %, plus U(−width, width) for each pixel, the same in all channels."""
    gray = change_contrast(saturate(x, 0.0, rng), NOISE_CONTRAST, rng)
    return gray + width * rng.uniform(-1, 1, (*x.shape[:2], 1))


def blur(x: Image, sigma: float) -> Image:
    """Convolution with a Gaussian of standard deviation `sigma`, in pixels of this image, mirrored at its edges.

    In cosines, exp(−2 π² σ² f²) at f cycles per pixel: the mean stays, and G_σ G_τ = G_√(σ² + τ²).
    """
    for axis in (0, 1):
        count = x.shape[axis]
        waves = np.fft.rfft(np.concatenate([x, np.flip(x, axis)], axis), axis=axis)
        gain = np.exp(-2 * (np.pi * sigma * np.fft.rfftfreq(2 * count)) ** 2)
        smooth = np.fft.irfft(waves * np.expand_dims(gain, (1 - axis, 2)), 2 * count, axis)
        x = np.take(smooth, range(count), axis)
    return x


def low_pass(x: Image, sigma: float, rng: Rng) -> Image:
    """The image without its fine detail."""
    return blur(x, sigma * scale(x))


def high_pass(x: Image, sigma: float, rng: Rng) -> Image:
    """x − G_σ x + the mean of each channel: the image without its coarse forms.

    Choice: σ does not shrink for images below 224², which have no detail finer than a pixel.
    """
    return x - blur(x, sigma * max(scale(x), 1.0)) + x.mean((0, 1))


def equalize_power(x: Image, amount: float, rng: Rng) -> Image:
    """Amplitudes that fall as 1 / frequency, as those of photographs do in the mean, at the phases and the contrast of
    the image; `amount` in [0, 1] is the exponent of the new amplitudes, 1 − amount that of the old ones.

    Choice: the benchmark takes the mean amplitudes of its images; images of many sizes share no frequencies.
    """
    mean = x.mean((0, 1))
    waves = np.fft.fft2(x - mean, axes=(0, 1))
    size = np.abs(waves)
    frequency = np.hypot(np.fft.fftfreq(x.shape[0])[:, None], np.fft.fftfreq(x.shape[1]))
    known = size > NOTHING * size.max()
    target = known / np.maximum(frequency, 1e-12)[..., None]
    target *= np.sqrt((size**2).sum((0, 1)) / np.maximum((target**2).sum((0, 1)), 1e-300))
    ratio = np.where(known, target / np.where(known, size, 1.0), 0.0) ** amount
    return np.fft.ifft2(waves * ratio, axes=(0, 1)).real + mean


def scramble_phases(x: Image, degrees: float, rng: Rng) -> Image:
    """U(−degrees, degrees) added to the phase of each frequency, the same in all channels: amplitudes stay, forms go.

    Opposite frequencies get opposite phases, so that the image stays real.
    """
    own, opposite = frequencies(x.shape[0], x.shape[1])
    drawn = rng.uniform(-1, 1, own.size)[np.minimum(own, opposite)]
    phase = np.deg2rad(degrees) * drawn * np.sign(opposite - own)
    return np.fft.ifft2(np.fft.fft2(x, axes=(0, 1)) * np.exp(1j * phase)[..., None], axes=(0, 1)).real


def frequencies(height: int, width: int) -> tuple[Int[np.ndarray, "h w"], Int[np.ndarray, "h w"]]:
    """The number of each frequency, and that of the opposite one."""
    own = np.arange(height * width).reshape(height, width)
    return own, own[-np.arange(height) % height][:, -np.arange(width) % width]


def edges(x: Image, amount: float, rng: Rng) -> Image:
    """(1 − a) x + a e with dark lines where the luma changes: e = 1 − |∇ luma| / max |∇ luma|."""
    y = np.pad(luma(x)[..., 0], 1, "edge")
    steep = np.hypot(y[2:, 1:-1] - y[:-2, 1:-1], y[1:-1, 2:] - y[1:-1, :-2])
    lines = 1 - steep / max(steep.max(), NOTHING)
    return (1 - amount) * x + amount * lines[..., None]


def silhouette(x: Image, things: Bool[np.ndarray, "h w"], amount: float, rng: Rng) -> Image:
    """(1 − a) x + a (1 − m): things, where m = 1, in black on white ground. Their outlines are left of the image."""
    return (1 - amount) * x + amount * (1.0 - things[..., None])


def eidolon(coherence: float) -> Callable[[Image, float, Rng], Image]:
    """A function that moves each octave of the image along a smooth random field of standard deviation `reach`.

    Field of an octave = c · one field for all + √(1 − c²) · a field of its own. At c = 1 the image is bent, at c = 0
    its fine detail leaves its coarse forms.   Choice: after the eidolons of Koenderink et al., by another program.
    """

    def displaced(x: Image, reach: float, rng: Rng) -> Image:
        shape, unit = x.shape[:2], scale(x)
        common = smooth_field(rng, shape, GRAIN * unit)
        result = np.zeros_like(x)
        for octave in octaves(x, unit):
            field = coherence * common + np.sqrt(1 - coherence**2) * smooth_field(rng, shape, GRAIN * unit)
            result += moved(octave, reach * unit * field)
        return result

    return displaced


def octaves(x: Image, unit: float) -> list[Image]:
    """Bands of an image, from fine to coarse; their sum is the image."""
    bands = []
    for k in range(BANDS):
        coarse = spline(x, max(1, round(unit * 2**k)))
        bands.append(x - coarse)
        x = coarse
    return [*bands, x]


def spline(x: Image, step: int) -> Image:
    """Convolution with a cubic B-spline of taps `step` pixels apart, mirrored at the edges."""
    for axis in (0, 1):
        count = x.shape[axis]
        place = np.arange(count) + step * np.array([[k] for k, _ in SPLINE])
        place = np.minimum(place % (2 * count), (-1 - place) % (2 * count))
        x = np.sum([weight * np.take(x, tap, axis) for (_, weight), tap in zip(SPLINE, place)], axis=0)
    return x


def smooth_field(rng: Rng, shape: tuple[int, int], grain: float) -> Float[np.ndarray, "2 h w"]:
    """Displacements along y and x: sums of Gaussian bumps of random height, N(0, 1) at every place."""
    bumps = [interpolation(count, grain) for count in shape]
    heights = rng.normal(size=(2, *(b.shape[1] for b in bumps)))
    return bumps[0] @ heights @ bumps[1].T


def interpolation(count: int, grain: float) -> Float[np.ndarray, "n k"]:
    """Gaussian weights of places `grain` pixels apart at each pixel; every row has norm 1."""
    grain = max(grain, 1.0)
    places = grain * np.arange(-3, np.ceil(count / grain) + 4)
    weights = np.exp(-0.5 * ((np.arange(count)[:, None] - places) / grain) ** 2)
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def moved(x: Image, shift: Float[np.ndarray, "2 h w"]) -> Image:
    """The image read at p + shift(p), bilinear; the border continues outside."""
    height, width, channels = x.shape
    last = np.array([height, width])[:, None, None] - 1
    place = np.clip(np.indices((height, width)) + shift, 0, last)
    low = place.astype(int)
    high, (y, x_) = np.minimum(low + 1, last), (place - low)[..., None]
    pixels = x.reshape(-1, channels)
    read = lambda rows, columns: np.take(pixels, rows * width + columns, 0)
    upper = read(low[0], low[1]) * (1 - x_) + read(low[0], high[1]) * x_
    lower = read(high[0], low[1]) * (1 - x_) + read(high[0], high[1]) * x_
    return upper * (1 - y) + lower * y


class Corruption(NamedTuple):
    """A function of an image, and its strengths from severity 1 on."""

    apply: Callable[..., Image]
    strengths: tuple[float, ...]
    unit: str
    colors: bool = False
    """Whether it changes color images alone."""
    things: bool = False
    """Whether it asks which pixels belong to things, after the image."""
    moves: bool = False
    """Whether pixels leave their places in other ways than by turning: their masks and boxes are then unknown."""


REACHES = (2.0, 8.0, 32.0, 128.0)  # every second of the benchmark
CORRUPTIONS: dict[str, Corruption] = {
    "grayscale": Corruption(saturate, (0.0,), "saturation", colors=True),
    "opponent colors": Corruption(saturate, (-1.0,), "saturation", colors=True),
    "rotation": Corruption(rotate, (90.0, 180.0, 270.0), "degrees"),
    "contrast": Corruption(change_contrast, (0.5, 0.3, 0.15, 0.1, 0.05, 0.03, 0.01), "contrast"),
    "noise": Corruption(add_noise, (0.0, 0.03, 0.05, 0.1, 0.2, 0.35, 0.6, 0.9), "half width"),
    "low-pass": Corruption(low_pass, (1.0, 3.0, 5.0, 7.0, 10.0, 15.0, 40.0), "pixels of 224"),
    "high-pass": Corruption(high_pass, (3.0, 1.5, 1.0, 0.7, 0.55, 0.45, 0.4), "pixels of 224"),
    "equal power": Corruption(equalize_power, (1.0,), "exponent"),
    "phase": Corruption(scramble_phases, (30.0, 60.0, 90.0, 120.0, 150.0, 180.0), "degrees", moves=True),
    "eidolon 1": Corruption(eidolon(1.0), REACHES, "pixels of 224", moves=True),
    "eidolon 0.3": Corruption(eidolon(0.3), REACHES, "pixels of 224", moves=True),
    "eidolon 0": Corruption(eidolon(0.0), REACHES, "pixels of 224", moves=True),
    "edges": Corruption(edges, (1.0,), "share"),
    "silhouette": Corruption(silhouette, (1.0,), "share", things=True),
}


def corrupt(
    x: Image, name: str, severity: int, rng: Rng, things: Bool[np.ndarray, "h w"] | None = None
) -> Float[np.ndarray, "y x C"]:
    """An image at a severity of a corruption, within [0, 1]; severity 0 is the image itself."""
    if severity == 0:
        return x
    found = CORRUPTIONS[name]
    given = (x, things) if found.things else (x,)
    return np.clip(found.apply(*given, found.strengths[severity - 1], rng), 0, 1)
