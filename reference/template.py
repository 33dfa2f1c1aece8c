"""Template: rows that are all cut into the same windows, so that the attention mask is known before any image is.

Training draws how many tokens an image keeps. With a template, the draw decides which window an image gets, and the
image keeps exactly as many tokens as its window has. Rows have no padding, and attention is one dense product per
window: the cost of a token depends on its window, not on the length of the row.

    windows w_1 ≥ … ≥ w_m,   Σ w = row_tokens,   N images → ⌈N / m⌉ rows

Choice: not in the papers.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def template_rows(
    kept: Int[np.ndarray, " N"], tokens: Int[np.ndarray, " N"], windows: Sequence[int]
) -> tuple[list[list[int]], Int[np.ndarray, " N"]]:
    """Rows, with an image for each window in order, and the tokens of each image, those of its window.

    Windows are filled from the largest on. Of the images with as many tokens, those that would keep most get it, so the
    order of the drawn counts is the order of the windows. Where too few have as many, the largest of the others get
    it: they are to be enlarged (`enlarged`). The last row may lack its smallest windows. Images keep their order within
    a window, so rows are as random as the order of the images.
    """
    rows = -(-len(kept) // len(windows))
    lacking = rows * len(windows) - len(kept)  # windows of the last row
    waiting, columns = np.arange(len(kept)), []
    kept_now = np.array(kept, np.int32)
    for j, window in enumerate(windows):
        count = rows - (j >= len(windows) - lacking)
        short = np.maximum(window - tokens[waiting], 0)
        order = np.lexsort((waiting, -kept[waiting], short))  # the shortage decides, then the drawn count
        chosen = np.sort(waiting[order[:count]])
        kept_now[chosen] = window
        columns.append(chosen.tolist())
        waiting = np.setdiff1d(waiting, chosen)
    return [[column[r] for column in columns if r < len(column)] for r in range(rows)], kept_now


def windows_of(kept: Int[np.ndarray, " N"], tokens: Int[np.ndarray, " N"], count: int) -> tuple[int, ...]:
    """`count` windows for images with such counts, largest first: the mean count of each of `count` equal parts.

    Choice: rounded to a multiple of 8 from 32 tokens on, of 4, 2, 1 below 32, 16, 8, and never more tokens than as many
    images have. Windows of one size are one product, so a program with few sizes compiles fast.
    """
    parts = np.array_split(np.sort(kept)[::-1], count)
    have = [int(part[-1]) for part in np.array_split(np.sort(tokens)[::-1], count)]
    return tuple(min(_rounded(float(part.mean())), most) for part, most in zip(parts, have))


def _rounded(tokens: float) -> int:
    step = 2 ** int(np.clip(np.log2(tokens / 4), 0, 3))
    return step * max(1, round(tokens / step))


def enlarged(grids: Int[np.ndarray, "N A"], kept: Int[np.ndarray, " N"]) -> Int[np.ndarray, "N A"]:
    """Grids of at least `kept` tokens: where there are fewer, both sides grow by the same factor, rounded up."""
    scale = np.sqrt(np.maximum(kept / grids.prod(-1), 1.0))
    return np.ceil(grids * scale[:, None] - 1e-9).astype(np.int32)
