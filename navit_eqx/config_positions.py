"""Position embeddings and rotary positions of a model configuration, as frozen dataclasses."""

from dataclasses import dataclass
from typing import Literal

from .errors import check, check_in

Coordinate = Literal["absolute", "fractional", "fractional_aspect"]
UNLIMITED = 2**31 - 1  # longest side of an embedding without a table that ends: grids are int32


@dataclass(frozen=True)
class Factorised:
    """Positions from a learned table per axis; the default is the best in [NaViT, table 3]."""

    size: int = 64
    """Entries per axis, M; with absolute coordinates the longest side, in patches, that has a position."""
    coordinate: Coordinate = "absolute"
    """absolute: the patch index; fractional: its share of each side; fractional_aspect: of the longest side."""
    feature: Literal["learned", "resized"] = "learned"
    """learned: linear between entries; resized: antialiased too where patches are further apart than entries."""
    combine: Literal["sum", "stack", "product"] = "sum"
    """How the embeddings of the axes are combined to one: added, concatenated, or multiplied."""
    axes: int = 2
    """Axes of a position: 2 for images, 1 for text."""

    def __post_init__(self):
        check_entries(self)

    @property
    def longest_side(self) -> int:
        """The largest grid side, in patches, at which every patch has a position."""
        return self.size if self.coordinate == "absolute" else UNLIMITED

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
    """Positions from one learned table over all axes: by default the table of a ViT, resized to each image;
    with "absolute" and "learned" the 2-D table of Pix2Struct.
    """

    size: int = 16
    """Entries per axis, M; with absolute coordinates the longest side, in patches, that has a position."""
    coordinate: Coordinate = "fractional"
    """absolute: the patch index; fractional: its share of each side; fractional_aspect: of the longest side."""
    feature: Literal["learned", "resized"] = "resized"
    """learned: linear between entries; resized: antialiased too where patches are further apart than entries."""
    axes: int = 2
    """Axes of a position: 2 for images, 1 for text."""
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
        return self.size if self.coordinate == "absolute" else UNLIMITED


@dataclass(frozen=True)
class Sinusoidal:
    """Positions from fixed sines and cosines of each axis; no parameters, no largest side."""

    size: int = 64
    """Units that a side spans in fractional coordinates; absolute ones count patches."""
    coordinate: Coordinate = "absolute"
    """absolute: the patch index; fractional: its share of each side; fractional_aspect: of the longest side."""
    combine: Literal["stack", "sum", "product"] = "stack"
    """How the embeddings of the axes are combined to one: added, concatenated, or multiplied."""
    axes: int = 2
    """Axes of a position: 2 for images, 1 for text."""
    longest_side = UNLIMITED

    def __post_init__(self):
        check_entries(self)

    @property
    def pieces(self) -> int:
        """Equal parts that are concatenated to the width: sine and cosine, of every axis if stacked."""
        return 2 * self.axes if self.combine == "stack" else 2

    @property
    def products(self) -> float:
        """Multiply-adds of a token's position, for each channel."""
        return self.axes / self.pieces


@dataclass(frozen=True)
class Fourier:
    """Positions from sines and cosines of learned linear combinations of all axes; no largest side."""

    size: int = 64
    """Units that a side spans in fractional coordinates; absolute ones count patches."""
    coordinate: Coordinate = "absolute"
    """absolute: the patch index; fractional: its share of each side; fractional_aspect: of the longest side."""
    scale: float = 0.2
    """Standard deviation of the initial frequencies, in radians per unit."""
    axes: int = 2
    """Axes of a position: 2 for images, 1 for text."""
    pieces = 2
    longest_side = UNLIMITED

    def __post_init__(self):
        check_in("model.posembed", "(0, 1000000]", scale=self.scale)
        check_entries(self)

    @property
    def products(self) -> float:
        """Multiply-adds of a token's position, for each channel."""
        return self.axes / self.pieces


@dataclass(frozen=True)
class NoPositions:
    """No position embedding is added; for models with rotary positions (`rope`)."""

    longest_side = UNLIMITED
    products = 0.0


