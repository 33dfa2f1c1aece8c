"""Attention backends of a model configuration, as frozen dataclasses."""

from dataclasses import dataclass

from .errors import check, check_in


@dataclass(frozen=True)
class Auto:
    """The fastest backend that passes its check, timed on the device when training starts; dense in short rows on a
    CPU."""


@dataclass(frozen=True)
class Dense:
    """Attention over all pairs of tokens of a row, with a dense mask: for short rows."""


@dataclass(frozen=True)
class Pallas:
    """Pallas kernels for GPUs that skip tiles without common images (`kernels/tiles.py`)."""

    tile: int = 64
    """Tokens per tile, a power of two, at least 16."""

    def __post_init__(self):
        check_in("model.attention", "[16, 65536]", tile=self.tile)
        check(self.tile & (self.tile - 1) == 0, f"model.attention.tile={self.tile} must be a power of two")


@dataclass(frozen=True)
class CuDNN:
    """cuDNN's fused attention on packed rows: bfloat16 on Hopper or newer, no registers."""


@dataclass(frozen=True)
class Splash:
    """Splash attention, JAX's TPU kernel."""

    longest: int = 0
    """Largest distance of two tokens of an image in its row, registers included: blocks further apart are skipped, and
    a longer image gives NaN. 0 skips none."""
    block: int = 128
    """Tokens per block, a multiple of 128."""

    def __post_init__(self):
        check_in("model.attention", "[0, 2147483647]", longest=self.longest)
        check_in("model.attention", "[128, 2147483647]", block=self.block)
        check(self.block % 128 == 0, f"model.attention.block={self.block} must be a multiple of 128")


@dataclass(frozen=True)
class Loop:
    """Attention image by image, in the smallest window that holds the image: for CPUs."""

    windows: int = 12
    """Number of window sizes; each adds a loop to compile."""

    def __post_init__(self):
        check_in("model.attention", "[1, 64]", windows=self.windows)


@dataclass(frozen=True)
class Windows:
    """Dense attention in each window of rows that `data.packing.rule=Template` cuts, without a mask; NaN in other rows.

    Training with that rule chooses it; evaluation uses another one.
    """

    sizes: tuple[int, ...] = ()
    """Tokens of each window, in the order of the row."""

    def __post_init__(self):
        check_in("model.attention", "[1, 2147483647]", sizes=self.sizes)


Backend = Auto | Dense | Loop | Windows | Pallas | CuDNN | Splash
