"""Packing: which images share a row, and how rows are closed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reference.packing import best_fit, drop_surplus, first_fit

from ..errors import check_in
from ..exact_fit import exact_fit


@dataclass(frozen=True)
class ExactFit:
    """Take the oldest queued image; add the subset of the next `window` that fills the row best."""

    window: int = 64
    """Images that are looked at."""

    def __post_init__(self):
        check_in("[1, 2147483647]", window=self.window)

    def rows(self, lengths: Sequence[int], row_tokens: int, row_images: int) -> list[list[int]]:
        """Image indices of each row."""
        return exact_fit(lengths, row_tokens, row_images, self.window)


@dataclass(frozen=True)
class FirstFit:
    """Each image into the first open row with room.   [NaViT, app. B.3]"""

    window: int = 64
    """Rows that stay open."""
    misfits: int = 0
    """Images without room that may wait before the open rows close; they come first in the next ones."""

    def __post_init__(self):
        check_in("[1, 2147483647]", window=self.window)
        check_in("[0, 2147483647]", misfits=self.misfits)

    def rows(self, lengths: Sequence[int], row_tokens: int, row_images: int) -> list[list[int]]:
        return first_fit(lengths, row_tokens, row_images, self.window, self.misfits)


@dataclass(frozen=True)
class BestFit:
    """Each image into the open row with the least room that suffices."""

    window: int = 64
    """Rows that stay open."""
    misfits: int = 0
    """Images without room that may wait before the open rows close; they come first in the next ones."""

    def __post_init__(self):
        check_in("[1, 2147483647]", window=self.window)
        check_in("[0, 2147483647]", misfits=self.misfits)

    def rows(self, lengths: Sequence[int], row_tokens: int, row_images: int) -> list[list[int]]:
        return best_fit(lengths, row_tokens, row_images, self.window, self.misfits)


@dataclass(frozen=True)
class DropSurplus:
    """`rule` by tokens alone; the images of a row beyond its slots then lose their place, as in the paper.

    The other rules refuse a row that is full in images, and lose none.   [NaViT, §2.2: E_max]
    """

    rule: FirstFit | BestFit = FirstFit()

    def rows(self, lengths: Sequence[int], row_tokens: int, row_images: int) -> list[list[int]]:
        return drop_surplus(self.rule.rows(lengths, row_tokens, row_images=row_tokens), row_images)


Rule = ExactFit | FirstFit | BestFit | DropSurplus


@dataclass(frozen=True)
class Packing:
    """How images share rows."""

    row_tokens: int | None = None
    """T, tokens in a row; best a little above the longest image. auto: chosen from the data."""
    row_images: int | None = None
    """I, most images in a row. auto: chosen from the data."""
    rule: Rule = ExactFit()
    fill: Literal["none", "rate", "resolution"] = "none"
    """How a row is closed. rate: its last images drop fewer tokens. resolution: its last image is seen somewhat
    larger, at the drop rate it has, and what then remains is closed by the rate."""

    def __post_init__(self):
        check_in("[1, 2147483647]", row_tokens=self.row_tokens, row_images=self.row_images)

    @property
    def shape(self) -> tuple[int, int]:
        """T and I, no longer left open."""
        assert self.row_tokens and self.row_images, "rows get their shape from the data before anything is packed"
        return self.row_tokens, self.row_images
