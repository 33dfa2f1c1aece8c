"""Any patch size with one set of weights: resizing as a matrix, PI-resize of the kernel, and its adjoint.

What it says.  Resizing is linear, x ↦ R x along each axis.  A kernel w learned at the base size sees patches of
another size through ŵ = K w Kᵀ with K = (Rᵀ)⁺, and equally a patch of that size can be brought to the base size:

    ⟨x, K w Kᵀ⟩ = ⟨Kᵀ x K, w⟩

so that patches of every size may share a row of base-size patches, and the model keeps one kernel.   [FlexiViT]

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
    """How a sample between samples is read. Part of the meaning of the weights: another one, another model.

    method     "linear" (triangle), "cubic" (Keys, a = −½) or "cubic75" (Keys, a = −¾, torch without antialias)
    antialias  when shrinking, the kernel is widened by the scale
    edges      what lies beyond the border repeats it ("clamp") or has no weight ("renormalize")
    """

    method: str = "linear"
    antialias: bool = False
    edges: str = "clamp"

    def __post_init__(self):
        if self.method not in METHODS or self.edges not in EDGES:
            raise ValueError(f"{self}: method is one of {', '.join(METHODS)}, edges one of {', '.join(EDGES)}")


def triangle(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """max(0, 1 − |x|): linear interpolation."""
    return np.maximum(0.0, 1.0 - np.abs(x))


def keys(x: Float[np.ndarray, "..."], a: float) -> Float[np.ndarray, "..."]:
    """Cubic convolution; a is the slope at |x| = 1.   [Keys 1981, eq. 4]"""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


METHODS = {"linear": triangle, "cubic": lambda x: keys(x, -0.5), "cubic75": lambda x: keys(x, -0.75)}
EDGES = {"clamp": lambda taps, old: np.clip(taps, 0, old - 1), "renormalize": lambda taps, old: taps}

FLEXIVIT = Interpolation()  # big_vision's, hence that of published FlexiViT weights
TIMM = Interpolation("cubic", antialias=True, edges="renormalize")


def resize_matrix(old: int, new: int, interpolation: Interpolation = FLEXIVIT) -> Float[np.ndarray, "q p"]:
    """R: new samples of one axis from old ones.   R_ij = k((c_i − j) / s) / Σ_j,   c_i = (i + ½) old/new − ½

    k is the method's kernel, s its width: old/new if that is above 1 and antialias is on, else 1.
    Half-pixel centres.
    """
    width = max(old / new, 1.0) if interpolation.antialias else 1.0
    beyond = int(np.ceil(2 * width)) + 1  # no kernel reaches further
    taps = np.arange(-beyond, old + beyond)
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights = METHODS[interpolation.method]((centres[:, None] - taps) / width)
    landing = EDGES[interpolation.edges](taps, old)
    matrix = weights @ (landing[:, None] == np.arange(old)).astype(float)
    return matrix / matrix.sum(axis=1, keepdims=True)


@cache
def pi_matrix(old: int, new: int, interpolation: Interpolation = FLEXIVIT) -> Float[np.ndarray, "q p"]:
    """K = (Rᵀ)⁺ of one axis; that of a patch is the Kronecker product over its axes.   [FlexiViT, PI-resize]

    Computed once for each pair of sizes; the result is shared between calls, hence read-only.
    """
    matrix = np.linalg.pinv(resize_matrix(old, new, interpolation).T)
    matrix.setflags(write=False)
    return matrix


def along_axes(matrices: Sequence[Float[np.ndarray, "_ _"]], x: Num[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """One matrix for each leading axis:   y_ab…n = Σ_ij… M_ai M'_bj … x_ij…n"""
    for axis, matrix in enumerate(matrices):
        x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


def map_columns(
    columns: Num[np.ndarray, "P N"], size: Sequence[int], matrices: Sequence[Float[np.ndarray, "_ _"]]
) -> Float[np.ndarray, "Q N"]:
    """`along_axes` for flattened kernels or patches standing in columns: each channel by itself."""
    count = columns.shape[1]
    return along_axes(matrices, columns.reshape(*size, -1, count)).reshape(-1, count)


def resize_image(
    image: Num[np.ndarray, "*space C"], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "*new C"]:
    """R x Rᵀ for each channel."""
    return along_axes([resize_matrix(old, new, interpolation) for old, new in zip(image.shape, size)], image)


def pi_resize(
    w: Float[np.ndarray, "P D"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "Q D"]:
    """ŵ = K w Kᵀ, the kernel for patches of `size`: ⟨R x Rᵀ, ŵ⟩ = ⟨x, w⟩.   [FlexiViT, PI-resize]

    Exact for every x when enlarging; when shrinking the least-squares best for white x. The bias stays as it is.
    """
    return map_columns(w, base, [pi_matrix(old, new, interpolation) for old, new in zip(base, size)])


def adjoint_patches(
    patches: Float[np.ndarray, "T Q"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "T P"]:
    """Kᵀ x K: patches of `size` as base-size patches, on which w gives the tokens that ŵ gives on x.

    The transpose of `pi_resize(·, base, size)`. It takes *normalized* patches, since the token is linear in those
    alone. Pixels cannot be normalized afterwards: Kᵀ 1 = 1 when enlarging, but in general not when shrinking.
    """
    return map_columns(patches.T, size, [pi_matrix(old, new, interpolation).T for old, new in zip(base, size)]).T


def base_patches(
    patches: Float[np.ndarray, "T Q"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "T P"]:
    """Normalized patches of any size as a row stores them: mapped to the base size, two bytes a number.

    Choice: float16. Against bfloat16 it has 8 times the precision, against int16 it needs no scale
    (docs/pi_resize.md has the errors). `normalize` takes it as it is, so the model does not know of the map.
    """
    return adjoint_patches(patches, base, size, interpolation).astype(np.float16)


def vanilla_resize(
    w: Float[np.ndarray, "P D"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "Q D"]:
    """R w Rᵀ, the kernel resized as if it were an image: tokens grow with the area.   [FlexiViT, fig. 4]"""
    return map_columns(w, base, [resize_matrix(old, new, interpolation) for old, new in zip(base, size)])


def area_resize(
    w: Float[np.ndarray, "P D"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "Q D"]:
    """Vanilla, divided by the growth of the area.   [FlexiViT, fig. 4]"""
    return vanilla_resize(w, base, size, interpolation) * prod(base) / prod(size)


def norm_resize(
    w: Float[np.ndarray, "P D"], base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> Float[np.ndarray, "Q D"]:
    """Vanilla, rescaled to the norm that the kernel had.   [FlexiViT, fig. 4]

    Choice: the norm of each feature, which keeps the variance of its tokens on white noise.
    """
    resized = vanilla_resize(w, base, size, interpolation)
    norm = np.linalg.norm(resized, axis=0)
    return resized * np.linalg.norm(w, axis=0) / np.maximum(norm, np.finfo(float).tiny)


RESIZES = {"pi": pi_resize, "vanilla": vanilla_resize, "area": area_resize, "norm": norm_resize}
