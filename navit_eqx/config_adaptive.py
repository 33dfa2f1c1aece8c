"""Options of a model for patches of several sizes within an image, as frozen dataclasses: docs/adaptive.md."""

from dataclasses import dataclass

from .errors import check_in


@dataclass(frozen=True)
class Levels:
    """A learned vector for each coarser size of patches within an image (`data.merge`), zero at first; without it the
    model tells sizes apart by their pixels alone."""

    scales: int = 3
    """Sizes of patches: p, 2 p, 4 p and so on."""

    def __post_init__(self):
        check_in("model.levels", "[2, 8]", scales=self.scales)


@dataclass(frozen=True)
class Detail:
    """What the parts of a merged patch say is added to its token, nothing at first: rows hold them too, up to twice the
    bytes at a rate of 0.45.   [APT, eq. 2]"""

    scales: int = 3
    """Sizes of patches: p, 2 p, 4 p and so on."""

    def __post_init__(self):
        check_in("model.detail", "[2, 8]", scales=self.scales)


@dataclass(frozen=True)
class AreaWeights:
    """A merged patch counts as often as the patches it stands for, in attention and in the pool: equal patches may be
    merged or not. Without it every token counts once.   [ToMe, arXiv:2210.09461, proportional attention]"""
