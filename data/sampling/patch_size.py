"""Sampling of patch sizes: which patch size each image is cut at.

Each class has `sample`, the patch (height, width) of every image, from the images seen before it and from the tokens
that it would have in a patch, at its drawn resolution; and `per`: whether the run, a step or an image has one size.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reference.sampling.patch_sizes import finest_within, patch_size_at, sample_coarse_to_fine

from ..errors import check_in
from .kinds import Rng, Tokens, square


def squares(sides: Int[np.ndarray, " N"]) -> Int[np.ndarray, "N 2"]:
    """A patch of equal sides for every image."""
    return np.stack([sides, sides], -1)


def check_sides(sizes: tuple[int, ...]) -> None:
    """Raises ValueError where sides of patches make no sense."""
    check_in("[1, 2147483647]", sizes=sizes)
    if len({*sizes}) != len(sizes):
        raise ValueError(f"sizes={sizes} must be different numbers of pixels")


@dataclass(frozen=True)
class OneSize:
    """Every image in patches of one size."""

    size: tuple[int, ...] | None = None
    """Height and width in pixels; auto: the patch of the model."""
    per = "run"

    def __post_init__(self):
        check_in("[1, 2147483647]", size=self.size)
        if self.size is not None and len(self.size) != 2:
            raise ValueError(f"size={self.size} must be a height and a width in pixels, such as 16 16")

    def sample(self, rng: Rng, images_seen: Int[np.ndarray, " N"], tokens: Tokens) -> Int[np.ndarray, "N 2"]:
        assert self.size is not None, "the patch of the model is filled in before anything is drawn"
        return np.tile(np.array(self.size, np.int32), (len(images_seen), 1))


@dataclass(frozen=True)
class PerImage:
    """A random size for every image; images of all sizes share rows, mapped to the model's own size.

    With `TokenBudget` an image gets the pixels that its patch size needs for the budget.
    """

    sizes: tuple[int, ...] = ()
    """Sides of square patches; empty takes those of the model."""
    weights: tuple[float, ...] = ()
    """How often each is drawn; empty draws all alike."""
    per = "image"

    def __post_init__(self):
        check_sides(self.sizes)
        check_in("(0, inf)", weights=self.weights)
        if self.weights and self.sizes and len(self.weights) != len(self.sizes):
            raise ValueError(f"weights={self.weights} must be one number for each of the sizes {self.sizes}")

    def sample(self, rng: Rng, images_seen: Int[np.ndarray, " N"], tokens: Tokens) -> Int[np.ndarray, "N 2"]:
        return self.at(rng.random(len(images_seen)))

    def at(self, q: Float[np.ndarray, " N"]) -> Int[np.ndarray, "N 2"]:
        """The square patches at places q, from coarse to fine."""
        return squares(patch_size_at(q, self.sizes, self.weights))


@dataclass(frozen=True)
class PerStep(PerImage):
    """A random size for every step, which all its images share; the model resizes its kernel.   [FlexiViT]

    Choice: a step has as many rows at every size, hence more images where patches are coarse.
    """

    per = "step"


@dataclass(frozen=True)
class CoarseToFine:
    """`law` in order: coarse patches early in the run, fine ones late.   [FlexiViT: a curriculum of patch sizes]"""

    law: PerImage | PerStep = PerImage()
    images: float | None = None
    """N, images of a whole run; auto: those of this one."""
    mix: float = 0.5
    """Share of chance: 0 sorts the sizes strictly, 1 is `law` itself."""

    def __post_init__(self):
        check_in("(0, inf)", images=self.images)
        check_in("[0, 1]", mix=self.mix)

    @property
    def per(self) -> str:
        return self.law.per

    def sample(self, rng: Rng, images_seen: Int[np.ndarray, " N"], tokens: Tokens) -> Int[np.ndarray, "N 2"]:
        return self.law.at(sample_coarse_to_fine(rng, images_seen / (self.images or 1), self.mix))


@dataclass(frozen=True)
class AtBudget:
    """The finest size at which an image, at its drawn resolution, has at most so many tokens; else the coarsest."""

    tokens: int = 64
    sizes: tuple[int, ...] = ()
    """Sides of square patches; empty takes those of the model."""
    per = "image"

    def __post_init__(self):
        check_in("[1, 2147483647]", tokens=self.tokens)
        check_sides(self.sizes)

    def sample(self, rng: Rng, images_seen: Int[np.ndarray, " N"], tokens: Tokens) -> Int[np.ndarray, "N 2"]:
        tokens_at = np.stack([tokens(square(size)) for size in self.sizes])
        return squares(finest_within(tokens_at, self.sizes, self.tokens))


PatchSizes = OneSize | PerImage | PerStep | CoarseToFine | AtBudget
