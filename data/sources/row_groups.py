"""Encoded images of parquet files: in memory, or, of remote files, by row group when they are asked for."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from .parquet_columns import read_images, read_row_group, row_group_counts
from .remote import Location, RemotePath

KEPT_BYTES = 1 << 30  # of encoded images, in each process that reads


class RowGroups(Sequence[bytes]):
    """Images by row of all files; the row groups that were asked for last stay in memory.

    An image costs a whole row group where this is not in memory: write small ones, or tar shards.
    """

    def __init__(self, files: Sequence[Location], column: str):
        self.column = column
        self.groups = [(file, g, n) for file in files for g, n in enumerate(row_group_counts(file))]
        self.ends = np.cumsum([count for _, _, count in self.groups], dtype=np.int64)
        self.kept: OrderedDict[int, list[bytes]] = OrderedDict()

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, index: int) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Raises DataError where the file cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self.ends, index, side="right"))
        first = int(self.ends[number]) - self.groups[number][2]
        return self._group(number)[index - first]

    def _group(self, number: int) -> list[bytes]:
        if number not in self.kept:
            file, group, _ = self.groups[number]
            self.kept[number] = read_row_group(file, self.column, group)
            while len(self.kept) > 1 and sum(len(x) for images in self.kept.values() for x in images) > KEPT_BYTES:
                self.kept.popitem(last=False)
        self.kept.move_to_end(number)
        return self.kept[number]


def encoded_images(files: Sequence[Location], column: str) -> Sequence[bytes]:
    """The encoded images of all rows: those of files on disk at once, others when they are asked for."""
    if any(isinstance(file, RemotePath) for file in files):
        return RowGroups(files, column)
    return [image for file in files for image in read_images(file, column)]
