"""Sampling laws as objects: at which size an image is seen, and which share of its tokens is dropped."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from reference.dropping import sample_beta_rate
from reference.resolution import sample_side, target_grid


@dataclass(frozen=True)
class Sides:
    """Every image at area R², aspect kept, with R ~ U(lo, hi) pixels: the paper's default."""

    lo: float = 64
    hi: float = 256

    def grids(self, rng: np.random.Generator, sizes: Int[np.ndarray, "N 2"], patch_size: int):
        return target_grid(sizes, sample_side(rng, self.lo, self.hi, len(sizes)), patch_size)

    def at(self, resolution: float) -> "Sides":
        """The law that always gives this resolution."""
        return Sides(resolution, resolution)


@dataclass(frozen=True)
class Native:
    """Every image at its own size times a factor ~ U(lo, hi)."""

    lo: float = 1.0
    hi: float = 1.0

    def grids(self, rng: np.random.Generator, sizes: Int[np.ndarray, "N 2"], patch_size: int):
        side = np.sqrt(sizes.prod(-1, dtype=float))
        return target_grid(sizes, side * sample_side(rng, self.lo, self.hi, len(sizes)), patch_size)

    def at(self, resolution: float) -> "Native":
        """The law that always gives this factor."""
        return Native(resolution, resolution)


@dataclass(frozen=True)
class Square:
    """Every image squeezed to a square of about the tokens that `law` would give it: what NaViT does without."""

    law: Sides | Native = Sides()

    def grids(self, rng: np.random.Generator, sizes: Int[np.ndarray, "N 2"], patch_size: int):
        tokens = self.law.grids(rng, sizes, patch_size).prod(-1)
        side = np.maximum(1, np.rint(np.sqrt(tokens))).astype(np.int32)
        return np.stack([side, side], -1)

    def at(self, resolution: float) -> "Square":
        return replace(self, law=self.law.at(resolution))


@dataclass(frozen=True)
class Constant:
    """The same share of tokens dropped from every image."""

    rate: float = 0.0

    def rates(self, rng: np.random.Generator, count: int) -> Float[np.ndarray, " N"]:
        return np.full(count, self.rate)


@dataclass(frozen=True)
class Beta:
    """A share per image, Beta-distributed with this mean, never above `highest`.   [NaViT, app. B.2]"""

    mean: float = 0.5
    highest: float = 0.9

    def rates(self, rng: np.random.Generator, count: int) -> Float[np.ndarray, " N"]:
        return sample_beta_rate(rng, self.mean, self.highest, count)


@dataclass(frozen=True)
class Mix:
    """A share of the training images is mixed with another image of the set, drawn for each one."""

    share: float = 0.5
    """Of the images that are mixed."""
    alpha: float = 0.8
    """The partner's weight is Beta(alpha, alpha)."""
    cut: float = 0.5
    """Of the mixed images, those that get a box of the partner (CutMix) and not a blend (mixup)."""


@dataclass(frozen=True)
class Augment:
    """Random changes of a training image that keep its aspect ratio, so that the plan stays valid."""

    flip: bool = False
    """Mirror every second image left to right."""
    crop: float = 1.0
    """Smallest share of the area that a random crop keeps; 1 keeps all."""
    stretch: float = 0.0
    """The crop's aspect ratio moves by up to this factor: ± ln(1 + stretch)."""
    turn: float = 0.0
    """Turned by up to this angle either way, in radians; what comes into view is grey."""
    jitter: float = 0.0
    """Brightness, contrast and saturation move by up to this share."""
    mix: Mix | None = None
    """Mixing with another image; none by default."""


Resolution = Sides | Native | Square
Dropping = Constant | Beta
