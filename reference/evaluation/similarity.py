"""Do two views of the same images, such as two patch sizes, end up in the same place?   [FlexiViT, figs. 6 and 13]"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ..resize import Interpolation, resize_matrix

SMOOTH = Interpolation(antialias=True)


def linear_cka(x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "N E"]) -> float:
    """‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) of centred features, Frobenius norms: 1 where one is a rotated, scaled other.

    [Kornblith et al., arXiv:1905.00414, eq. 4]   NaN where all features of a side are alike.
    """
    x, y = x - x.mean(0), y - y.mean(0)
    return float((np.linalg.norm(x.T @ y) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def token_similarity(x: Float[np.ndarray, "T D"], y: Float[np.ndarray, "S D"]) -> Float[np.ndarray, "T S"]:
    """Cosine of every token of one view with every token of the other."""
    x, y = (tokens / np.linalg.norm(tokens, axis=-1, keepdims=True) for tokens in (x, y))
    return np.einsum("td,sd->ts", x, y)


def on_grid(tokens: Float[np.ndarray, "y x D"], grid: Sequence[int]) -> Float[np.ndarray, "cells D"]:
    """The tokens of an image, at their places, read on another grid: one feature for each of its places.

    Choice: linear and antialiased, so that a cell of a coarser grid is a mean over the tokens that it covers.
    """
    rows, columns = (resize_matrix(old, int(new), SMOOTH) for old, new in zip(tokens.shape, grid))
    return np.einsum("ya,xb,abd->yxd", rows, columns, tokens).reshape(-1, tokens.shape[-1])
