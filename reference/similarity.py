"""Do two views of the same images, such as two patch sizes, end up in the same place?   [FlexiViT, figs. 6 and 13]"""

import numpy as np
from jaxtyping import Float


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
