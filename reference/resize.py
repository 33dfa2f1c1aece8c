"""Any patch size with one set of weights: resizing as a matrix, PI-resize of the kernel, and its adjoint.

Resizing is linear, x ↦ R x along each axis. A kernel w trained at the base size is resized to ŵ = K w Kᵀ, K = (Rᵀ)⁺,
for patches of another size. Equally, a patch of that size can be mapped to the base size:

    ⟨x, K w Kᵀ⟩ = ⟨Kᵀ x K, w⟩

so that patches of every size can share a row of base-size patches, and the model keeps one kernel.   [FlexiViT]

Patches and kernels are flattened as (row, column, channel), as `patchify` does; sizes hold one number per axis.
Always resize from the stored base kernel: PI-resizes do not compose when one of them shrinks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
from jaxtyping import Float, Num


@dataclass(frozen=True)
class Interpolation:
    """Interpolation between samples. It belongs to the weights: with another interpolation they are another model.

    method     "linear" (triangle), "cubic" (Keys, a = −½) or "cubic75" (Keys, a = −¾, torch without antialias)
    antialias  when shrinking, the filter is widened by the scale
    edges      samples beyond the border repeat it ("clamp") or get no weight ("renormalize")

    Raises ValueError on another method or edges.
    """

    method: str = "linear"
    antialias: bool = False
    edges: str = "clamp"

    def __post_init__(self):
        if self.method not in METHODS or self.edges not in EDGES:
            raise ValueError(f"{self}: method is one of {', '.join(METHODS)}, edges one of {', '.join(EDGES)}")


def triangle(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """max(0, 1 − |x|): the filter of linear interpolation."""
    return np.maximum(0.0, 1.0 - np.abs(x))


def keys(x: Float[np.ndarray, "..."], a: float) -> Float[np.ndarray, "..."]:
    """The filter of cubic convolution; a is its slope at |x| = 1.   [Keys 1981, eq. 4]"""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


METHODS = {"linear": triangle, "cubic": lambda x: keys(x, -0.5), "cubic75": lambda x: keys(x, -0.75)}
EDGES = {"clamp": lambda taps, old: np.clip(taps, 0, old - 1), "renormalize": lambda taps, old: taps}

FLEXIVIT = Interpolation()  # of big_vision and of the published FlexiViT weights
TIMM = Interpolation("cubic", antialias=True, edges="renormalize")


def resize_matrix(old: int, new: int, interpolation: Interpolation = FLEXIVIT) -> Float[np.ndarray, "q p"]:
    """R: `old` samples of one axis → `new` ones.   R_ij = k((c_i − j) / s) / Σ_j,   c_i = (i + ½) old/new − ½

    k is the filter of the method, s its width: max(1, old/new) with antialias, else 1. Half-pixel centers.
    """
    width = max(old / new, 1.0) if interpolation.antialias else 1.0
    beyond = int(np.ceil(2 * width)) + 1  # at least the radius of every filter
    taps = np.arange(-beyond, old + beyond)
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    weights = METHODS[interpolation.method]((centers[:, None] - taps) / width)
    source = EDGES[interpolation.edges](taps, old)
    matrix = weights @ (source[:, None] == np.arange(old)).astype(float)
    return matrix / matrix.sum(axis=1, keepdims=True)


@cache
def pi_matrix(old: int, new: int, interpolation: Interpolation = FLEXIVIT) -> Float[np.ndarray, "q p"]:
    """K = (Rᵀ)⁺ of one axis; the matrix of a patch is the Kronecker product over its axes.   [FlexiViT, PI-resize]

    Cached for each pair of sizes; the result is shared between calls and therefore read-only.
    """
    matrix = np.linalg.pinv(resize_matrix(old, new, interpolation).T)
    matrix.setflags(write=False)
    return matrix


def along_axes(matrices: Sequence[Float[np.ndarray, "_ _"]], x: Num[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Apply one matrix along each leading axis:   y_ab…n = Σ_ij… M_ai M'_bj … x_ij…n"""
    for axis, matrix in enumerate(matrices):
        x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


def map_columns(
    columns: Num[np.ndarray, "P N"], size: Sequence[int], matrices: Sequence[Float[np.ndarray, "_ _"]]
) -> Float[np.ndarray, "Q N"]:
    """`along_axes` for the columns of a matrix, each a flattened kernel or patch; channel by channel."""
    count = columns.shape[1]
    return along_axes(matrices, columns.reshape(*size, -1, count)).reshape(-1, count)


def resize_image(
    image: Num[np.ndarray, "*space C"], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "*new C"]:
    """R x Rᵀ for each channel: the image at `size` (height, width)."""
    return along_axes([resize_matrix(old, new, interpolation) for old, new in zip(image.shape, size)], image)


def pi_resize(
    w: Float[np.ndarray, "P D"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "Q D"]:
    """ŵ = K w Kᵀ, the kernel for patches of `size`: ⟨R x Rᵀ, ŵ⟩ = ⟨x, w⟩.   [FlexiViT, PI-resize]

    Exact for every x when enlarging; when shrinking, the least-squares solution for white x. The bias is unchanged.
    """
    return map_columns(w, base, [pi_matrix(old, new, interpolation) for old, new in zip(base, size)])


def adjoint_patches(
    patches: Float[np.ndarray, "T Q"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "T P"]:
    """Kᵀ x K: patches of `size` mapped to the base size, where w gives the same tokens as ŵ on x.

    The transpose of `pi_resize(·, base, size)`. Patches must be *normalized* before, because the embedding is linear in
    normalized patches, and Kᵀ 1 = 1 holds when enlarging, but in general not when shrinking. At the base size K = 1.
    """
    if tuple(size) == tuple(base):
        return patches
    return map_columns(patches.T, size, [pi_matrix(old, new, interpolation).T for old, new in zip(base, size)]).T


def base_patches(
    patches: Float[np.ndarray, "T Q"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "T P"]:
    """`adjoint_patches` as rows store them: normalized patches of any size, mapped to the base size, in float16.

    Choice: float16 has 8 times the precision of bfloat16, and needs no scale, unlike int16 (errors: docs/pi_resize.md).
    `normalize` returns floating-point patches as they are, so the model reads them like its own.
    """
    return adjoint_patches(patches, base, size, interpolation).astype(np.float16)


def vanilla_resize(
    w: Float[np.ndarray, "P D"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "Q D"]:
    """R w Rᵀ, the kernel resized like an image: the norm of tokens grows with the area.   [FlexiViT, fig. 4]"""
    return map_columns(w, base, [resize_matrix(old, new, interpolation) for old, new in zip(base, size)])


def area_resize(
    w: Float[np.ndarray, "P D"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "Q D"]:
    """`vanilla_resize` divided by the ratio of the areas.   [FlexiViT, fig. 4]"""
    return vanilla_resize(w, base, size, interpolation) * prod(base) / prod(size)


def norm_resize(
    w: Float[np.ndarray, "P D"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "Q D"]:
    """`vanilla_resize` rescaled to the norm of the original kernel.   [FlexiViT, fig. 4]

    Choice: the norm of each output channel, which keeps the variance of tokens for white noise.
    """
    resized = vanilla_resize(w, base, size, interpolation)
    norm = np.linalg.norm(resized, axis=0)
    return resized * np.linalg.norm(w, axis=0) / np.maximum(norm, np.finfo(float).tiny)


RESIZES = {"pi": pi_resize, "vanilla": vanilla_resize, "area": area_resize, "norm": norm_resize}
