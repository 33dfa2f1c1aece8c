"""Position tables of imported towers: one square table per image size, read token by token.

A tower resizes its table to the grid of an image, by a routine of its library. Row x of that resize depends on (x, n)
alone, so each token reads the table by the weights of its own row: those of `resize.resize_matrix`, without the resize.
"""

import numpy as np
from jaxtyping import Float, Num

from .resize import keys, triangle

RADII = {"linear": 1, "cubic": 2}
FILTERS = {"linear": triangle, "cubic": lambda x: keys(x, -0.75)}  # of libraries without antialias
SMOOTH = {"linear": triangle, "cubic": lambda x: keys(x, -0.5)}  # and with it


def half_pixel(x: Num[np.ndarray, " T"], n: Num[np.ndarray, " T"], size: int) -> Float[np.ndarray, " T"]:
    """u = (x + ½) M/n − ½: the edges of the image lie on the edges of the table."""
    return (x + 0.5) * size / n - 0.5


def corners(x: Num[np.ndarray, " T"], n: Num[np.ndarray, " T"], size: int) -> Float[np.ndarray, " T"]:
    """u = x (M − 1)/(n − 1), 0 where n = 1: the first and last patch read the first and last entry."""
    return x * (size - 1) / np.maximum(n - 1, 1)


GRIDS = {"half_pixel": half_pixel, "corners": corners}


def interpolated(u: Float[np.ndarray, " T"], size: int, method: str) -> Float[np.ndarray, "T M"]:
    """Weights of the entries around u; entries beyond an end are that end."""
    radius = RADII[method]
    taps = np.floor(u).astype(int)[:, None] + np.arange(1 - radius, radius + 1)
    weights = FILTERS[method](u[:, None] - taps)
    entry = np.clip(taps, 0, size - 1)[:, :, None] == np.arange(size)
    return (weights[:, :, None] * entry).sum(1)


def antialiased(
    u: Float[np.ndarray, " T"], size: int, method: str, step: Float[np.ndarray, " T"]
) -> Float[np.ndarray, "T M"]:
    """Weights by the filter widened to max(1, step); entries beyond an end have no weight, the others sum to 1."""
    width = np.maximum(1.0, step)[:, None]
    weights = SMOOTH[method]((u[:, None] - np.arange(size)) / width)
    return weights / weights.sum(-1, keepdims=True)


def bucketed(x: Num[np.ndarray, " T"], n: Num[np.ndarray, " T"], size: int) -> Float[np.ndarray, "T M"]:
    """The entry ⌊x M / n⌋ alone, as computed in float32 by [NaViT in Idefics2]: off by one for a few n.

    1 / n, its product with x, and the boundaries m / M are rounded; boundaries up to the product are counted.
    """
    fraction = np.minimum(x.astype(np.float32) * (np.float32(1) / n.astype(np.float32)), np.float32(1 - 1e-6))
    boundaries = (1 / size + np.arange(size - 1) * (1 / size)).astype(np.float32)
    return ((fraction[:, None] >= boundaries).sum(-1)[:, None] == np.arange(size)).astype(float)


def weights_of(params: dict, x: Num[np.ndarray, " T"], n: Num[np.ndarray, " T"], size: int) -> Float[np.ndarray, "T M"]:
    """Weights of the entries of one axis, by the kernel and the grid of the table."""
    method, _, smooth = params["kernel"].partition("_")
    if method == "bucket":
        return bucketed(x, n, size)
    u = GRIDS[params["grid"]](x, n, size)
    return antialiased(u, size, method, size / n) if smooth else interpolated(u, size, method)


def table(params: dict, coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"]) -> Float[np.ndarray, "T D"]:
    """Σ_ab weights(y)_a weights(x)_b table_ab; with `aspect` the table is resized to the square around the image."""
    entries = params["entries"]
    n = np.maximum(grids, 1)
    n = np.broadcast_to(n.max(-1, keepdims=True), n.shape) if params["aspect"] else n
    rows, columns = (weights_of(params, coords[:, a], n[:, a], size) for a, size in enumerate(entries.shape[:2]))
    return np.einsum("ta,tb,abd->td", rows, columns, entries)
