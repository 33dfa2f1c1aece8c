"""Preprocessing of a model: size rule, resampling filter, channels, and the shape of rows.

The size rules, `Area` and others, are in `size_rules.py`.
"""

from dataclasses import dataclass
from typing import Literal

from .complexity import rank, rate_by_complexity
from .errors import check_in
from .pixels import read_image as read_image
from .resize import FLEXIVIT, Interpolation
from .size_rules import SLACK
from .size_rules import Area as Area
from .size_rules import Blocks as Blocks
from .size_rules import CeilBudget as CeilBudget
from .size_rules import CenterCrop as CenterCrop
from .size_rules import Fixed as Fixed
from .size_rules import Frames as Frames
from .size_rules import LongestEdge as LongestEdge
from .size_rules import Native as Native
from .size_rules import NeverEnlarged as NeverEnlarged
from .size_rules import OneSquare as OneSquare
from .size_rules import Plain as Plain
from .size_rules import Size as Size
from .size_rules import SizeRule as SizeRule
from .size_rules import Square as Square
from .size_rules import TokenBudget as TokenBudget
from .size_rules import WholeBlocks as WholeBlocks
from .size_rules import at_resolution as at_resolution
from .size_rules import size_rule as size_rule

Filter = Literal["bilinear", "bicubic", "lanczos", "box", "hamming", "nearest"]
SHRINKS = (8, 4, 2)  # factors by which a JPEG can be decoded smaller


@dataclass(frozen=True)
class Kernel:
    """What patches are mapped to."""

    patch: Size
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    interpolation: Interpolation = FLEXIVIT
    detail: bool = False
    """Whether the parts of merged patches are read, too."""


@dataclass(frozen=True)
class Merge:
    """Merge flat regions of an image into larger patches: `navit_eqx/adaptive.py`.

    >>> Merge(0.5).quads((8, 8))
    10
    """

    rate: float = 0.5
    """Share of the possible merges; 0 merges nothing."""
    scales: int = 3
    """Sizes of patches: p, 2 p, 4 p and so on."""
    rule: Literal["pi", "area", "apt"] = "pi"
    """pi: large patches are mapped to the kernel as FlexiViT does; area: means of boxes of pixels; apt: of the middle
    2 x 2 of each box."""
    kernel: Kernel | None = None
    """The kernel of a model; `navit.pack` fills it in."""

    def __post_init__(self):
        check_in("info.preprocessing.merge", "[0, 1]", rate=self.rate)
        check_in("info.preprocessing.merge", "[2, 8]", scales=self.scales)

    def quads(self, grid: Size, complexity: float | None = None) -> int:
        """Quads that are merged in an image of `grid` patches; each saves 3 tokens."""
        most = sum((grid[0] >> s) * (grid[1] >> s) for s in range(1, self.scales))
        return int(self.rate_of(complexity) * most + SLACK)

    def rate_of(self, complexity: float | None) -> float:
        """The rate of an image."""
        return self.rate

    @property
    def highest(self) -> float:
        """The largest rate of an image."""
        return self.rate


@dataclass(frozen=True)
class MergeByContent(Merge):
    """Merge more in plain images and less in complex ones: `navit_eqx/complexity.py`.

    >>> [MergeByContent(0.5, spread=0.3, quantiles=(4.0, 8.0)).rate_of(c) for c in (1.0, 6.0, 9.0)]
    [0.8, 0.5, 0.2]
    """

    spread: float = 0.4
    """Largest distance of a rate from `rate`, that of the plainest and the most complex image."""
    quantiles: tuple[float, ...] = (0.0,)
    """Complexity in the middle of equal shares of the training images."""

    def __post_init__(self):
        super().__post_init__()
        check_in("info.preprocessing.merge", "[0, 1]", spread=self.spread)
        check_in("info.preprocessing.merge", "[0, inf)", quantiles=self.quantiles)

    def rate_of(self, complexity: float | None) -> float:
        """The rate of an image of this complexity."""
        assert complexity is not None, "the complexity of an image is measured before it is planned"
        return rate_by_complexity(self.rate, self.spread, rank(complexity, self.quantiles))

    @property
    def highest(self) -> float:
        """The largest rate that an image can have."""
        return min(1.0, self.rate + self.spread, 2 * self.rate)


@dataclass(frozen=True)
class MergeByThreshold:
    """Merge every block whose entropy is below the threshold of its level, as APT does: the number of tokens follows
    from the pixels, and an image is read before it is planned.   [APT, arXiv:2510.18091, §3.1]

    >>> MergeByThreshold().scales
    3
    """

    thresholds: tuple[float, ...] = (5.75, 4.0)
    """Bits of the gray levels of a block, for patches of 2 p, 4 p and so on."""
    rule: Literal["pi", "area", "apt"] = "area"
    """As in `Merge`."""
    kernel: Kernel | None = None
    """The kernel of a model; `navit.pack` fills it in."""

    def __post_init__(self):
        check_in("info.preprocessing.merge", "(-inf, inf)", thresholds=self.thresholds)
        check_in("info.preprocessing.merge", "[2, 8]", scales=self.scales)

    @property
    def scales(self) -> int:
        """Sizes of patches."""
        return 1 + len(self.thresholds)

    @property
    def highest(self) -> float:
        """The largest share of the possible merges in an image: flat images are merged as far as can be."""
        return 1.0


@dataclass(frozen=True)
class Preprocessing:
    """Images of any size → the patches that a model reads.

    uint8 images give uint8 patches, which the model normalizes on the device by its own mean and standard deviation.
    Float images are already normalized and give float32 patches, which the model reads as they are. uint16 arrays are
    scaled to float32 in [−1, 1] by x / 32767.5 − 1. All images of a batch have the same dtype.

    >>> Preprocessing(Area(64), "bicubic").size.grid((100, 400), (16, 16))
    (2, 8)
    """

    size: SizeRule
    filter: Filter = "bilinear"
    """Resampling filter, antialiased (except nearest), per channel."""
    channels: int = 3
    row_tokens: int = 256
    """T, the default number of tokens of a row; `pack` uses longer rows where an image is longer."""
    row_images: int = 16
    """I, the number of image slots of a row."""
    decode_margin: float = 0.0
    """Smallest ratio of decoded to resized pixels per side, at which JPEG files are decoded at 1/2, 1/4 or 1/8 of their
    size. 0 decodes them at full size."""
    merge: Merge | MergeByContent | MergeByThreshold | None = None
    """Patches of several sizes within an image; None: of one size."""

    def __post_init__(self):
        check_in("info.preprocessing", "[1, 65536]", channels=self.channels)
        check_in("info.preprocessing", "[1, 1048576]", row_tokens=self.row_tokens, row_images=self.row_images)
        check_in("info.preprocessing", "[0, 1000000]", decode_margin=self.decode_margin)

    @property
    def merging(self) -> Merge | MergeByContent | MergeByThreshold | None:
        """How patches are merged; None where no image is: rows are those without merging."""
        return self.merge if self.merge and self.merge.highest else None

    def shrink(self, size: Size, target: Size) -> int:
        """Factor 1, 2, 4 or 8 by which a JPEG of `size` pixels is decoded smaller before it is resized to `target`."""
        if not self.decode_margin:
            return 1
        ratio = min(n / m for n, m in zip(size, target)) / self.decode_margin
        return next((s for s in SHRINKS if s <= ratio), 1)
