"""Similarity of features of the same images in two settings, such as two patch sizes.   [FlexiViT, figs. 6 and 13]"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ..resize import Interpolation, resize_matrix

SMOOTH = Interpolation(antialias=True)


def linear_cka(x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "N E"]) -> float:
    """‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) of centered features, Frobenius norms: 1 where Y is X, rotated and scaled.

    NaN where all rows of X or of Y are equal.   [Kornblith et al., arXiv:1905.00414, eq. 4]
    """
    x, y = x - x.mean(0), y - y.mean(0)
    return float((np.linalg.norm(x.T @ y) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def token_similarity(x: Float[np.ndarray, "T D"], y: Float[np.ndarray, "S D"]) -> Float[np.ndarray, "T S"]:
    """Cosine similarity of every token of x with every token of y."""
    x, y = (tokens / np.linalg.norm(tokens, axis=-1, keepdims=True) for tokens in (x, y))
    return np.einsum("td,sd->ts", x, y)


def on_grid(tokens: Float[np.ndarray, "y x D"], grid: Sequence[int]) -> Float[np.ndarray, "cells D"]:
    """The feature map of an image, resized to another grid (rows, columns).

    Choice: linear and antialiased, so that a cell of a coarser grid is a mean over the tokens that it covers.
    """
    rows, columns = (resize_matrix(old, int(new), SMOOTH) for old, new in zip(tokens.shape, grid))
    return np.einsum("ya,xb,abd->yxd", rows, columns, tokens).reshape(-1, tokens.shape[-1])
