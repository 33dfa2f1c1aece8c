"""Exact fit with bit sets: the fast version of `reference.packing.exact_fit`.

Both fill a row with as many tokens (a test holds the totals equal); where several sets of images do, each may choose
another.
"""

from collections.abc import Sequence
from itertools import islice

from reference.packing import check_lengths, check_window


def exact_fit(lengths: Sequence[int], row_tokens: int, row_images: int, window: int) -> list[list[int]]:
    """The oldest waiting image, with the company that fills its row best among the next `window`.

    The company is found exactly, as a subset sum, and the search stops at the first prefix of the window that
    closes the row; so order stays nearly first in, first out, and no image waits longer than the window.
    Choice: not in the paper. Where its first fit wastes 1-5 % of a short row, this wastes about nothing.
    """
    check_lengths(lengths, row_tokens)
    check_window(window)
    arrivals = iter(range(len(lengths)))
    waiting = list(islice(arrivals, window))
    tokens = [lengths[i] for i in waiting]
    rows: list[list[int]] = []
    while waiting:
        chosen = fullest_row(tokens, row_tokens, row_images)
        rows.append([waiting[k] for k in chosen])
        for k in reversed(chosen):
            del waiting[k], tokens[k]
        new = list(islice(arrivals, len(chosen)))
        waiting += new
        tokens += [lengths[i] for i in new]
    return rows


def fullest_row(lengths: Sequence[int], row_tokens: int, row_images: int) -> list[int]:
    """Positions, the first always among them, of at most `row_images` lengths that fill the row best.

    `reach` is the set of token sums that its company can have, kept as the bits of one integer: adding an image of
    n tokens to every sum at once is one shift by n.
    """
    room = row_tokens - lengths[0]
    closed = 1 << room
    legal = 2 * closed - 1
    reach, history = 1, []
    for k in range(1, len(lengths)):
        n = lengths[k]
        if n <= room and (more := reach | reach << n & legal) != reach:
            history.append((k, reach))
            reach = more
            if reach >= closed:
                break

    total = reach.bit_length() - 1
    chosen = []
    for k, before in reversed(history):  # an image was used if the sum is out of reach without it
        if not before >> total & 1:
            chosen.append(k)
            total -= lengths[k]
    chosen.append(0)
    return chosen[::-1] if len(chosen) <= row_images else _fullest_of_few(lengths, room, row_images)


def _fullest_of_few(lengths: Sequence[int], room: int, row_images: int) -> list[int]:
    """The same where the fullest row has too many images: sums are kept for each number of images."""
    closed = 1 << room
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
