"""Position embedding as one sentence: a *coordinate*, a *feature* of it, and a way to *combine* the axes.

                       each axis by itself, combined     all axes at once
    a learned table    factorised                        joint
    waves              sinusoidal (fixed)                fourier (learned frequencies)

A coordinate u is the center of a patch in units of table entries, u = (x + ½) · step − ½. The three kinds differ in
`step`, the distance of neighboring patches in entries. Waves have no table; their u has the same units.

The position of a token depends only on its coordinates and on the grid of its image, so packing, token order and
token dropping cannot change it. `grids` holds the grid of each token's image.
"""

import numpy as np
from jaxtyping import Float, Num

from .tables import table

WAVELENGTHS = 10_000  # slowest over fastest sinusoid   [Vaswani et al., arXiv:1706.03762, §3.5]


def absolute(grids: Num[np.ndarray, "T A"], size: int) -> Float[np.ndarray, "T A"]:
    """Step 1: u is the patch index itself.   [NaViT, §2.1]"""
    return np.ones(grids.shape)


def fractional(grids: Num[np.ndarray, "T A"], size: int) -> Float[np.ndarray, "T A"]:
    """Step M/n: each side of the image, of any length n, spans the table.   [NaViT, §2.1]"""
    return size / np.maximum(grids, 1)


def fractional_aspect(grids: Num[np.ndarray, "T A"], size: int) -> Float[np.ndarray, "T A"]:
    """Step M/max n: the longest side spans the table, the others a part of it; aspect is kept.   [NaViT, fig. 16]"""
    return np.broadcast_to(size / np.maximum(grids, 1).max(-1, keepdims=True), grids.shape)


def locate(
    coordinate: str, coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"], size: int
) -> tuple[Float[np.ndarray, "T A"], Float[np.ndarray, "T A"]]:
    """(u, step) with u = (x + ½) · step − ½, in table entries.

    Choice: half-pixel centers, so that an image of M patches per side reads the table without interpolation.
    """
    step = COORDINATES[coordinate](grids, size)
    return (coords + 0.5) * step - 0.5, step


