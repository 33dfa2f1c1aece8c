"""Packing rules as objects: which images share a row."""

from collections.abc import Sequence
from dataclasses import dataclass

from reference.packing import best_fit, drop_surplus, exact_fit, first_fit


@dataclass(frozen=True)
class ExactFit:
    """The oldest waiting image, with the company that fills its row best."""

    window: int = 64
    """Images that may wait."""

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

    def rows(self, lengths: Sequence[int], row_tokens: int, row_images: int) -> list[list[int]]:
        return first_fit(lengths, row_tokens, row_images, self.window, self.misfits)


@dataclass(frozen=True)
class BestFit:
    """Each image into the open row with the least room that suffices."""

    window: int = 64
    """Rows that stay open."""
    misfits: int = 0
    """Images without room that may wait before the open rows close; they come first in the next ones."""

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
