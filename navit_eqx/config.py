"""Model configuration: frozen dataclasses; alternatives are classes, not flags."""

from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

from .config_adaptive import AreaWeights as AreaWeights
from .config_adaptive import Detail as Detail
from .config_adaptive import Levels as Levels
from .config_attention import Auto as Auto
from .config_attention import Backend as Backend
from .config_attention import CuDNN as CuDNN
from .config_attention import Dense as Dense
from .config_attention import Loop as Loop
from .config_attention import Pallas as Pallas
from .config_attention import Splash as Splash
from .config_attention import Windows as Windows
from .config_exclusive import check_exclusive
from .config_local import Local as Local
from .config_local import check_local as check_local
from .config_positions import UNLIMITED as UNLIMITED
from .config_positions import Coordinate as Coordinate
from .config_positions import Factorised as Factorised
from .config_positions import Fourier as Fourier
from .config_positions import Fuzzy as Fuzzy
from .config_positions import Joint as Joint
from .config_positions import NoPositions as NoPositions
from .config_positions import PosEmbed as PosEmbed
from .config_positions import Rope as Rope
from .config_positions import Sinusoidal as Sinusoidal
from .config_positions import Table as Table
from .config_positions import check_fuzzy as check_fuzzy
from .config_positions import check_posembed as check_posembed
from .config_stages import Stages as Stages
from .config_stages import check_stages as check_stages
from .errors import check, check_in
from .resize import FLEXIVIT, Interpolation


@dataclass(frozen=True)
class Map:
    """Masked attention pooling with an MLP, as in the paper."""


@dataclass(frozen=True)
class ResidualMap:
    """Masked attention pooling with the probe as residual and no MLP."""


@dataclass(frozen=True)
class Mean:
    """Mean over the tokens of an image."""


@dataclass(frozen=True)
class NormedMean:
    """Mean over the tokens of an image, then a norm."""


@dataclass(frozen=True)
class Max:
    """Maximum over the tokens of an image, per channel."""


@dataclass(frozen=True)
class Token:
    """The first register, used as a class token."""


Pool = Map | ResidualMap | Mean | NormedMean | Max | Token


@dataclass(frozen=True)
class Plain:
    """Two linear layers with an activation in between."""


@dataclass(frozen=True)
class Gated:
    """The activation of one linear layer times another one, then a third; SwiGLU with silu."""

    norm: bool = False
    """A norm of the products before the third layer, as in UniViTAR."""


MlpKind = Plain | Gated


@dataclass(frozen=True)
class Tubelets:
    """Clips as tubelets of one or several shapes in one row, all embedded by the kernel of `ModelConfig.patch`: frames,
    height and width. The position embedding is that of a frame; a table of time is added.   [NaViT, §3.6]"""

    shapes: tuple[tuple[int, int, int], ...] = ()
    """Frames, height and width of each shape, in frames and pixels; empty: the shape of the kernel alone."""
    strides: tuple[tuple[int, int, int], ...] = ()
    """Distances of neighboring tubelets of each shape along the three axes; empty: the shapes themselves."""
    size: int = 16
    """Entries of the table of time, in units of the kernel; with absolute coordinates the longest clip."""
    coordinate: Literal["absolute", "fractional"] = "absolute"
    """absolute: frames since the start of the clip, in units of the kernel; fractional: the share of the clip."""
    inflation: Literal["central", "mean"] = "central"
    """Kernel of clips made from that of an image model (`--start`): its weights in the central frame, or the same share
    of them in each frame."""

    def __post_init__(self):
        for name in ("shapes", "strides"):
            check_in("model.tubelets", "[1, 65536]", **{name: tuple(n for shape in getattr(self, name) for n in shape)})
        check_in("model.tubelets", "[1, 65536]", size=self.size)
        check(
            not self.strides or len(self.strides) == len(self.shapes),
            f"model.tubelets.strides={self.strides} must be three numbers for each of the shapes {self.shapes}",
        )

    @property
    def longest(self) -> int:
        """The longest clip with a position for every tubelet, in units of the kernel."""
        return self.size if self.coordinate == "absolute" else UNLIMITED


@dataclass(frozen=True)
class Flexi:
    """Patches of several sizes, all embedded by the kernel of `ModelConfig.patch`, PI-resized.   [FlexiViT]"""

    sizes: tuple[int, ...] = ()
    """Sides of the square patches, in pixels."""
    interpolation: Interpolation = FLEXIVIT
    """Interpolation of PI-resize; it belongs to the weights."""

    def __post_init__(self):
        check_in("model.flexi", "[1, 4096]", sizes=self.sizes)
        check(
            len({*self.sizes}) == len(self.sizes),
            f"model.flexi.sizes={self.sizes} must be different numbers of pixels",
        )