def tent(u: Float[np.ndarray, " T"], size: int, radius: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T M"]:
    """Interpolation weights of the entries m around u: max(0, 1 − |u − m| / radius), normalized to Σ_m = 1.

    u is clamped to the first and last entry.
    """
    distance = np.abs(np.clip(u, 0, size - 1)[:, None] - np.arange(size))
    weights = np.maximum(0.0, 1.0 - distance / radius[:, None])
    return weights / weights.sum(-1, keepdims=True)


def read(
    table: Float[np.ndarray, "*M W"], u: Float[np.ndarray, "T A"], radius: Float[np.ndarray, "T A"]
) -> Float[np.ndarray, "T W"]:
    """The table interpolated at u: Σ_m Π_a tent(u_a)_m table_m, over all entries m = (m₁, …, m_A).

    More than half an entry beyond an end the result is NaN, so that a position outside the table cannot pass unnoticed.
    """
    sizes = table.shape[:-1]
    weights = np.ones((len(u), 1))
    for size, u_a, radius_a in zip(sizes, u.T, radius.T, strict=True):
        weights = np.einsum("tn,tm->tnm", weights, tent(u_a, size, radius_a)).reshape(len(u), -1)
    inside = np.all((u >= -0.5) & (u <= np.array(sizes) - 0.5), axis=-1)
    return np.where(inside[:, None], weights @ table.reshape(-1, table.shape[-1]), np.nan)


def learned(
    table: Float[np.ndarray, "*M W"], u: Float[np.ndarray, "T A"], step: Float[np.ndarray, "T A"]
) -> Float[np.ndarray, "T W"]:
    """The table at u, by linear interpolation between entries.   [NaViT, §2.1]"""
    return read(table, u, np.ones_like(step))


def resized(
    table: Float[np.ndarray, "*M W"], u: Float[np.ndarray, "T A"], step: Float[np.ndarray, "T A"]
) -> Float[np.ndarray, "T W"]:
    """The table resized to the grid of the image and read at u: linear, antialiased where step > 1.   [ViT, §3.2]

    With fractional coordinates it equals resizing the full table and picking (y, x), but it needs only the token's own
    coords and grid.   Choice: linear and antialiased; the papers name no filter.
    """
    return read(table, u, np.maximum(1.0, step))


def waves(frequencies: Float[np.ndarray, "A K"], u: Float[np.ndarray, "T A"]) -> Float[np.ndarray, "T 2*K"]:
    """(sin z, cos z) with z = u · frequencies, in radians; defined for every u.   [Tancik et al., arXiv:2006.10739]"""
    z = np.einsum("ta,ak->tk", u, frequencies)
    return np.concatenate([np.sin(z), np.cos(z)], axis=-1)


def geometric(width: int) -> Float[np.ndarray, "1 K"]:
    """Frequencies 10000^(−k/K), k < K = W/2, for W channels of one axis.   [Vaswani et al., §3.5]"""
    return WAVELENGTHS ** (-np.arange(0, width, 2)[None] / width)


def add(parts: list[Float[np.ndarray, "T D"]]) -> Float[np.ndarray, "T D"]:
    """Sum over the axes: the best in [NaViT, table 3]."""
    return sum(parts[1:], start=parts[0])


def stack(parts: list[Float[np.ndarray, "T W"]]) -> Float[np.ndarray, "T D"]:
    """Concatenation over the axes, W = D/A channels each."""
    return np.concatenate(parts, axis=-1)


def multiply(parts: list[Float[np.ndarray, "T D"]]) -> Float[np.ndarray, "T D"]:
    """Elementwise product over the axes."""
    return np.prod(parts, axis=0)


COORDINATES = {"absolute": absolute, "fractional": fractional, "fractional_aspect": fractional_aspect}
FEATURES = {"learned": learned, "resized": resized}
COMBINE = {"sum": add, "stack": stack, "product": multiply}


def by_axis(x: Float[np.ndarray, "T A"]) -> list[Float[np.ndarray, "T 1"]]:
    """The columns of x, one per axis."""
    return np.split(x, x.shape[-1], axis=-1)


def factorised(params: dict, coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"]) -> Float[np.ndarray, "T D"]:
    """combine_a feature(table_a, u_a).   [NaViT, §2.1]

    Tables are A M W: one per axis. The default (absolute, learned, sum) is the best in [NaViT, table 3].
    """
    tables, feature = params["tables"], FEATURES[params["feature"]]
    u, step = locate(params["coordinate"], coords, grids, tables.shape[1])
    parts = [feature(*axis) for axis in zip(tables, by_axis(u), by_axis(step), strict=True)]
    return COMBINE[params["combine"]](parts)


def joint(params: dict, coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"]) -> Float[np.ndarray, "T D"]:
    """feature(table, u) with one table of M^A entries.

    Absolute and learned: a vector for every pair (y, x), as in Pix2Struct. Fractional and resized: the square table
    of a ViT, resized to each image; on a grid of M x M it is read by raster index, y M + x.   [NaViT, table 3]
    """
    table = params["table"]
    u, step = locate(params["coordinate"], coords, grids, table.shape[0])
    return FEATURES[params["feature"]](table, u, step)


def sinusoidal(params: dict, coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"]) -> Float[np.ndarray, "T D"]:
    """combine_a waves(geometric frequencies, u_a), without parameters.   [NaViT, table 3]

    `width` is W, the channels per axis; `size` is M, the units that a side spans in fractional coordinates.
    """
    u, _ = locate(params["coordinate"], coords, grids, params["size"])
    return COMBINE[params["combine"]]([waves(geometric(params["width"]), u_a) for u_a in by_axis(u)])


def fourier(params: dict, coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"]) -> Float[np.ndarray, "T D"]:
    """waves(learned frequencies A K, K = D/2, u): each wave has its own direction.   [NaViT, table 3]"""
    u, _ = locate(params["coordinate"], coords, grids, params["size"])
    return waves(params["frequencies"], u)


KINDS = {"Factorised": factorised, "Joint": joint, "Fourier": fourier, "Sinusoidal": sinusoidal, "Table": table}


def posembed(params: dict, coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"]) -> Float[np.ndarray, "T D"]:
    """The position embedding named by `params["kind"]`."""
    return KINDS[params["kind"]](params, coords, grids)
