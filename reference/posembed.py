"""Position embedding as one sentence: a *coordinate*, a *feature* of it, and a way to *combine* the axes.

Nothing is ever inferred from which tokens are present: a token's position comes from its place in the grid
of its image, so packing, order and dropping cannot change it.
"""

import numpy as np
from jaxtyping import Float, Int


def absolute(coords: Int[np.ndarray, "T A"], grids: Int[np.ndarray, "T A"], size: int) -> Float[np.ndarray, "T A"]:
    """The patch index itself.   [NaViT, §2.1]"""
    return coords.astype(float)


def fractional(coords: Int[np.ndarray, "T A"], grids: Int[np.ndarray, "T A"], size: int) -> Float[np.ndarray, "T A"]:
    """Centre of the patch as a fraction of its side, in table units: (x + ½)/n · M − ½.   [NaViT, §2.1]

    Choice: half-pixel centres, so that an image of M patches a side reads the table as it stands.
    """
    return (coords + 0.5) / np.maximum(grids, 1) * size - 0.5


def learned(table: Float[np.ndarray, "M D"], u: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T D"]:
    """The table at u, linear between entries: Σ_m max(0, 1 − |u − m|) table_m.   [NaViT, §2.1]

    Within half an entry beyond the ends the last entry holds. Further out there is no embedding:
    the result is NaN, so that a position beyond the table can never pass unnoticed.
    """
    last = len(table) - 1
    inside = (u >= -0.5) & (u <= last + 0.5)
    weights = np.maximum(0.0, 1.0 - np.abs(np.clip(u, 0, last)[:, None] - np.arange(last + 1)))
    return np.where(inside[:, None], weights @ table, np.nan)


def add(parts: list[Float[np.ndarray, "T D"]]) -> Float[np.ndarray, "T D"]:
    """Sum over the axes: the best of the paper's table 3."""
    return sum(parts[1:], start=parts[0])


COORDINATES = {"absolute": absolute, "fractional": fractional}
FEATURES = {"learned": learned}
COMBINE = {"sum": add}


def factorised(params: dict, coords: Int[np.ndarray, "T A"], grids: Int[np.ndarray, "T A"]) -> Float[np.ndarray, "T D"]:
    """combine_a feature(table_a, coordinate_a); `grids` is the grid of each token's image.   [NaViT, §2.1]

    Tables are A M D: one per axis. The default (absolute, learned, sum) is the best of the paper's table 3.
    """
    tables = params["tables"]
    u = COORDINATES[params["coordinate"]](coords, grids, tables.shape[1])
    feature = FEATURES[params["feature"]]
    return COMBINE[params["combine"]]([feature(table, u[:, a]) for a, table in enumerate(tables)])
