"""Sampling of resolutions: the size of each image.

Each class has `grids` (patches per side of every image), `at` (the same class fixed at one resolution, for evaluation)
and `spread` (its smallest and largest resolution). The unit of a resolution depends on the class: a side in pixels, a
factor of the native size, or a number of tokens.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from reference.sampling.distributions import sample_truncated_normal
from reference.sampling.frames import frame_counts
from reference.sampling.resolution import (
    fit_tokens,
    linear_in_area,
    linear_in_side,
    never_enlarged,
    target_grid,
    whole_blocks,
)
from reference.tubelets import token_counts

from ..errors import check_in, check_ordered
from .kinds import PatchSize, Rng


def check_range(lo: float | None, hi: float | None) -> None:
    """Raises ValueError unless 0 < lo <= hi."""
    check_in("(0, inf)", lo=lo, hi=hi)
    check_ordered(lo=lo, hi=hi)


class OfImages:
    """Laws of images: every patch of the grid is a token."""

    def token_counts(self, grids: Int[np.ndarray, "*N 2"]) -> Int[np.ndarray, "*N"]:
        """Tokens of images with these grids."""
        return grids.prod(-1)


@dataclass(frozen=True)
class Uniform:
    """u ~ U(−1, 1)."""

    def sample(self, rng: Rng, count: int) -> Float[np.ndarray, " N"]:
        return rng.uniform(-1, 1, count)


@dataclass(frozen=True)
class TruncatedNormal:
    """u ~ N(mean, 1) truncated to [−1, 1].   [NaViT, fig. 7: −0.5, 0, 0.5]"""

    mean: float = -0.5
    """Mean before truncation; below 0: more small images."""

    def __post_init__(self):
        check_in("(-4, 4)", mean=self.mean)

    def sample(self, rng: Rng, count: int) -> Float[np.ndarray, " N"]:
        return sample_truncated_normal(rng, self.mean, 1.0, -1.0, 1.0, count)


@dataclass(frozen=True)
class Sides(OfImages):
    """Resize every image to area R², aspect ratio kept; the side R is drawn from [lo, hi]: the default of the paper."""

    lo: float | None = None
    """Smallest side in pixels; auto: half of `hi`."""
    hi: float | None = None
    """Largest side in pixels; auto: the median image side, between 4 and `most` patches."""
    draw: Uniform | TruncatedNormal = Uniform()
    """Distribution of R over the range."""
    most: int = 16
    """Largest side in patches where `hi` is auto."""

    def __post_init__(self):
        check_range(self.lo, self.hi)
        check_in("[4, 2147483647]", most=self.most)

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        return target_grid(sizes, linear_in_side(self.draw.sample(rng, len(sizes)), *self.spread), patch_size)

    def at(self, resolution: float) -> "Sides":
        """`Sides` fixed at this resolution."""
        return Sides(resolution, resolution)

    @property
    def spread(self) -> tuple[float, float]:
        """Smallest and largest resolution."""
        return known(self.lo), known(self.hi)


@dataclass(frozen=True)
class Areas(OfImages):
    """Resize every image to an area drawn from [lo², hi²], aspect ratio kept: more large images than `Sides`.   [NaViT,
    fig. 7]"""

    lo: float | None = None
    """Side of the smallest area, in pixels; auto: half of `hi`."""
    hi: float | None = None
    """Side of the largest area, in pixels; auto: the median image side, between 4 and `most` patches."""
    draw: Uniform | TruncatedNormal = Uniform()
    """Distribution of the area over the range."""
    most: int = 16
    """Side of the largest area in patches where `hi` is auto."""

    def __post_init__(self):
        check_range(self.lo, self.hi)
        check_in("[4, 2147483647]", most=self.most)

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        return target_grid(sizes, linear_in_area(self.draw.sample(rng, len(sizes)), *self.spread), patch_size)

    def at(self, resolution: float) -> "Areas":
        return Areas(resolution, resolution)

    @property
    def spread(self) -> tuple[float, float]:
        return known(self.lo), known(self.hi)


@dataclass(frozen=True)
class Native(OfImages):
    """Resize every image by a factor of its native size, drawn from [lo, hi]."""

    lo: float = 1.0
    """Smallest factor of the native size."""
    hi: float = 1.0
    """Largest factor of the native size."""
    draw: Uniform | TruncatedNormal = Uniform()
    """Distribution of the factor over the range."""

    def __post_init__(self):
        check_range(self.lo, self.hi)

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        factor = linear_in_side(self.draw.sample(rng, len(sizes)), self.lo, self.hi)
        return target_grid(sizes, np.sqrt(sizes.prod(-1, dtype=float)) * factor, patch_size)

    def at(self, resolution: float) -> "Native":
        """`Native` fixed at this factor."""
        return Native(resolution, resolution)

    @property
    def spread(self) -> tuple[float, float]:
        return self.lo, self.hi


@dataclass(frozen=True)
class TokenBudget(OfImages):
    """Resize every image to the largest size within a token budget, aspect ratio kept.   [NaViT, app. C]"""

    tokens: int = 256
    """Most tokens per image."""

    def __post_init__(self):
        check_in("[1, 2147483647]", tokens=self.tokens)

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        # Sides in units of a patch, as integers: only their ratio counts.
        units = sizes.astype(np.int64) * np.asarray(patch_size)[..., ::-1]
        return fit_tokens(units, np.full(len(sizes), self.tokens))

    def at(self, resolution: float) -> "TokenBudget":
        """`TokenBudget` with another budget, rounded down to whole tokens."""
        return TokenBudget(int(resolution))

    @property
    def spread(self) -> tuple[float, float]:
        return self.tokens, self.tokens


@dataclass(frozen=True)
class NeverEnlarged(OfImages):
    """Resize images as `sampling` does, but never above their native size; every image has at least one patch."""

    sampling: Sides | Areas | Native | TokenBudget = Sides()
    """Sampling of resolutions that is limited to the native size."""

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        return never_enlarged(self.sampling.grids(rng, sizes, patch_size), sizes, patch_size)

    def at(self, resolution: float) -> "NeverEnlarged":
        return replace(self, sampling=self.sampling.at(resolution))

    @property
    def spread(self) -> tuple[float, float]:
        return self.sampling.spread


@dataclass(frozen=True)
class Square(OfImages):
    """Squash every image to a square with about as many tokens as `sampling` gives it: the comparison to native aspect
    ratios."""

    sampling: Sides | Areas | Native | TokenBudget | NeverEnlarged = Sides()
    """Sampling of resolutions that sets the number of tokens."""

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        tokens = self.sampling.grids(rng, sizes, patch_size).prod(-1)
        patch = np.asarray(patch_size, float)
        side = np.sqrt(tokens * patch.prod(-1))
        return np.maximum(1, np.rint(side[:, None] / patch)).astype(np.int32)

    def at(self, resolution: float) -> "Square":
        return replace(self, sampling=self.sampling.at(resolution))

    @property
    def spread(self) -> tuple[float, float]:
        return self.sampling.spread


@dataclass(frozen=True)
class OneSquare(OfImages):
    """Squash every image to the same square, as for a plain ViT: the baseline."""

    side: float = 224
    """Side in pixels, rounded down to whole patches."""

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


OfFrames = Sides | Areas | Native | TokenBudget | NeverEnlarged | Square | OneSquare


@dataclass(frozen=True)
class Clips:
    """Clips: a number of frames for each, which are resized as images are. Grids are (frames, rows, columns)."""

    sampling: OfFrames = Sides()
    """Sampling of the resolution of frames."""
    frames: tuple[int, ...] = (8,)
    """Numbers of frames, drawn equally often; a shorter clip gives fewer. Evaluation takes the largest."""
    stride: float | None = None
    """Distance of the frames that are read, in frames of the clip; auto: they are spread over the whole clip."""
    order: Literal["forward", "shuffled"] = "forward"
    """Order in which frames are read; shuffled: at random, for a control that sees no motion."""
    base: tuple[int, ...] = ()
    """Frames, height and width of the kernel; empty: those of the model."""
    shapes: tuple[tuple[int, int, int], ...] = ()
    """Frames, height and width of each shape of tubelets; empty: those of the model."""
    strides: tuple[tuple[int, int, int], ...] = ()
    """Distances of neighboring tubelets of each shape; empty: those of the model."""

    def __post_init__(self):
        check_in("[1, 2147483647]", frames=self.frames, base=self.base)
        check_in("(0, inf)", stride=self.stride)
        for name in ("shapes", "strides"):
            check_in("[1, 65536]", **{name: tuple(n for shape in getattr(self, name) for n in shape)})
        if not self.frames:
            raise ValueError("frames is empty: give one number of frames or several, such as 4 8 16")

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 3"], patch_size: PatchSize) -> Int[np.ndarray, "N 3"]:
        """Frames, rows and columns of patches, from the frames, heights and widths of clips."""
        wanted = np.array(self.frames)[rng.integers(len(self.frames), size=len(sizes))]
        frames = frame_counts(wanted, sizes[:, 0], known_base(self.base)[0])
        inner = self.sampling.grids(rng, sizes[:, 1:], patch_size)
        return np.concatenate([frames[:, None], inner], -1).astype(np.int32)

    def token_counts(self, grids: Int[np.ndarray, "*N 3"]) -> Int[np.ndarray, "*N"]:
        """Tokens of clips with these grids: tubelets of all shapes."""
        patch = np.array([1, *known_base(self.base)[1:]])
        return token_counts(grids.astype(np.int64) * patch, self.shapes, self.strides)

    def at(self, resolution: float) -> "Clips":
        """`Clips` fixed at this resolution of frames and the largest number of frames."""
        return replace(self, sampling=self.sampling.at(resolution), frames=(max(self.frames),))

    @property
    def spread(self) -> tuple[float, float]:
        return self.sampling.spread


@dataclass(frozen=True)
class WholeBlocks(OfImages):
    """Grids of whole blocks of 2^m x 2^m patches, for a model with m merges (`model.stages`): each side that `sampling`
    gives is rounded down to blocks, at least one. Tokens are dropped by whole blocks."""

    sampling: OfFrames = Sides()
    """Sampling of resolutions before sides are rounded."""
    merges: int = 1
    """Merges m of the model."""

    def __post_init__(self):
        check_in("[1, 2]", merges=self.merges)

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        return whole_blocks(self.sampling.grids(rng, sizes, patch_size), self.merges)

    def at(self, resolution: float) -> "WholeBlocks":
        return replace(self, sampling=self.sampling.at(resolution))

    @property
    def spread(self) -> tuple[float, float]:
        return self.sampling.spread


Resolution = OfFrames | Clips | WholeBlocks


def known_base(base: tuple[int, ...]) -> tuple[int, ...]:
    """A resolved shape of the kernel."""
    assert base, "data.resolution.base is empty: call `harness.resolve.resolve` first"
    return base


def known(side: float | None) -> float:
    """A resolved side."""
    assert side is not None, "data.resolution is auto: call `harness.resolve.resolve` first"
    return side
