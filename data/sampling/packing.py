"""Packing: which images share a row, and how the rest of a row is filled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from reference.packing import best_fit, drop_surplus, first_fit

from ..errors import DataError, check_in
from ..exact_fit import exact_fit

FAR, FEWEST = 2, 20


def far_longer(lengths: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Images that would lengthen the rows of all others: those with more than FAR times the tokens that a row needs
    without the longest hundredth (at least one image), the longest of the rest or 4 times their mean.

    Choice: an image in a hundred may be left out for its length, as one in a hundred may be unreadable; of fewer than
    FEWEST images none is.
    """
    rest = np.sort(lengths)[: len(lengths) - max(1, len(lengths) // 100)]
    if len(lengths) < FEWEST:
        return np.zeros(len(lengths), bool)
    return lengths > FAR * max(rest[-1], 4 * rest.mean())


@dataclass(frozen=True)
class ExactFit:
    """Take the oldest queued image; add the subset of the next `window` that fills the row best."""

    window: int = 64
    """Queued images considered for each row."""

    def __post_init__(self):
        check_in("[1, 2147483647]", window=self.window)

    def rows(self, lengths: Sequence[int], row_tokens: int, row_images: int) -> list[list[int]]:
        """Indices of the images of each row."""
        return exact_fit(lengths, row_tokens, row_images, self.window)


@dataclass(frozen=True)
class FirstFit:
    """Put each image into the first open row in which it fits.   [NaViT, app. A.3]"""

    window: int = 64
    """Rows that are open at the same time."""
    misfits: int = 0
    """Images that may fit no open row before all open rows are closed; they are packed first into the next rows."""

    def __post_init__(self):
        check_in("[1, 2147483647]", window=self.window)
        check_in("[0, 2147483647]", misfits=self.misfits)

    def rows(self, lengths: Sequence[int], row_tokens: int, row_images: int) -> list[list[int]]:
        return first_fit(lengths, row_tokens, row_images, self.window, self.misfits)


@dataclass(frozen=True)
class BestFit:
    """Put each image into the fullest open row in which it fits."""

    window: int = 64
    """Rows that are open at the same time."""
    misfits: int = 0
    """Images that may fit no open row before all open rows are closed; they are packed first into the next rows."""

    def __post_init__(self):
        check_in("[1, 2147483647]", window=self.window)
        check_in("[0, 2147483647]", misfits=self.misfits)

    def rows(self, lengths: Sequence[int], row_tokens: int, row_images: int) -> list[list[int]]:
        return best_fit(lengths, row_tokens, row_images, self.window, self.misfits)


@dataclass(frozen=True)
class DropSurplus:
    """Pack by tokens alone, then drop images beyond the slots of a row, as in the paper.   [NaViT, §2.3: E_max]

    The other rules never exceed the slots of a row and drop no image.
    """

    rule: FirstFit | BestFit = FirstFit()
    """Packing rule applied before images are dropped."""

    def rows(self, lengths: Sequence[int], row_tokens: int, row_images: int) -> list[list[int]]:
        return drop_surplus(self.rule.rows(lengths, row_tokens, row_images=row_tokens), row_images)


@dataclass(frozen=True)
class Template:
    """Cut all rows into the same windows; an image keeps as many tokens as its window has: no padding, no mask.

    For training with token dropping. The draws of resolution and drop rate decide which window an image gets.
    """

    windows: tuple[int, ...] = ()
    """Tokens of each window of a row, largest first; none: from the tokens that images would keep."""
    count: int = 8
    """Windows of a row, where they are chosen from the data."""

    def __post_init__(self):
        check_in("[1, 2147483647]", windows=self.windows)
        check_in("[1, 4096]", count=self.count)
        if list(self.windows) != sorted(self.windows, reverse=True):
            raise DataError(f"data.packing.rule.windows = {self.windows} must be in order, the largest first")


@dataclass(frozen=True)
class TwoLengths(ExactFit):
    """Images of at most `short` tokens share rows of that length; longer images share longer rows, apart from them.

    For evaluation: one long image makes no other row longer.
    """

    short: int = 1
    """Tokens of an ordinary row."""

    def rows(self, lengths: Sequence[int], row_tokens: int, row_images: int) -> list[list[int]]:
        """Rows of `short` tokens, then rows of `row_tokens`."""
        ordinary = [i for i, tokens in enumerate(lengths) if tokens <= self.short]
        long = [i for i, tokens in enumerate(lengths) if tokens > self.short]
        found = []
        for place, limit in ((ordinary, self.short), (long, row_tokens)):
            rows = super().rows([lengths[i] for i in place], limit, row_images) if place else []
            found += [[place[k] for k in row] for row in rows]
        return found


Rule = ExactFit | FirstFit | BestFit | DropSurplus | Template


@dataclass(frozen=True)
class Packing:
    """How images share rows."""

    row_tokens: int | None = None
    """T, tokens in a row; best slightly above the longest image. auto: chosen from the data."""
    row_images: int | None = None
    """I, image slots in a row; auto: chosen from the data."""
    rule: Rule = ExactFit()
    """How images are assigned to rows."""
    fill: Literal["none", "rate", "resolution"] = "none"
    """How the remaining tokens of a row are used. none: padding. rate: the last images drop fewer tokens. resolution:
    the last image is enlarged at its drop rate, then `rate` fills the rest."""

    def __post_init__(self):
        check_in("[1, 2147483647]", row_tokens=self.row_tokens, row_images=self.row_images)

    @property
    def shape(self) -> tuple[int, int]:
        """Resolved T and I."""
        assert self.row_tokens and self.row_images, "data.packing is auto: call `harness.resolve.resolve` first"
        return self.row_tokens, self.row_images