@dataclass(frozen=True)
class Table:
    """One learned square table, read as an imported tower resizes its own to each image."""

    size: int = 16
    """Entries per side, M."""
    kernel: Literal["linear", "linear_antialias", "cubic", "cubic_antialias", "bucket"] = "cubic"
    """linear, cubic (Keys, a = −¾): edges repeated. With antialias (Keys, a = −½): widened where the image has fewer
    patches, no weight beyond an edge. bucket: one entry, ⌊x M / n⌋ in float32."""
    grid: Literal["half_pixel", "corners"] = "half_pixel"
    """half_pixel: the edges of image and table coincide; corners: the first and last patch read the first and last
    entry."""
    aspect: bool = False
    """Resize to the square around the image, of which the image takes its part from the top left."""
    axes = 2
    pieces = 1
    longest_side = UNLIMITED

    def __post_init__(self):
        check_in("model.posembed", "[1, 65536]", size=self.size)

    @property
    def products(self) -> float:
        """Multiply-adds of a token's position, for each channel."""
        return self.size**2


PosEmbed = Factorised | Joint | Sinusoidal | Fourier | Table | NoPositions


def check_entries(posembed: Factorised | Joint | Sinusoidal | Fourier) -> None:
    """Raises ConfigError where size or axes are out of range."""
    check_in("model.posembed", "[1, 65536]", size=posembed.size)
    check_in("model.posembed", "[1, 8]", axes=posembed.axes)


def check_posembed(posembed: PosEmbed, width: int) -> None:
    """Raises ConfigError where the width is not divisible by the number of concatenated parts."""
    if isinstance(posembed, NoPositions):
        return
    check(
        width % posembed.pieces == 0,
        f"model.width={width} must be divisible by {posembed.pieces}: {type(posembed).__name__} concatenates "
        f"{posembed.pieces} equal parts",
    )


@dataclass(frozen=True)
class Fuzzy:
    """Coordinates of tokens are moved at random in training; in evaluation they are exact.   [ViTAR, DINOv3]"""

    jitter: float = 0.49
    """Largest noise of each token along each axis, in patches; with ½ rounding would read beyond the end of a table."""
    shift: float = 0.0
    """Largest shift of all tokens of an image along each axis, in halves of its side; not with learned tables."""
    rescale: float = 1.0
    """Largest factor by which an image is enlarged or reduced about its center, log-uniform; not with learned
    tables."""

    def __post_init__(self):
        check_in("model.fuzzy", "[0, 0.49]", jitter=self.jitter)
        check_in("model.fuzzy", "[0, 1]", shift=self.shift)
        check_in("model.fuzzy", "[1, 16]", rescale=self.rescale)


def check_fuzzy(fuzzy: Fuzzy | None, posembed: PosEmbed) -> None:
    """Raises ConfigError where positions cannot be read between patches."""
    if fuzzy is None:
        return
    check(not isinstance(posembed, Table), "model.fuzzy: tables of imported towers are read at whole patches")
    ends = isinstance(posembed, Factorised | Joint)
    check(
        not ends or fuzzy.shift == 0 and fuzzy.rescale == 1,
        "model.fuzzy.shift and rescale leave a learned table: 0 and 1, or positions without one",
    )


@dataclass(frozen=True)
class Rope:
    """Rotary positions: patch coordinates rotate queries and keys; each axis rotates its share of a head."""

    theta: float = 100.0
    """Ratio of the highest frequency to the lowest."""
    axes: int = 2
    """Axes of a position: 2 for images, 1 for text."""
    coordinate: Literal["absolute", "centered"] = "absolute"
    """absolute: the patch index; centered: one turn from the center of the image to each of its edges."""
    frequencies: Literal["shared", "interleaved"] = "shared"
    """shared: every axis has the same ones; interleaved: the axes take turns along one series, as in Pixtral."""

    def __post_init__(self):
        check_in("model.rope", "[1, 1000000000]", theta=self.theta)
        check_in("model.rope", "[1, 8]", axes=self.axes)
