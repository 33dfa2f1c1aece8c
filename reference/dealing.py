"""Which device computes which rows of a batch. Devices wait for the slowest one at every step."""

import numpy as np
from jaxtyping import Int, Num


def deal(costs: Num[np.ndarray, " B"], devices: int) -> Int[np.ndarray, " B"]:
    """An order of the rows of a batch in which each of D devices, taking B / D rows in turn, has nearly equal cost.

    In rounds, dearest rows first: each device gets one row, the one with the least cost so far the dearest. So the
    costs of two devices differ by no more than those of two rows of one round.
    Choice: not in the paper. A batch keeps its rows, so that its gradient stays the same.
    """
    spent = np.zeros(devices)
    hands = np.empty((len(costs) // devices, devices), int)
    for hand, rows in zip(hands, np.argsort(-costs, kind="stable").reshape(-1, devices)):
        hand[np.argsort(spent, kind="stable")] = rows
        spent += costs[hand]
    return hands.T.ravel()
