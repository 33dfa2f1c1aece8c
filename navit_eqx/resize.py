"""Any patch size with one set of weights: PI-resize of the kernel, and its adjoint for patches.   [FlexiViT, PI-resize]

Sizes are static: their matrices are computed on the host in float64, once for each pair of sizes, and are constants of
a compiled program.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, floor

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .errors import check


@dataclass(frozen=True)
class Interpolation:
    """Interpolation between samples: method "linear", "cubic" or "cubic75", edges "clamp" or "renormalize".

    Raises ConfigError on another method or edges.
    """

    method: str = "linear"
    """Filter between samples: linear, cubic (a = −0.5) or cubic75 (a = −0.75)."""
    antialias: bool = False
    """Widen the filter where an axis shrinks, so that no sample is skipped."""
    edges: str = "clamp"
    """Samples beyond an edge: clamp repeats the last one, renormalize leaves them out."""

    def __post_init__(self):
        known = self.method in METHODS and self.edges in EDGES
        check(known, f"{self}: method is one of {', '.join(METHODS)}, edges one of {', '.join(EDGES)}")


def triangle(x: float) -> float:
    """max(0, 1 − |x|): the filter of linear interpolation."""
    return max(0.0, 1.0 - abs(x))


def keys(x: float, a: float) -> float:
    """The filter of cubic convolution; a is its slope at |x| = 1.   [Keys 1981, eq. 4]"""
    x = abs(x)
    if x < 1:
        return float(np.polyval([a + 2, -(a + 3), 0, 1], x))
    return float(np.polyval([a, -5 * a, 8 * a, -4 * a], x)) if x < 2 else 0.0


METHODS = {"linear": triangle, "cubic": lambda x: keys(x, -0.5), "cubic75": lambda x: keys(x, -0.75)}
RADIUS = {"linear": 1, "cubic": 2, "cubic75": 2}
EDGES = ("clamp", "renormalize")

FLEXIVIT = Interpolation()
TIMM = Interpolation("cubic", antialias=True, edges="renormalize")


def resize_matrix(old: int, new: int, interpolation: Interpolation = FLEXIVIT) -> Float[np.ndarray, "q p"]:
    """R: `old` samples of one axis → `new` ones, half-pixel centers; computed tap by tap."""
    width = max(old / new, 1.0) if interpolation.antialias else 1.0
    radius = RADIUS[interpolation.method] * width
    matrix = np.zeros((new, old))
    for i in range(new):
        center = (i + 0.5) * old / new - 0.5
        for tap in range(floor(center - radius), ceil(center + radius) + 1):
            weight = METHODS[interpolation.method]((tap - center) / width)
            if interpolation.edges == "clamp":
                matrix[i, min(max(tap, 0), old - 1)] += weight
            elif 0 <= tap < old:
                matrix[i, tap] += weight
    return matrix / matrix.sum(axis=1, keepdims=True)


@cache
def pi_matrix(old: int, new: int, interpolation: Interpolation = FLEXIVIT) -> Float[np.ndarray, "q p"]:
    """K = (Rᵀ)⁺ by the normal equations: R (RᵀR)⁻¹ when enlarging, (RRᵀ)⁻¹ R when shrinking."""
    r = resize_matrix(old, new, interpolation)
    matrix = np.linalg.solve(r.T @ r, r.T).T if new >= old else np.linalg.solve(r @ r.T, r)
    matrix.setflags(write=False)
    return matrix


def along_axes(matrices: Sequence[Float[np.ndarray, "_ _"]], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Apply one matrix along each leading axis, at full precision: accelerators would round the operands."""
    for axis, matrix in enumerate(matrices):
        y = jnp.tensordot(jnp.asarray(matrix, x.dtype), x, (1, axis), precision="highest")
        x = jnp.moveaxis(y, 0, axis)
    return x


def map_columns(
    columns: Float[Array, "P N"], size: Sequence[int], matrices: Sequence[Float[np.ndarray, "_ _"]]
) -> Float[Array, "Q N"]:
    """`along_axes` for the columns of a matrix, each a flattened kernel or patch; channel by channel."""
    count = columns.shape[1]
    return along_axes(matrices, columns.reshape(*size, -1, count)).reshape(-1, count)


def resize_image(
    image: Float[Array, "*space C"], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[Array, "*new C"]:
    """R x Rᵀ for each channel: the image at `size` (height, width)."""
    return along_axes([resize_matrix(old, new, interpolation) for old, new in zip(image.shape, size)], image)


def pi_resize(
    w: Float[Array, "P D"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[Array, "Q D"]:
    """ŵ = K w Kᵀ, the kernel for patches of `size`.   [FlexiViT, PI-resize]

    PI-resizes do not compose: always start from the stored kernel of the base size.
    """
    return map_columns(w, base, [pi_matrix(old, new, interpolation) for old, new in zip(base, size)])


def adjoint_patches(
    patches: Float[Array, "T Q"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[Array, "T P"]:
    """Kᵀ x K: normalized patches of `size` mapped to the base size, where w gives the same tokens as ŵ on x."""
    return map_columns(patches.T, size, [pi_matrix(old, new, interpolation).T for old, new in zip(base, size)]).T
