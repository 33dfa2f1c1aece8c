"""Sampling of patch sizes: the patch size of each image.

`sample` gives the patch (height, width) of every image, from the number of images before it in the run and from the
number of tokens it has at a patch size, at its sampled resolution. `per` says what shares one size: run, step or image.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reference.sampling.patch_sizes import finest_within, patch_size_at, sample_coarse_to_fine

from ..errors import check_in
from .kinds import Rng, Tokens, square


def squares(sides: Int[np.ndarray, " N"]) -> Int[np.ndarray, "N 2"]:
    """Square patches from their sides."""
    return np.stack([sides, sides], -1)


def check_sides(sizes: tuple[int, ...]) -> None:
    """Raises ValueError where patch sides are out of range or repeated."""
    check_in("[1, 2147483647]", sizes=sizes)
    if len({*sizes}) != len(sizes):
        raise ValueError(f"sizes={sizes} must be different numbers of pixels")


@dataclass(frozen=True)
class OneSize:
    """One patch size for all images."""

    size: tuple[int, ...] | None = None
    """Height and width in pixels; auto: the patch size of the model."""
    per = "run"

    def __post_init__(self):
        check_in("[1, 2147483647]", size=self.size)
        if self.size is not None and len(self.size) != 2:
            raise ValueError(f"size={self.size} must be a height and a width in pixels, such as 16 16")

    def sample(self, rng: Rng, images_seen: Int[np.ndarray, " N"], tokens: Tokens) -> Int[np.ndarray, "N 2"]:
        assert self.size is not None, "data.patch_sizes.size is auto: call `harness.resolve.resolve` first"
        return np.tile(np.array(self.size, np.int32), (len(images_seen), 1))


@dataclass(frozen=True)
class PerImage:
    """A random patch size per image; patches of all sizes share rows, mapped to the patch size of the model.

    With `TokenBudget` the image is resized so that its tokens at that patch size meet the budget.
    """

    sizes: tuple[int, ...] = ()
    """Sides of square patches in pixels; empty: the sizes of the model."""
    weights: tuple[float, ...] = ()
    """Relative frequency of each size; empty: all equally often."""
    per = "image"

    def __post_init__(self):
        check_sides(self.sizes)
        check_in("(0, inf)", weights=self.weights)
        if self.weights and self.sizes and len(self.weights) != len(self.sizes):
            raise ValueError(f"weights={self.weights} must be one number for each of the sizes {self.sizes}")

    def sample(self, rng: Rng, images_seen: Int[np.ndarray, " N"], tokens: Tokens) -> Int[np.ndarray, "N 2"]:
        return self.at(rng.random(len(images_seen)))

    def at(self, q: Float[np.ndarray, " N"]) -> Int[np.ndarray, "N 2"]:
        """Square patches at the quantiles q, ordered from coarse to fine."""
        return squares(patch_size_at(q, self.sizes, self.weights))


@dataclass(frozen=True)
class PerStep(PerImage):
    """A random patch size per step, shared by all its images; the model resizes its kernel.   [FlexiViT]

    Choice: every step has the same number of rows, hence more images when patches are coarse.
    """

    per = "step"


@dataclass(frozen=True)
class CoarseToFine:
    """A curriculum of patch sizes: coarse early in the run, fine late.   [FlexiViT]"""

    sampling: PerImage | PerStep = PerImage()
    """Sizes, weights, and whether an image or a step has one size."""
    images: float | None = None
    """N, images in a whole run; auto: the images of this run."""
    mix: float = 0.5
    """Randomness of the order: 0 sorts the sizes strictly, 1 draws them independently of the step."""

    def __post_init__(self):
        check_in("(0, inf)", images=self.images)
        check_in("[0, 1]", mix=self.mix)

    @property
    def per(self) -> str:
        return self.sampling.per

    def sample(self, rng: Rng, images_seen: Int[np.ndarray, " N"], tokens: Tokens) -> Int[np.ndarray, "N 2"]:
        return self.sampling.at(sample_coarse_to_fine(rng, images_seen / (self.images or 1), self.mix))


@dataclass(frozen=True)
class AtBudget:
    """The finest patch size at which an image has at most `tokens` tokens at its sampled resolution, else the
    coarsest."""

    tokens: int = 64
    """Token budget per image."""
    sizes: tuple[int, ...] = ()
    """Sides of square patches in pixels; empty: the sizes of the model."""
    per = "image"

    def __post_init__(self):
        check_in("[1, 2147483647]", tokens=self.tokens)
        check_sides(self.sizes)

    def sample(self, rng: Rng, images_seen: Int[np.ndarray, " N"], tokens: Tokens) -> Int[np.ndarray, "N 2"]:
        tokens_at = np.stack([tokens(square(size)) for size in self.sizes])
        return squares(finest_within(tokens_at, self.sizes, self.tokens))


PatchSizes = OneSize | PerImage | PerStep | CoarseToFine | AtBudget
