"""Sampling of resolutions: at which size each image is seen.

Each class has `grids` (patches per side of every image), `at` (the same rule at one resolution, for evaluation) and
`spread` (the smallest and largest resolution it gives). What a resolution is depends on the class: a side in pixels, a
factor, a number of tokens.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from reference.sampling.distributions import sample_truncated_normal
from reference.sampling.resolution import fit_tokens, linear_in_area, linear_in_side, never_enlarged, target_grid

from ..errors import check_in, check_ordered
from .kinds import PatchSize, Rng


def check_range(lo: float | None, hi: float | None) -> None:
    """Raises ValueError where the ends of a range make no sense."""
    check_in("(0, inf)", lo=lo, hi=hi)
    check_ordered(lo=lo, hi=hi)


@dataclass(frozen=True)
class Uniform:
    """u ~ U(−1, 1)."""

    def sample(self, rng: Rng, count: int) -> Float[np.ndarray, " N"]:
        return rng.uniform(-1, 1, count)


@dataclass(frozen=True)
class TruncatedNormal:
    """u ~ N(mean, 1) within [−1, 1]; a mean below 0 prefers small images.   [NaViT, fig. 7: −0.5, 0, 0.5]"""

    mean: float = -0.5

    def __post_init__(self):
        check_in("(-4, 4)", mean=self.mean)

    def sample(self, rng: Rng, count: int) -> Float[np.ndarray, " N"]:
        return sample_truncated_normal(rng, self.mean, 1.0, -1.0, 1.0, count)


@dataclass(frozen=True)
class Sides:
    """Every image at area R², aspect kept, with the side R drawn from [lo, hi] pixels: the paper's default."""

    lo: float | None = None
    hi: float | None = None
    """In pixels; auto: chosen from the data."""
    draw: Uniform | TruncatedNormal = Uniform()

    def __post_init__(self):
        check_range(self.lo, self.hi)

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        return target_grid(sizes, linear_in_side(self.draw.sample(rng, len(sizes)), *self.spread), patch_size)

    def at(self, resolution: float) -> "Sides":
        """The law that always gives this resolution."""
        return Sides(resolution, resolution)

    @property
    def spread(self) -> tuple[float, float]:
        """Smallest and largest resolution."""
        return known(self.lo), known(self.hi)


@dataclass(frozen=True)
class Areas:
    """As `Sides`, with the area drawn from [lo², hi²]: more large images.   [NaViT, fig. 7]"""

    lo: float | None = None
    hi: float | None = None
    """In pixels; auto: chosen from the data."""
    draw: Uniform | TruncatedNormal = Uniform()

    def __post_init__(self):
        check_range(self.lo, self.hi)

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        return target_grid(sizes, linear_in_area(self.draw.sample(rng, len(sizes)), *self.spread), patch_size)

    def at(self, resolution: float) -> "Areas":
        return Areas(resolution, resolution)

    @property
    def spread(self) -> tuple[float, float]:
        return known(self.lo), known(self.hi)


@dataclass(frozen=True)
class Native:
    """Every image at its own size times a factor ~ U(lo, hi)."""

    lo: float = 1.0
    hi: float = 1.0

    def __post_init__(self):
        check_range(self.lo, self.hi)

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        factor = linear_in_side(Uniform().sample(rng, len(sizes)), self.lo, self.hi)
        return target_grid(sizes, np.sqrt(sizes.prod(-1, dtype=float)) * factor, patch_size)

    def at(self, resolution: float) -> "Native":
        """The law that always gives this factor."""
        return Native(resolution, resolution)

    @property
    def spread(self) -> tuple[float, float]:
        return self.lo, self.hi


@dataclass(frozen=True)
class TokenBudget:
    """Every image at the largest size, aspect kept, that has at most so many tokens.   [NaViT, app. C]"""

    tokens: int = 256

    def __post_init__(self):
        check_in("[1, 2147483647]", tokens=self.tokens)

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        # Sides in units of a patch, as integers: only their ratio counts.
        units = sizes.astype(np.int64) * np.asarray(patch_size)[..., ::-1]
        return fit_tokens(units, np.full(len(sizes), self.tokens))

    def at(self, resolution: float) -> "TokenBudget":
        """The law of another budget, rounded down to whole tokens."""
        return TokenBudget(int(resolution))

    @property
    def spread(self) -> tuple[float, float]:
        return self.tokens, self.tokens


@dataclass(frozen=True)
class NeverEnlarged:
    """As `law`, but no image beyond its own size; one below a patch is still seen as one patch."""

    law: Sides | Areas | Native | TokenBudget = Sides()

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        return never_enlarged(self.law.grids(rng, sizes, patch_size), sizes, patch_size)

    def at(self, resolution: float) -> "NeverEnlarged":
        return replace(self, law=self.law.at(resolution))

    @property
    def spread(self) -> tuple[float, float]:
        return self.law.spread


@dataclass(frozen=True)
class Square:
    """Every image squeezed to a square of about the tokens that `law` would give it: what NaViT does without."""

    law: Sides | Areas | Native | TokenBudget | NeverEnlarged = Sides()

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        tokens = self.law.grids(rng, sizes, patch_size).prod(-1)
        patch = np.asarray(patch_size, float)
        side = np.sqrt(tokens * patch.prod(-1))
        return np.maximum(1, np.rint(side[:, None] / patch)).astype(np.int32)

    def at(self, resolution: float) -> "Square":
        return replace(self, law=self.law.at(resolution))

    @property
    def spread(self) -> tuple[float, float]:
        return self.law.spread


@dataclass(frozen=True)
class OneSquare:
    """Every image squeezed to one square, as plain ViTs see them: the baseline."""

    side: float = 224
    """In pixels; whole patches of it are used."""

    def __post_init__(self):
        check_in("(0, inf)", side=self.side)

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        patch = np.broadcast_to(patch_size, (len(sizes), 2))
        return np.maximum(1, self.side // patch).astype(np.int32)

    def at(self, resolution: float) -> "OneSquare":
        return OneSquare(resolution)

    @property
    def spread(self) -> tuple[float, float]:
        return self.side, self.side


Resolution = Sides | Areas | Native | TokenBudget | NeverEnlarged | Square | OneSquare


def known(side: float | None) -> float:
    """A side that is no longer left open."""
    assert side is not None, "sides are chosen from the data before anything is drawn"
    return side
