"""Which images share a row.   Every rule: (lengths, row_tokens, row_images, window) → rows of image indices.

Every image lands in exactly one row; no row holds more than `row_tokens` tokens or `row_images` images.
Only `drop_surplus`, the paper's way with too many images, loses some.
"""

from collections.abc import Sequence
from itertools import islice

import numpy as np
from jaxtyping import Int, Num

from .types import Row, Tokens


def first_fit(
    lengths: Sequence[int], row_tokens: int, row_images: int, window: int, misfits: int = 0
) -> list[list[int]]:
    """The paper's greedy rule: `window` open rows; each image goes into the first with room.

    An image that fits nowhere waits. When more than `misfits` wait, all open rows close, and those who wait are
    the first in the next ones.   [NaViT, §2.2 and app. B.3]
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
    """Rows in which the images beyond the `row_images`-th have lost their place.   [NaViT, §2.2: E_max]"""
    return [list(row[:row_images]) for row in rows]


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


def pack(
    images: Sequence[Tokens],
    labels: Sequence[int],
    image_ids: Sequence[int],
    row_tokens: int,
    row_images: int,
) -> Row:
    """Place images one after the other in a row; the rest of it is padding.   [NaViT, §2.1]

    Raises ValueError where they do not fit.
    """
    check_fits([len(image.patches) for image in images], row_tokens, row_images)
    first = images[0]
    axes = first.coords.shape[1]
    row = Row(
        patches=np.zeros((row_tokens, first.patches.shape[1]), first.patches.dtype),
        coords=np.zeros((row_tokens, axes), np.int32),
        segment_ids=np.zeros(row_tokens, np.int32),
        grids=np.zeros((row_images, axes), np.int32),
        labels=np.full(row_images, -1, np.int32),
        image_ids=np.full(row_images, -1, np.int32),
        partners=np.full(row_images, -1, np.int32),
        weights=np.zeros(row_images, np.float32),
    )
    start = 0
    for slot, image in enumerate(images):
        end = start + len(image.patches)
        row.patches[start:end] = image.patches
        row.coords[start:end] = image.coords
        row.segment_ids[start:end] = slot + 1
        row.grids[slot] = image.grid
        start = end
    row.labels[: len(images)] = labels
    row.image_ids[: len(images)] = image_ids
    return row


def check_fits(lengths: Sequence[int], row_tokens: int, row_images: int) -> None:
    if sum(lengths) > row_tokens or len(lengths) > row_images:
        raise ValueError(
            f"{len(lengths)} images of {sum(lengths)} tokens do not fit a row of "
            f"{row_images} images and {row_tokens} tokens"
        )


def unpack(values: Num[np.ndarray, "T *n"], segment_ids: Int[np.ndarray, " T"]) -> list[np.ndarray]:
    """The values of each image's tokens, slot by slot: what `pack` placed."""
    return [values[segment_ids == slot] for slot in range(1, segment_ids.max(initial=0) + 1)]


def padding(lengths: Sequence[int], rows: Sequence[Sequence[int]], row_tokens: int) -> float:
    """Share of row places that hold no token."""
    return 1 - sum(lengths[i] for row in rows for i in row) / (len(rows) * row_tokens)
