"""Retrieval: the rank of the right candidate among all candidates. Rows are queries, columns are candidates.

An image may have several right texts, and a text several right images: any of them counts. Candidates that cannot be
told apart, such as equal texts, must be one column.
"""

import numpy as np
from jaxtyping import Bool, Float, Int


def ranks(scores: Float[np.ndarray, "N M"], positive: Bool[np.ndarray, "N M"]) -> Int[np.ndarray, " N"]:
    """1 + the number of wrong candidates that score at least as high as the best right one.

    Ties count against the model: equal scores for all candidates give the last rank, not the first. A NaN of a right
    candidate ranks last, a NaN of a wrong one first. A query without a right candidate has rank M + 1.
    """
    wrong = np.where(positive, -np.inf, np.where(np.isnan(scores), np.inf, scores))
    right = np.where(positive & ~np.isnan(scores), scores, -np.inf).max(-1, keepdims=True)
    found = 1 + (~positive & (wrong >= right)).sum(-1)
    return np.where(positive.any(-1), found, scores.shape[-1] + 1)


def recall(ranks: Int[np.ndarray, " N"], k: int) -> float:
    """R@k: the share of queries with a right candidate among the first k."""
    return float((ranks <= k).mean())


def mean_reciprocal_rank(ranks: Int[np.ndarray, " N"]) -> float:
    """Mean of 1 / rank."""
    return float((1 / ranks).mean())
