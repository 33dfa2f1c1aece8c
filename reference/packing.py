"""Which images share a row.   Every rule: (lengths, row_tokens, row_images, window) → rows of image indices.

Every image lands in exactly one row; no row holds more than `row_tokens` tokens or `row_images` images.
Only `drop_surplus`, the paper's way with too many images, loses some.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def first_fit(
    lengths: Sequence[int], row_tokens: int, row_images: int, window: int, misfits: int = 0
) -> list[list[int]]:
    """The paper's greedy rule: `window` open rows; each image goes into the first with room.

    An image that fits nowhere waits. When more than `misfits` wait, all open rows close, and those who wait are
    the first in the next ones.   [NaViT, §2.3, app. A.3]
    Choice: nobody is lost between two groups of rows, and a row that is full in images has no room; the paper
    drops the surplus images afterwards (`drop_surplus`).
    """
    return _fit_in_order(lengths, row_tokens, row_images, window, misfits, prefer=lambda room: 0)


def best_fit(
    lengths: Sequence[int], row_tokens: int, row_images: int, window: int, misfits: int = 0
) -> list[list[int]]:
    """As first fit, into the open row with the least room that suffices."""
    return _fit_in_order(lengths, row_tokens, row_images, window, misfits, prefer=lambda room: room)


def _fit_in_order(lengths, row_tokens, row_images, window, misfits, prefer) -> list[list[int]]:
    check_lengths(lengths, row_tokens)
    check_window(window)
    done: list[list[int]] = []
    rows: list[list[int]] = []
    room: list[int] = []
    waiting: list[int] = []

    def place(i: int) -> bool:
        n = lengths[i]
        candidates = [r for r in range(len(rows)) if room[r] >= n and len(rows[r]) < row_images]
        if not candidates:
            if len(rows) == window:
                return False
            candidates = [len(rows)]
            rows.append([])
            room.append(row_tokens)
        r = min(candidates, key=lambda r: prefer(room[r]))
        rows[r].append(i)
        room[r] -= n
        return True

    last = len(lengths) - 1
    for i in range(len(lengths)):
        if not place(i):
            waiting.append(i)
        while waiting and (len(waiting) > misfits or i == last):
            done += rows
            rows, room = [], []
            waiting = [k for k in waiting if not place(k)]
    return done + rows


def drop_surplus(rows: Sequence[Sequence[int]], row_images: int) -> list[list[int]]:
    """Rows in which the images beyond the `row_images`-th have lost their place.   [NaViT, §2.3: E_max]"""
    return [list(row[:row_images]) for row in rows]


def exact_fit(lengths: Sequence[int], row_tokens: int, row_images: int, window: int) -> list[list[int]]:
    """Take the oldest queued image; add the subset of the next `window` that fills the row best.

    Choice: not in the paper. Where its first fit wastes 1-5 % of a short row, this wastes about nothing. No image
    waits longer than the window, and the order stays nearly first in, first out.
    """
    check_lengths(lengths, row_tokens)
    check_window(window)
    queue = list(range(len(lengths)))
    rows = []
    while queue:
        ahead = queue[:window]
        row = [ahead[k] for k in fullest_row([lengths[i] for i in ahead], row_tokens, row_images)]
        rows.append(row)
        queue = [i for i in queue if i not in row]
    return rows


def fullest_row(lengths: Sequence[int], row_tokens: int, row_images: int) -> list[int]:
    """Positions, the first always among them, of at most `row_images` lengths whose sum is as near to T as can be.

    A subset sum: for each total that can be reached the fewest images that reach it, image by image, until one
    reaches T.
    """
    fewest = {lengths[0]: [0]}
    for k in range(1, len(lengths)):
        if row_tokens in fewest:
            break
        for total, chosen in list(fewest.items()):
            larger = total + lengths[k]
            known = fewest.get(larger)
            if larger <= row_tokens and len(chosen) < row_images and (known is None or len(chosen) + 1 < len(known)):
                fewest[larger] = [*chosen, k]
    return fewest[max(fewest)]


RULES = {"first_fit": first_fit, "best_fit": best_fit, "exact_fit": exact_fit}


def check_lengths(lengths: Sequence[int], row_tokens: int) -> None:
    """Raises ValueError, naming an image that no row can hold."""
    if len(lengths) and not 1 <= min(lengths) <= max(lengths) <= row_tokens:
        i = next(i for i, n in enumerate(lengths) if not 1 <= n <= row_tokens)
        raise ValueError(
            f"image {i} has {lengths[i]} tokens, a row holds 1 to {row_tokens}: "
            "see it at a lower resolution or raise row_tokens"
        )


def check_window(window: int) -> None:
    """Raises ValueError where nothing could be placed."""
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")


def close_row(kept: Int[np.ndarray, " I"], tokens: Int[np.ndarray, " I"], row_tokens: int) -> Int[np.ndarray, " I"]:
    """Token counts after the images of a row, the last first, took back dropped tokens until the row is full.

    Choice: the paper names this and does without ("could be made to fit exactly"); it moves the mean drop
    rate by no more than the padding it removes.
    """
    kept = kept.copy()
    for i in reversed(range(len(kept))):
        kept[i] += min(row_tokens - kept.sum(), tokens[i] - kept[i])
    return kept


def padding(lengths: Sequence[int], rows: Sequence[Sequence[int]], row_tokens: int) -> float:
    """Share of row places that hold no token."""
    return 1 - sum(lengths[i] for row in rows for i in row) / (len(rows) * row_tokens)