@dataclass(frozen=True)
class ModelConfig:
    """Architecture and numerics of a NaViT."""

    patch: tuple[int, ...] = (16, 16)
    """Height and width of a patch in pixels; with `flexi`, of the stored kernel; with `tubelets`, frames before them.
    (1,): the model reads text."""
    channels: int = 3
    """Channels of an image: 1 gray, 3 RGB, 4 RGBA, or any number of bands. Of text, which is one-hot: the size of the
    vocabulary."""
    width: int = 192
    """Channels of a token, a multiple of `heads` where `head_size` is left open."""
    depth: int = 12
    """Number of transformer blocks."""
    heads: int = 3
    """Number of attention heads per block."""
    mlp_width: int = 768
    """Hidden channels of the MLP of a block."""
    posembed: PosEmbed = field(default_factory=Factorised)
    """Position embedding that is added to the tokens."""
    flexi: Flexi | None = None
    """Patches of several sizes; none: one size."""
    tubelets: Tubelets | None = None
    """Clips instead of images, as tubelets; none: images."""
    levels: Levels | None = None
    """Vectors for the sizes of patches within an image; none: no vectors."""
    detail: Detail | None = None
    """What the parts of merged patches say; none: merged patches are reduced, and no more is read of them."""
    areas: AreaWeights | None = None
    """Merged patches count as often as the patches they stand for; none: every token counts once."""
    mean: tuple[float, ...] = (0.5,)
    """Mean of pixels in [0, 1], subtracted before division by `std`: one number, or one per channel."""
    std: tuple[float, ...] = (0.5,)
    """Standard deviation of pixels, by which they are divided: one number, or one per channel."""
    rope: Rope | None = None
    """Rotary positions, instead of or in addition to `posembed`."""
    fuzzy: Fuzzy | None = None
    """Random moves of coordinates in training; none: exact coordinates."""
    local: Local | None = None
    """Attention within windows of an image in most blocks; none: to the whole image."""
    stages: Stages | None = None
    """A hierarchy of stages, with fewer tokens from stage to stage; none: as many tokens in all blocks."""
    registers: int = 0
    """Learned tokens appended to every image."""
    pool: Pool = Map()
    """Pooling of the tokens of an image to one vector."""
    norm: Literal["layer", "rms"] = "layer"
    """Normalization before attention, MLP and pooling: LayerNorm or RMSNorm."""
    qk_norm: Literal["layer", "rms", "whole", "none"] = "layer"
    """Normalization of queries and keys in each head; none turns it off. whole: RMSNorm of all heads together, after
    the rotation, as in UniViTAR."""
    logit_scale: Literal["sqrt", "one"] = "sqrt"
    """Scale of attention logits: 1/√(size of a head), or 1 as in some public code with QK-norm."""
    head_size: int | None = None
    """Channels of a head; auto: width / heads."""
    biases: bool = False
    """Biases in attention and norms, as in ViT; MLP, patch embedding and head always have them."""
    eps: float = 1e-6
    """ε of norms, added to the variance."""
    embedding_norm: bool = False
    """A norm of patches and registers before the first block, as in CLIP."""
    final_norm: bool = True
    """A norm after the last block."""
    mlp: MlpKind = Plain()
    """Two linear layers, or gated ones."""
    activation: Literal["gelu_tanh", "gelu", "quick_gelu", "silu"] = "gelu_tanh"
    """Activation of the MLP: GELU by its tanh approximation or exact, quick-GELU, SiLU."""
    layer_scale: float = 0.0
    """Initial value of LayerScale, a learned gain per channel on each residual; 0: no LayerScale."""
    stochastic_depth: float = 0.0
    """Probability that an image skips the last block in training; linear from 0 at the first block."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """dtype of activations; parameters are float32. auto: float32 on a CPU, bfloat16 on accelerators."""
    attention: Backend = Auto()
    """Attention backend; all compute the same function."""
    remat: bool = False
    """Recompute each block in the backward pass: less memory, about 1.25 times the time."""
    unroll: int = 1
    """Blocks per iteration of the scan: more is a longer compilation, sometimes a faster step."""

    def __post_init__(self):
        # Far beyond any model: a file from elsewhere is refused before anything is allocated.
        check_in("model", "[1, 4096]", patch=self.patch, depth=self.depth, unroll=self.unroll)
        check_in("model", "[1, 65536]", channels=self.channels, heads=self.heads, head_size=self.head_size)
        check_in("model", "[1, 1048576]", width=self.width, mlp_width=self.mlp_width)
        check_in("model", "[0, 4096]", registers=self.registers)
        check_in("model", "[-1000000, 1000000]", mean=self.mean)
        check_in("model", "[0.000001, 1000000]", std=self.std)
        check_in("model", "[0, 1000000]", layer_scale=self.layer_scale, eps=self.eps)
        check_in("model", "[0, 1)", stochastic_depth=self.stochastic_depth)
        check(
            len(self.patch) >= 2 or self.patch == (1,),
            f"model.patch={self.patch} must be a height and a width in pixels, such as 16 16, or 1 for text",
        )
        check(
            self.tubelets is None or len(self.patch) == 3,
            f"model.tubelets need a patch of frames, height and width, such as 2 16 16: patch is {self.patch}",
        )
        check_exclusive(self)
        check(
            len({self.channels * prod(patch) for patch in self.patches}) == len(self.patches),
            f"model.flexi.sizes: two of the patches {self.patches} have as many numbers, so the shape of a row does "
            "not identify the patch size: leave one out",
        )
        for name in ("mean", "std"):
            check(
                len(getattr(self, name)) in (1, self.channels),
                f"model.{name} holds one number, or one for each of {self.channels} channels, "
                f"got {len(getattr(self, name))}",
            )
        check(
            self.head_size is not None or self.width % self.heads == 0,
            f"model.width={self.width} must be a multiple of heads={self.heads}, or set model.head_size",
        )
        check_posembed(self.posembed, self.width)
        check(
            not isinstance(self.pool, Token) or self.registers >= 1,
            "model.pool=Token reads the first register: set model.registers to at least 1",
        )
        check_local(self.local, self.depth, self.tubelet_shapes, self.tubelet_strides)
        check_fuzzy(self.fuzzy, self.posembed)
        check_stages(self.stages, self.width, self.heads, self.depth)
        check(
            self.rope is None or self.head_channels % (2 * self.rope.axes) == 0,
            f"model.rope rotates pairs of channels on each axis: the head size {self.head_channels} must be a multiple "
            f"of {2 * (self.rope.axes if self.rope else 2)}: change model.width, heads or head_size",
        )

    @property
    def head_channels(self) -> int:
        """Channels of a head, K."""
        return self.width // self.heads if self.head_size is None else self.head_size

    @property
    def patch_dim(self) -> int:
        """Length of a flattened patch, P."""
        return self.channels * prod(self.patch)

    @property
    def out_width(self) -> int:
        """Channels of encoded tokens and of pooled vectors: the width of the last stage."""
        return self.width if self.stages is None else self.stages.widths_of(self.width)[-1]

    @property
    def reads_text(self) -> bool:
        """Whether rows hold token ids instead of patches."""
        return len(self.patch) == 1

    @property
    def axes(self) -> int:
        """Coordinates of a place: the last ones of a token; before them stand shape and time of clips, or a level."""
        return getattr(self.posembed, "axes", self.rope.axes if self.rope else 2)

    @property
    def spatial_patch(self) -> tuple[int, ...]:
        """Height and width of a patch, without frames."""
        return self.patch[-2:]

    @property
    def tubelet_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Frames, height and width of tubelets; none for a model of images."""
        return () if self.tubelets is None else self.tubelets.shapes or (self.patch,)

    @property
    def tubelet_strides(self) -> tuple[tuple[int, ...], ...]:
        """Distances of neighboring tubelets of each shape."""
        return () if self.tubelets is None else self.tubelets.strides or self.tubelet_shapes

    @property
    def patches(self) -> tuple[tuple[int, ...], ...]:
        """Patch sizes of rows that the model reads; the first is the size of the stored kernel."""
        sizes = () if self.flexi is None else self.flexi.sizes
        return self.patch, *((size, size) for size in sizes if (size, size) != self.patch)

    @property
    def interpolation(self) -> Interpolation:
        """Interpolation of PI-resize."""
        return FLEXIVIT if self.flexi is None else self.flexi.interpolation

    @property
    def sizes(self) -> dict[str, Any]:
        """Arguments of the cost formulas: sizes, the name of the pool, FLOPs of the position embedding per token."""
        names = ("patch_dim", "width", "depth", "mlp_width", "registers")
        time = self.tubelets.size + len(self.tubelet_shapes) if self.tubelets else 0
        time += self.levels.scales - 1 if self.levels else 0
        positions = int(2 * (self.posembed.products + time) * self.width)
        options = {"pool": type(self.pool).__name__, "positions": positions}
        if isinstance(self.mlp, Gated):
            options["mlp_width"] = 3 * self.mlp_width // 2  # three matrices instead of two
        if self.head_size is not None:
            options["inner"] = self.heads * self.head_size
        if self.reads_text:
            options["patch_dim"] = 0  # ids select rows of a table
        if self.stages is not None:
            options["stages"] = self.stages.sizes(self.width, options.get("mlp_width", self.mlp_width))
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

    Raises ConfigError on an unknown name.

        variant("B/16").width  # 768
    """
    size, _, patch = name.partition("/")
    check(
        size in VARIANTS and patch.isdecimal(),
        f"no variant {name!r}: write one of {', '.join(VARIANTS)} and a patch, as in B/16",
    )
    width, depth, heads, mlp_width = VARIANTS[size]
    return ModelConfig((int(patch), int(patch)), width=width, depth=depth, heads=heads, mlp_width=mlp_width)
