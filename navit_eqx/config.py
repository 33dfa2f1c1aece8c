"""What a model is made of: frozen dataclasses, no flags that exclude each other."""

from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

from .errors import check, check_in
from .resize import FLEXIVIT, Interpolation

Coordinate = Literal["absolute", "fractional", "fractional_aspect"]
EVERYWHERE = 2**31 - 1  # longest side of an embedding without an end: grids are int32


@dataclass(frozen=True)
class Factorised:
    """Positions from a learned table per axis; as it stands, the best of [NaViT, table 3]."""

    size: int = 64
    """Entries per axis, M; with absolute coordinates the longest side, in patches, that has a position."""
    coordinate: Coordinate = "absolute"
    """absolute: the patch index; fractional: its share of each side; fractional_aspect: of the longest side."""
    feature: Literal["learned", "resized"] = "learned"
    """learned: linear between entries; resized: antialiased too where patches are further apart than entries."""
    combine: Literal["sum", "stack", "product"] = "sum"
    axes: int = 2

    def __post_init__(self):
        check_entries(self)

    @property
    def longest_side(self) -> int:
        """The largest grid side, in patches, at which every patch has a position."""
        return self.size if self.coordinate == "absolute" else EVERYWHERE

    @property
    def pieces(self) -> int:
        """Equal pieces that make up the width."""
        return self.axes if self.combine == "stack" else 1

    @property
    def products(self) -> float:
        """Multiply-adds of a token's position, for each channel."""
        return self.axes * self.size / self.pieces


@dataclass(frozen=True)
class Joint:
    """Positions from one learned table over all axes: as it stands the table of a ViT, resized to each image;
    absolute and learned, the 2-D table of Pix2Struct.
    """

    size: int = 16
    """Entries per axis, M; with absolute coordinates the longest side, in patches, that has a position."""
    coordinate: Coordinate = "fractional"
    """absolute: the patch index; fractional: its share of each side; fractional_aspect: of the longest side."""
    feature: Literal["learned", "resized"] = "resized"
    """learned: linear between entries; resized: antialiased too where patches are further apart than entries."""
    axes: int = 2
    pieces = 1

    def __post_init__(self):
        check_entries(self)

    @property
    def products(self) -> float:
        """Multiply-adds of a token's position, for each channel."""
        return self.size**self.axes

    @property
    def longest_side(self) -> int:
        """The largest grid side, in patches, at which every patch has a position."""
        return self.size if self.coordinate == "absolute" else EVERYWHERE


@dataclass(frozen=True)
class Sinusoidal:
    """Positions from fixed sines and cosines of each axis; nothing to learn, defined everywhere."""

    size: int = 64
    """Units that a side spans in fractional coordinates; absolute ones count patches."""
    coordinate: Coordinate = "absolute"
    """absolute: the patch index; fractional: its share of each side; fractional_aspect: of the longest side."""
    combine: Literal["stack", "sum", "product"] = "stack"
    axes: int = 2
    longest_side = EVERYWHERE

    def __post_init__(self):
        check_entries(self)

    @property
    def pieces(self) -> int:
        """Equal pieces that make up the width: a sine and a cosine, of every axis if stacked."""
        return 2 * self.axes if self.combine == "stack" else 2

    @property
    def products(self) -> float:
        """Multiply-adds of a token's position, for each channel."""
        return self.axes / self.pieces


@dataclass(frozen=True)
class Fourier:
    """Positions from sines and cosines of learned mixtures of all axes; defined everywhere."""

    size: int = 64
    """Units that a side spans in fractional coordinates; absolute ones count patches."""
    coordinate: Coordinate = "absolute"
    """absolute: the patch index; fractional: its share of each side; fractional_aspect: of the longest side."""
    scale: float = 0.2
    """Standard deviation of fresh frequencies, in radians per unit."""
    axes: int = 2
    pieces = 2
    longest_side = EVERYWHERE

    def __post_init__(self):
        check_in("model.posembed", "(0, inf)", scale=self.scale)
        check_entries(self)

    @property
    def products(self) -> float:
        """Multiply-adds of a token's position, for each channel."""
        return self.axes / self.pieces


@dataclass(frozen=True)
class NoPositions:
    """Nothing is added; for models that turn queries and keys instead (`rope`)."""

    longest_side = EVERYWHERE
    products = 0.0


PosEmbed = Factorised | Joint | Sinusoidal | Fourier | NoPositions


def check_entries(posembed: Factorised | Joint | Sinusoidal | Fourier) -> None:
    """Raises ConfigError where size or axes make no sense."""
    check_in("model.posembed", "[1, 2147483647]", size=posembed.size)
    check_in("model.posembed", "[1, 8]", axes=posembed.axes)


