"""The stages of a hierarchical model, as a frozen dataclass."""

from dataclasses import dataclass
from typing import Literal

from .errors import check, check_in

MOST = 3  # stages: row lengths are multiples of 32, hence of 4 ** 2


@dataclass(frozen=True)
class Stages:
    """A hierarchy: after each stage but the last, the four tokens of every 2 x 2 quad become one: docs/hierarchy.md.
    [Hiera, Swin]"""

    depths: tuple[int, ...] = (1, 2)
    """Blocks of each stage, two or three stages; their sum is `model.depth`."""
    widths: tuple[int, ...] = ()
    """Channels of a token in each stage, the first one `model.width`; heads and MLP grow with them. Empty: the same
    width in all stages."""
    pool: Literal["mean", "max", "concat"] = "mean"
    """The token of a quad: the mean or the maximum of its four tokens, or a linear map of all four. Where the width
    changes, a norm and a linear map follow."""

    def __post_init__(self):
        check_in("model.stages", "[1, 4096]", depths=self.depths)
        check_in("model.stages", "[1, 1048576]", widths=self.widths)
        check(
            2 <= len(self.depths) <= MOST, f"model.stages.depths={self.depths} must be the blocks of 2 to {MOST} stages"
        )
        check(
            len(self.widths) in (0, len(self.depths)),
            f"model.stages.widths={self.widths} must be one width for each of the stages {self.depths}",
        )

    @property
    def merges(self) -> int:
        """Merges m: grids are multiples of 2^m, and images of 4^m tokens."""
        return len(self.depths) - 1

    def widths_of(self, width: int) -> tuple[int, ...]:
        """The width of each stage of a model of this width."""
        return self.widths or (width,) * len(self.depths)

    def sizes(self, width: int, mlp_width: int) -> tuple[tuple[int, int, int, int], ...]:
        """Width, blocks and MLP width of each stage, and the channels that the linear map before it reads: 0 where
        there is none. For the cost formulas."""
        widths = self.widths_of(width)
        inputs = [0, *(mapped_channels(self.pool, *pair) for pair in zip(widths, widths[1:]))]
        return tuple(
            (w, depth, mlp_width * w // width, n) for w, depth, n in zip(widths, self.depths, inputs, strict=True)
        )


def mapped_channels(pool: str, before: int, after: int) -> int:
    """Channels of a quad that a linear map reads between two stages of these widths; 0 where there is no map."""
    return 4 * before if pool == "concat" else before * (before != after)


def check_stages(stages: Stages | None, width: int, heads: int, depth: int) -> None:
    """Raises ConfigError where stages do not fit the model."""
    if stages is None:
        return
    check(sum(stages.depths) == depth, f"model.stages.depths={stages.depths} must add up to model.depth={depth}")
    widths = stages.widths_of(width)
    check(widths[0] == width, f"model.stages.widths={widths} must begin with model.width={width}")
    check(
        all(w * heads % width == 0 for w in widths),
        f"model.stages.widths={widths} must be whole numbers of heads of {width // heads} channels",
    )
