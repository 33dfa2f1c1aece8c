"""Wilcoxon's signed-rank test, exact: are paired differences as often, and as far, above zero as below?"""

import numpy as np
from jaxtyping import Float


def signed_rank(differences: Float[np.ndarray, " n"]) -> float:
    """Two-sided p: the probability that random signs make a sum of positive ranks at least as far from its middle.

    Ranks are those of |d|, the mean of them among equal ones; differences of zero are left out; 1 where none is left.
    All 2ⁿ signs are counted, by adding one rank after the other to the distribution of the sum.
    """
    known = differences[differences != 0]
    size, place, count = np.unique(np.abs(known), return_inverse=True, return_counts=True)
    # Twice the mean rank among equal ones is an integer.
    ranks = (2 * np.cumsum(count) - count + 1)[place] if len(size) else np.zeros(0, int)
    ways = np.ones(1)
    for rank in ranks.tolist():
        ways = np.append(ways, np.zeros(rank)) + np.append(np.zeros(rank), ways)
    ways /= 2.0 ** len(ranks)
    total = int(ranks[known > 0].sum())
    return float(min(1.0, 2 * min(ways[: total + 1].sum(), ways[total:].sum())))


def smallest_p(count: int) -> float:
    """The smallest p that so many differences can give, 2^(1 − n): with fewer than 6 it is never below .05."""
    return min(1.0, 2.0 ** (1 - count))