def check_posembed(posembed: PosEmbed, width: int) -> None:
    """Raises ConfigError where the width does not split."""
    if isinstance(posembed, NoPositions):
        return
    check(
        width % posembed.pieces == 0,
        f"model.width={width} must be divisible by {posembed.pieces}: {type(posembed).__name__} concatenates "
        f"{posembed.pieces} equal parts",
    )


@dataclass(frozen=True)
class Rope:
    """Rotary positions: queries and keys turn with the patch coordinates, each axis its share of a head."""

    theta: float = 100.0
    """Ratio of the fastest turn to the slowest."""
    axes: int = 2

    def __post_init__(self):
        check_in("model.rope", "[1, inf)", theta=self.theta)
        check_in("model.rope", "[1, 8]", axes=self.axes)


@dataclass(frozen=True)
class Map:
    """Masked attention pooling with an MLP: the paper's."""


@dataclass(frozen=True)
class ResidualMap:
    """Masked attention pooling with the probe as residual and no MLP."""


@dataclass(frozen=True)
class Mean:
    """The mean of an image's tokens."""


@dataclass(frozen=True)
class Max:
    """The maximum over an image's tokens, channel by channel."""


@dataclass(frozen=True)
class Token:
    """The first register is a class token, and is the result."""


Pool = Map | ResidualMap | Mean | Max | Token


@dataclass(frozen=True)
class Auto:
    """The fastest that passes its check, measured on the device when training starts; dense in short rows on a CPU."""


@dataclass(frozen=True)
class Dense:
    """All pairs of tokens in a row, and a mask: for short rows."""


@dataclass(frozen=True)
class Pallas:
    """Our own kernels for GPUs, which skip the tiles of other images."""

    tile: int = 64
    """Tokens in a tile, a power of two from 16 on."""

    def __post_init__(self):
        check_in("model.attention", "[16, 65536]", tile=self.tile)
        check(self.tile & (self.tile - 1) == 0, f"model.attention.tile={self.tile} must be a power of two")


@dataclass(frozen=True)
class CuDNN:
    """NVIDIA's fused kernels on packed rows: bfloat16 on Hopper or newer, no registers."""


@dataclass(frozen=True)
class Splash:
    """The kernel for TPUs that comes with JAX."""

    longest: int = 0
    """Tokens, registers included, over which an image may spread in its row: blocks further apart are skipped, and a
    longer image gives NaN. 0 skips none."""
    block: int = 128
    """Tokens in a block, a multiple of 128."""

    def __post_init__(self):
        check_in("model.attention", "[0, 2147483647]", longest=self.longest)
        check_in("model.attention", "[128, 2147483647]", block=self.block)
        check(self.block % 128 == 0, f"model.attention.block={self.block} must be a multiple of 128")


@dataclass(frozen=True)
class Loop:
    """Images one after the other, each cut out in the smallest window that holds it: for CPUs."""

    windows: int = 12
    """How many sizes of windows there are; each is a program of its own to compile."""

    def __post_init__(self):
        check_in("model.attention", "[1, 2147483647]", windows=self.windows)


Backend = Auto | Dense | Loop | Pallas | CuDNN | Splash


