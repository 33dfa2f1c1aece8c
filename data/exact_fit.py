"""Exact fit by subset sums kept as bit sets: the fast version of `reference.packing.exact_fit`.

Both versions fill a row with the same number of tokens (tested); where several subsets do, they may differ in the
subset.
"""

from collections.abc import Sequence
from itertools import islice

from reference.packing import check_lengths, check_window


def exact_fit(lengths: Sequence[int], row_tokens: int, row_images: int, window: int) -> list[list[int]]:
    """Take the oldest queued image; add the subset of the next `window` that fills the row best.

    The subset is exact (a subset sum). The search stops at the first prefix of the window that fills the row, so
    the order is nearly first in, first out, and the delay of an image is bounded by the window.
    Choice: not in the paper. First fit wastes 1-5 % of a short row, exact fit almost nothing.
    """
    check_lengths(lengths, row_tokens)
    check_window(window)
    arrivals = iter(range(len(lengths)))
    queue = list(islice(arrivals, window))
    tokens = [lengths[i] for i in queue]
    rows: list[list[int]] = []
    while queue:
        chosen = fullest_row(tokens, row_tokens, row_images)
        rows.append([queue[k] for k in chosen])
        for k in reversed(chosen):
            del queue[k], tokens[k]
        new = list(islice(arrivals, len(chosen)))
        queue += new
        tokens += [lengths[i] for i in new]
    return rows


def fullest_row(lengths: Sequence[int], row_tokens: int, row_images: int) -> list[int]:
    """Positions of at most `row_images` lengths that fill the row best; position 0 is always included.

    `reach` is the set of token sums of the other images, as the bits of one integer: a shift by n adds an image of
    n tokens to every sum.
    """
    budget = row_tokens - lengths[0]
    closed = 1 << budget
    legal = 2 * closed - 1
    reach, history = 1, []
    for k in range(1, len(lengths)):
        n = lengths[k]
        if n <= budget and (more := reach | reach << n & legal) != reach:
            history.append((k, reach))
            reach = more
            if reach >= closed:
                break

    total = reach.bit_length() - 1
    chosen = []
    for k, before in reversed(history):  # an image is used if the sum is out of reach without it
        if not before >> total & 1:
            chosen.append(k)
            total -= lengths[k]
    chosen.append(0)
    return chosen[::-1] if len(chosen) <= row_images else _fullest_of_few(lengths, budget, row_images)


def _fullest_of_few(lengths: Sequence[int], budget: int, row_images: int) -> list[int]:
    """`fullest_row` where the image slots are the limit: one set of sums for each number of images."""
    closed = 1 << budget
    legal = 2 * closed - 1
    history = [[1]]
    for n in lengths[1:]:
        if any(sums & closed for sums in history[-1]):
            break
        with_it = [sums << n & legal for sums in history[-1]]
        history.append([a | b for a, b in zip([*history[-1], 0], [0, *with_it])][:row_images])

    most = [sums.bit_length() - 1 for sums in history[-1]]
    total = max(most)
    count = most.index(total)  # the fewest images
    chosen = []
    for k in range(len(history) - 1, 0, -1):
        if count >= len(history[k - 1]) or not history[k - 1][count] >> total & 1:
            chosen.append(k)
            total -= lengths[k]
            count -= 1
    return [0, *reversed(chosen)]
