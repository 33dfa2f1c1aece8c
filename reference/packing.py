"""Packing: which images share a row.   (lengths, row_tokens, row_images, window) → rows of image indices

Every image is placed in exactly one row; no row holds more than `row_tokens` tokens or `row_images` images.
Only `drop_surplus`, the paper's treatment of rows with too many images, drops any.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def first_fit(
    lengths: Sequence[int], row_tokens: int, row_images: int, window: int, misfits: int = 0
) -> list[list[int]]:
    """The paper's greedy packing: each image is placed in the first of `window` open rows that has space for it.

    An image that fits in no open row is queued. When more than `misfits` images are queued, all open rows are closed,
    and the queued images are placed first in the next ones.   [NaViT, §2.3, app. A.3]
    Choice: queued images are never dropped, and a row takes at most `row_images` images; the paper drops the surplus
    afterwards (`drop_surplus`).
    """
    return _fit_in_order(lengths, row_tokens, row_images, window, misfits, prefer=lambda free: 0)


def best_fit(
    lengths: Sequence[int], row_tokens: int, row_images: int, window: int, misfits: int = 0
) -> list[list[int]]:
    """Like `first_fit`, but in the open row with the least free space that suffices."""
    return _fit_in_order(lengths, row_tokens, row_images, window, misfits, prefer=lambda free: free)


def _fit_in_order(lengths, row_tokens, row_images, window, misfits, prefer) -> list[list[int]]:
    check_lengths(lengths, row_tokens)
    check_window(window)
    closed: list[list[int]] = []
    rows: list[list[int]] = []
    free: list[int] = []  # tokens
    queued: list[int] = []

    def place(i: int) -> bool:
        n = lengths[i]
        candidates = [r for r in range(len(rows)) if free[r] >= n and len(rows[r]) < row_images]
        if not candidates:
            if len(rows) == window:
                return False
            candidates = [len(rows)]
            rows.append([])
            free.append(row_tokens)
        r = min(candidates, key=lambda r: prefer(free[r]))
        rows[r].append(i)
        free[r] -= n
        return True

    last = len(lengths) - 1
    for i in range(len(lengths)):
        if not place(i):
            queued.append(i)
        while queued and (len(queued) > misfits or i == last):
            closed += rows
            rows, free = [], []
            queued = [k for k in queued if not place(k)]
    return closed + rows


def drop_surplus(rows: Sequence[Sequence[int]], row_images: int) -> list[list[int]]:
    """The first `row_images` images of each row; the others are dropped.   [NaViT, §2.3: E_max]"""
    return [list(row[:row_images]) for row in rows]


def exact_fit(lengths: Sequence[int], row_tokens: int, row_images: int, window: int) -> list[list[int]]:
    """Take the oldest queued image; add the subset of the next `window` that fills the row best.

    Choice: not in the paper. First fit leaves 1-5 % padding in short rows, this nearly none. An image among the next
    `window` is placed within `window` rows, so the order stays nearly first in, first out.
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
    """Indices of at most `row_images` lengths, always including the first, with the largest sum within `row_tokens`.

    Subset sum by dynamic programming: image by image, the fewest images for each sum that can be reached, until
    `row_tokens` itself is reached.
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


PACKINGS = {"first_fit": first_fit, "best_fit": best_fit, "exact_fit": exact_fit}


def check_lengths(lengths: Sequence[int], row_tokens: int) -> None:
    """Raises ValueError where an image has no token or more than `row_tokens`; the message names the image."""
    if len(lengths) and not 1 <= min(lengths) <= max(lengths) <= row_tokens:
        i = next(i for i, n in enumerate(lengths) if not 1 <= n <= row_tokens)
        raise ValueError(
            f"image {i} has {lengths[i]} tokens, a row holds 1 to {row_tokens}: "
            "lower its resolution or raise row_tokens"
        )


def check_window(window: int) -> None:
    """Raises ValueError unless window ≥ 1."""
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")


def close_row(kept: Int[np.ndarray, " I"], tokens: Int[np.ndarray, " I"], row_tokens: int) -> Int[np.ndarray, " I"]:
    """Numbers of kept tokens after dropped tokens are restored, last image first, until the row is full.

    Choice: the paper mentions this and does not use it ("could be made to fit exactly"). It changes the mean drop rate
    by no more than the padding that it removes.
    """
    kept = kept.copy()
    for i in reversed(range(len(kept))):
        kept[i] += min(row_tokens - kept.sum(), tokens[i] - kept[i])
    return kept


def padding(lengths: Sequence[int], rows: Sequence[Sequence[int]], row_tokens: int) -> float:
    """Share of token places without a token, in [0, 1)."""
    return 1 - sum(lengths[i] for row in rows for i in row) / (len(rows) * row_tokens)
