"""Merging: patches of several sizes within one image, flat regions in large ones. See docs/adaptive.md.

`MergeByContent` lets the rate follow the complexity of each image (data/complexity.py), which is known before as well.

A law of resolution with merging gives grids (quads, rows, columns): the number of quads that are merged is planned, and
so is the number of tokens; which quads they are is decided by the pixels, when they are read.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Num

from reference.adaptive import (
    Levels,
    cut_by_budget,
    cut_by_threshold,
    entropy_scores,
    most_quads,
    quads_in,
    residual_scores,
)
from reference.sampling.complexity import rate_by_complexity
from reference.sampling.dropping import kept_tokens

from ..errors import DataError, check_in, check_ordered
from .dropping import Complexity, check_sorted, ranks_in
from .kinds import Patch, PatchSize, Rng
from .resolution import Clips, OfFrames, Resolution, WholeBlocks

Rule = Literal["pi", "area", "apt"]
Known = Num[np.ndarray, " N"] | None


@dataclass(frozen=True)
class Merge:
    """Merge the quads of patches that lose least: the same share of the possible merges in every image. With 3 scales
    a rate of r saves about 0.94 r of the tokens."""

    rate: float = 0.5
    """Share of the possible merges that are made; 0 merges nothing."""
    lowest: float | None = None
    """Rates of training images are drawn from this one to `rate`; auto: all have `rate`. Evaluation uses `rate`."""
    scales: int = 3
    """Sizes of patches: p, 2 p, 4 p and so on."""
    rule: Rule = "pi"
    """pi: large patches are mapped to the kernel as FlexiViT does; area: they are reduced by means of boxes of pixels,
    and rows hold bytes; apt: by means of the middle 2 x 2 of each box, as in the code of APT."""

    def __post_init__(self):
        check_in("[0, 1]", rate=self.rate, lowest=self.lowest)
        check_ordered(lowest=self.lowest, rate=self.rate)
        check_in("[2, 8]", scales=self.scales)

    def quads(self, rng: Rng, grids: Int[np.ndarray, "N 2"], complexity: Complexity = None) -> Int[np.ndarray, " N"]:
        """Quads merged in images with these grids of patches: ⌊rate · most_quads⌋."""
        rates = self.rates(rng, len(grids), complexity)
        return np.floor(rates * most_quads(grids, self.scales) + 1e-9).astype(np.int32)

    def rates(self, rng: Rng, count: int, complexity: Complexity) -> Float[np.ndarray, " N"]:
        """The rate of each image."""
        lowest = self.rate if self.lowest is None else self.lowest
        return np.full(count, float(self.rate)) if lowest == self.rate else rng.uniform(lowest, self.rate, count)

    def levels(self, picture: Num[np.ndarray, "h w C"], patch: Patch, quads: int) -> Levels:
        """The partition of a picture."""
        return cut_by_budget(residual_scores(picture, patch, self.scales), quads)

    @property
    def highest(self) -> float:
        """The largest rate of an image."""
        return self.rate

    @property
    def fixed(self) -> "Merge":
        """The merging of evaluation, which draws nothing."""
        return replace(self, lowest=None)


@dataclass(frozen=True)
class MergeByContent(Merge):
    """Merge more in plain images and less in complex ones; the mean rate over images is that of `Merge`. The complexity
    of every image is measured once, when the images are opened."""

    spread: float = 0.4
    """Largest distance of the rate of an image from the mean, that of the plainest and the most complex image; smaller
    near 0 and 1."""
    quantiles: tuple[float, ...] = ()
    """Complexity in the middle of equal shares of the images; auto: of the training images."""

    def __post_init__(self):
        super().__post_init__()
        check_in("[0, 1]", spread=self.spread)
        check_in("[0, inf)", quantiles=self.quantiles)
        check_sorted(self.quantiles)

    def rates(self, rng: Rng, count: int, complexity: Complexity) -> Float[np.ndarray, " N"]:
        """The rates of `Merge`, moved by the rank of each image."""
        return rate_by_complexity(super().rates(rng, count, None), self.spread, ranks_in(complexity, self.quantiles))

    @property
    def highest(self) -> float:
        """The largest rate that an image can have."""
        return min(1.0, self.rate + self.spread, 2 * self.rate)


@dataclass(frozen=True)
class MergeByThreshold:
    """Merge every block whose entropy is below the threshold of its level, as APT does; for evaluation. Every image is
    read once to count its tokens, before anything is planned (data/counts.py).   [APT, arXiv:2510.18091, §3.1]"""

    thresholds: tuple[float, ...] = (5.75, 4.0)
    """Bits of the gray levels of a block, for patches of 2 p, 4 p and so on."""
    rule: Rule = "area"
    """As in `Merge`."""

    def __post_init__(self):
        check_in("(-inf, inf)", thresholds=self.thresholds)
        check_in("[2, 8]", scales=self.scales)

    @property
    def scales(self) -> int:
        """Sizes of patches."""
        return 1 + len(self.thresholds)

    @property
    def highest(self) -> float:
        """The largest share of the possible merges in an image: flat images are merged as far as can be."""
        return 1.0

    @property
    def fixed(self) -> "MergeByThreshold":
        """Itself: nothing is drawn."""
        return self

    def quads(self, rng: Rng, grids: Int[np.ndarray, "N 2"], known: Known) -> Int[np.ndarray, " N"]:
        """The numbers that were counted."""
        assert known is not None, "the tokens of these images were not counted: `data.counts.of_source`"
        return known.astype(np.int32)

    def levels(self, picture: Num[np.ndarray, "h w C"], patch: Patch, quads: int) -> Levels:
        """The partition of a picture.   Raises DataError where it is not the one that was counted."""
        levels = self.cut(picture, patch)
        if quads_in(levels) != quads:
            raise DataError(
                f"{quads_in(levels)} merges in an image of {' x '.join(map(str, levels.shape))} patches, and {quads} "
                "when it was counted: it has changed, start again"
            )
        return levels

    def cut(self, picture: Num[np.ndarray, "h w C"], patch: Patch) -> Levels:
        """The partition of a picture, whatever was counted."""
        return cut_by_threshold(entropy_scores(picture, patch, self.scales), self.thresholds)


@dataclass(frozen=True)
class Merged:
    """A law of resolution with merging."""

    sampling: OfFrames
    merge: Merge | MergeByThreshold
    known: Known = field(default=None, compare=False, repr=False)
    """Of the images whose grids are asked for: their complexity, or the quads that were counted: `of_images`."""

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N A"], patch_size: PatchSize) -> Int[np.ndarray, "N 3"]:
        """Quads merged, rows and columns of patches; rows and columns are those without merging."""
        inner = self.sampling.grids(rng, sizes[:, -2:], patch_size)
        quads = self.merge.quads(rng, inner, self.known)
        return np.concatenate([quads[:, None], inner], -1).astype(np.int32)

    def token_counts(self, grids: Int[np.ndarray, "*N 3"]) -> Int[np.ndarray, "*N"]:
        """Tokens of images with these grids: n_y n_x − 3 k."""
        return grids[..., 1:].prod(-1) - 3 * grids[..., 0]

    def at(self, resolution: float) -> "Merged":
        """The same merging at one resolution, as in evaluation."""
        return replace(self, sampling=self.sampling.at(resolution), merge=self.merge.fixed)

    @property
    def spread(self) -> tuple[float, float]:
        return self.sampling.spread


Law = Resolution | Merged
"""How grids are planned."""


def law_of(resolution: Resolution, merge: Merge | MergeByThreshold | None) -> Law:
    """Resolution and merging together; where no image is merged, the resolution alone: rows are those without merging.

    Raises ValueError for clips and for blocks of a hierarchy.
    """
    if merge is None or not merge.highest:
        return resolution
    if isinstance(resolution, WholeBlocks):
        raise ValueError("data.merge joins patches, and model.stages merge tokens of equal patches: --data.merge none")
    if isinstance(resolution, Clips):
        raise ValueError("data.merge is of images, and data.resolution samples clips: --data.merge none")
    return Merged(resolution, merge)


def of_images(law: Law, complexity: Complexity) -> Law:
    """The law for images of this complexity, for one that may follow it."""
    counted = isinstance(law, Merged) and isinstance(law.merge, MergeByThreshold)
    return replace(law, known=complexity) if isinstance(law, Merged) and not counted else law


def of_frames(law: Law) -> OfFrames:
    """The law of images, or of the frames of clips."""
    return law.sampling if isinstance(law, Clips | Merged | WholeBlocks) else law


def with_frames(law: Law, frames: OfFrames) -> Law:
    """The law of clips, or with merging, with another one for their frames; of images, that one."""
    return replace(law, sampling=frames) if isinstance(law, Clips | Merged | WholeBlocks) else frames


def kept_by(law: Law, tokens: Int[np.ndarray, " N"], rates: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Tokens kept at these drop rates: whole blocks for a hierarchy.   Raises ValueError for rates outside [0, 1]."""
    block = block_tokens(law)
    return block * kept_tokens(tokens // block, rates)


def block_tokens(law: Law) -> int:
    """Tokens that are dropped and kept together: 4^m with m merges, else 1."""
    return 4**law.merges if isinstance(law, WholeBlocks) else 1