@dataclass(frozen=True)
class Flexi:
    """A model trained on patches of several sizes, all through the one kernel of `ModelConfig.patch`."""

    sizes: tuple[int, ...] = ()
    """Sides of the patches, in pixels."""
    interpolation: Interpolation = FLEXIVIT
    """How a patch is brought from one size to another: part of what the weights mean."""

    def __post_init__(self):
        check_in("model.flexi", "[1, 2147483647]", sizes=self.sizes)
        check(
            len({*self.sizes}) == len(self.sizes),
            f"model.flexi.sizes={self.sizes} must be different numbers of pixels",
        )


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a NaViT."""

    patch: tuple[int, ...] = (16, 16)
    """Height and width of a patch in pixels; of a flexible model those of its kernel, which serves every other size."""
    channels: int = 3
    """Channels of an image: 1 grey, 3 RGB, 4 RGBA, or any number of bands."""
    width: int = 192
    depth: int = 12
    heads: int = 3
    mlp_width: int = 768
    posembed: PosEmbed = field(default_factory=Factorised)
    flexi: Flexi | None = None
    """Patches of several sizes; none reads one size."""
    mean: tuple[float, ...] = (0.5,)
    """Of pixels in 0…1, taken off before they are divided by `std`: one number for all channels, or one for each."""
    std: tuple[float, ...] = (0.5,)
    rope: Rope | None = None
    """Rotary positions, instead of or beside the added ones."""
    registers: int = 0
    """Learned tokens that join every image."""
    pool: Pool = Map()
    norm: Literal["layer", "rms"] = "layer"
    qk_norm: Literal["layer", "rms", "none"] = "layer"
    logit_scale: Literal["sqrt", "one"] = "sqrt"
    """Of attention: 1/√(size of a head), or 1 as in some public code with QK-norm."""
    biases: bool = False
    """Also in attention and norms, as in ViT; the MLP, the embedding and the classifier always have them."""
    gelu: Literal["tanh", "exact"] = "tanh"
    layer_scale: float = 0.0
    """First value of a learned gain per channel on what each block adds; 0 has no such gain."""
    stochastic_depth: float = 0.0
    """Chance that an image skips the last block in training; it grows linearly from 0 at the first."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Of activations; parameters stay float32. auto: float32 on a CPU, bfloat16 on accelerators."""
    attention: Backend = Auto()
    """Which program computes attention between the tokens of an image; all mean the same."""
    remat: bool = False
    """Recompute each block in the backward pass: less memory, about 1.25 times the time."""
    unroll: int = 1
    """Blocks per iteration of the scan: more is a longer compilation, sometimes a faster step."""

    def __post_init__(self):
        for name in ("patch", "channels", "width", "depth", "heads", "mlp_width", "unroll"):
            check_in("model", "[1, 2147483647]", **{name: getattr(self, name)})
        check_in("model", "[0, 2147483647]", registers=self.registers)
        check_in("model", "(-inf, inf)", mean=self.mean)
        check_in("model", "(0, inf)", std=self.std)
        check_in("model", "[0, inf)", layer_scale=self.layer_scale)
        check_in("model", "[0, 1)", stochastic_depth=self.stochastic_depth)
        check(len(self.patch) >= 2, f"model.patch={self.patch} must be a height and a width in pixels, such as 16 16")
        check(
            len({self.channels * prod(patch) for patch in self.patches}) == len(self.patches),
            f"model.flexi.sizes: two of the patches {self.patches} have as many numbers, and rows would not tell which",
        )
        for name in ("mean", "std"):
            check(
                len(getattr(self, name)) in (1, self.channels),
                f"model.{name} holds one number, or one for each of {self.channels} channels, "
                f"got {len(getattr(self, name))}",
            )
        check(self.width % self.heads == 0, f"model.width={self.width} must be a multiple of heads={self.heads}")
        check_posembed(self.posembed, self.width)
        check(
            not isinstance(self.pool, Token) or self.registers >= 1,
            "model.pool=Token reads the first register: set model.registers to at least 1",
        )
        check(
            not (isinstance(self.attention, CuDNN) and self.registers),
            "model.attention=CuDNN reads an image as one stretch of its row, and registers stand apart from theirs: "
            "choose another",
        )
        size = self.width // self.heads
        check(
            self.rope is None or size % (2 * self.rope.axes) == 0,
            f"model.rope turns pairs on each axis: the head size {size} = width / heads must be a multiple of 4",
        )

    @property
    def patch_dim(self) -> int:
        """Numbers in a flattened patch, P."""
        return self.channels * prod(self.patch)

    @property
    def patches(self) -> tuple[tuple[int, ...], ...]:
        """Patch sizes that rows may have; the first is that of the kernel."""
        sizes = () if self.flexi is None else self.flexi.sizes
        return self.patch, *((size, size) for size in sizes if (size, size) != self.patch)

    @property
    def interpolation(self) -> Interpolation:
        """By which patches of other sizes are read."""
        return FLEXIVIT if self.flexi is None else self.flexi.interpolation

    @property
    def sizes(self) -> dict[str, Any]:
        """What formulas of cost read of it: sizes, the name of the pool, FLOPs of a token's position."""
        names = ("patch_dim", "width", "depth", "mlp_width", "registers")
        positions = int(2 * self.posembed.products * self.width)
        options = {"pool": type(self.pool).__name__, "positions": positions}
        return {name: getattr(self, name) for name in names} | options


VARIANTS = {
    "Ti": (192, 12, 3, 768),
    "S": (384, 12, 6, 1536),
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
}


def variant(name: str) -> ModelConfig:
    """A size of ViT and a patch, such as "B/16" or "L/14".

    Ti/16, S/16, B/16 and L/16 have 5.9, 23.4, 92.8 and 315.7 M parameters, the pool included, without a task's head.

    Raises ConfigError on a name that is none.

        variant("B/16").width  # 768
    """
    size, _, patch = name.partition("/")
    check(
        size in VARIANTS and patch.isdecimal(),
        f"no variant {name!r}: write one of {', '.join(VARIANTS)} and a patch, as in B/16",
    )
    width, depth, heads, mlp_width = VARIANTS[size]
    return ModelConfig((int(patch), int(patch)), width=width, depth=depth, heads=heads, mlp_width=mlp_width)
