"""Images of a case, and the rows that exact fit packs them in."""

from typing import NamedTuple

import numpy as np

from benchmarks.contest.stream import CASES, CLASSES, pixels, sizes, tokens
from data.exact_fit import exact_fit

WINDOW = 64  # queued images considered for each row


class Images(NamedTuple):
    """Images of all contestants, in the order of the stream, and their assignment to our rows."""

    pixels: list[np.ndarray]
    labels: np.ndarray
    lengths: list[int]
    rows: list[list[int]]


def steady(name: str, count: int) -> Images:
    """The images of the first `count` rows of an endless stream, so that the last row is full too.

    For a case with a fixed number of images, all rows of these.
    """
    case, rng = CASES[name], np.random.default_rng(0)
    hw = sizes(name, rng, case.images or 2 * WINDOW + count * case.row_images)
    rows = exact_fit(tokens(hw).tolist(), case.row_tokens, case.row_images, WINDOW)
    rows = rows if case.images else rows[:count]
    chosen = sorted(i for row in rows for i in row)
    place = {image: k for k, image in enumerate(chosen)}
    hw = hw[chosen]
    labels = rng.integers(0, CLASSES, len(hw))
    return Images(pixels(rng, hw), labels, tokens(hw).tolist(), [[place[i] for i in row] for row in rows])
