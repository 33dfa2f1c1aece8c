"""The best setting of a trained model within a budget."""

import numpy as np
from jaxtyping import Float


def best_within(cost: Float[np.ndarray, " K"], score: Float[np.ndarray, " K"], budget: float) -> int:
    """Index of the highest score among settings of cost ≤ budget; of equal scores the cheapest, then the first.

    Choice: a budget bounds the mean cost of an image. A larger budget admits more settings, so its score is no lower.
    Raises ValueError where every setting costs more.
    """
    within = np.flatnonzero(cost <= budget)
    if not len(within):
        raise ValueError(f"no setting costs at most {budget:g}, the cheapest costs {cost.min():g}")
    return int(within[np.lexsort((cost[within], -score[within]))[0]])
