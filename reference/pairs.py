"""Packing of pairs: the images and the texts of a batch share rows of their own, and no pair is split.

Images are packed as always, and so are texts, by the same rule. What is new is that both must hold the same pairs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

Fit = Callable[[Sequence[int], int, int], list[list[int]]]
"""(lengths, row_tokens, row_slots) → rows of indices, such as `packing.exact_fit` with a window."""


class Room(NamedTuple):
    """Rows of one kind in a group."""

    rows: int
    tokens: int
    slots: int


class Group(NamedTuple):
    """Rows of images and rows of texts with the same pairs."""

    images: list[list[int]]
    texts: list[list[int]]


def pack_pairs(
    image_lengths: Sequence[int],
    text_lengths: Sequence[int],
    images: Room,
    texts: Room,
    fit: Fit,
    rows: list[list[int]] | None = None,
    window: int = 32,
    keys: Sequence[int] | None = None,
) -> list[Group]:
    """Groups of `images.rows` rows of images and `texts.rows` rows of texts: every pair is in exactly one group.

    1. Pack all images. 2. Deal the rows into groups that need equal numbers of text tokens, `window` groups at a time.
    3. Pack the texts of each group; pairs whose text fits no row start again at 1.
    `rows`, if given, are the images as they were packed already. Every text must fit a row of texts. Pairs of a group
    with equal `keys`, if given, have the text of the first of them alone.
    Choice: the papers pack one kind alone.
    """

    def packed(lengths: Sequence[int], pairs: list[int], room: Room) -> list[list[int]]:
        return [[pairs[k] for k in row] for row in fit([lengths[i] for i in pairs], room.tokens, room.slots)]

    def distinct(pairs: list[int]) -> list[int]:
        first: dict[int, int] = {}
        return pairs if keys is None else [i for i in pairs if first.setdefault(keys[i], i) == i]

    groups: list[Group] = []
    rows = packed(image_lengths, list(range(len(image_lengths))), images) if rows is None else rows
    while rows:
        late: list[int] = []
        for start in range(0, len(rows), window * images.rows):
            for dealt in deal(rows[start : start + window * images.rows], text_lengths, images.rows):
                if late and len(dealt) < images.rows:
                    late += sum(dealt, [])  # complete the last group with the pairs that were late
                    continue
                pairs = sum(dealt, [])
                placed = packed(text_lengths, distinct(pairs), texts)
                surplus = {i for row in placed[texts.rows :] for i in row}
                if keys is not None:
                    without = {keys[i] for i in surplus}
                    surplus = {i for i in pairs if keys[i] in without}
                groups.append(Group([[i for i in row if i not in surplus] for row in dealt], placed[: texts.rows]))
                late += surplus
        rows = packed(image_lengths, sorted(late), images)
    return groups


def deal(rows: Sequence[list[int]], text_lengths: Sequence[int], group_rows: int) -> list[list[list[int]]]:
    """Groups of `group_rows` rows that need about the same number of text tokens; the last may hold fewer rows.

    Rows in order of their need are dealt to the groups there and back, as cards to players.
    """
    whole, rest = divmod(len(rows), group_rows)
    order = sorted(range(len(rows)), key=lambda r: -sum(text_lengths[i] for i in rows[r]))
    left = [order.pop(len(order) // 2) for _ in range(rest)]  # of a median need
    groups: list[list[list[int]]] = [[] for _ in range(whole)]
    for k, r in enumerate(order):
        turn, place = divmod(k, whole)
        groups[place if turn % 2 == 0 else whole - 1 - place].append(rows[r])
    return groups + ([[rows[r] for r in left]] if left else [])
