"""Texts as packed rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .images import empty_rows, pack_lengths
from .rows import Row

ROW_TEXTS = 16  # of a row, at most


def packed_texts(ids: Sequence[Sequence[int]], row_tokens: int) -> Row:
    """Token ids of texts in as many rows as they fill; the image ids are the places in the list."""
    rows = pack_lengths([len(each) for each in ids], row_tokens, ROW_TEXTS)
    return text_batch(ids, rows, row_tokens, len(rows))


def text_batch(ids: Sequence[Sequence[int]], rows: Sequence[Sequence[int]], row_tokens: int, count: int) -> Row:
    """Texts, by the lists of those that share a row, as `count` packed rows; rows that are missing are empty."""
    batch: Any = empty_rows(count, row_tokens, ROW_TEXTS, 1, 1, np.int32)
    for r, row in enumerate(rows):
        end = 0
        for slot, i in enumerate(row):
            start, end = end, end + len(ids[i])
            batch.patches[r, start:end, 0] = ids[i]
            batch.coords[r, start:end, 0] = np.arange(len(ids[i]))
            batch.segment_ids[r, start:end] = slot + 1
            batch.grids[r, slot] = len(ids[i])
            batch.image_ids[r, slot] = i
    return batch
