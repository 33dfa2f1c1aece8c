"""The rows of all epochs in one line, and how many each of its blocks has."""

import bisect
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .checksums import checked_line, read_lines
from .errors import DataError
from .plan import Plan


@dataclass(frozen=True)
class BlockCounts:
    """How many rows each block has, in a file, so that a run that continues need not plan the blocks before.

    A line for each block, from whichever process planned it first; several at once do no harm.
    """

    path: Path
    key: str
    """Of all that the plans follow from: lines with another key say nothing about them."""

    def rows(self) -> dict[int, int]:
        """By block, as far as is known; a line that is not what was written is passed over, and its block counted again."""
        lines, _ = read_lines(self.path)
        return {block: rows for key, block, rows in lines if key == self.key}

    def add(self, block: int, rows: int) -> None:
        """Write a block that is not there. A failure costs time, not the run: the block is counted again."""
        with suppress(OSError):
            if block not in self.rows():
                with self.path.open("a") as file:
                    file.write(checked_line([self.key, block, rows]))


class Epochs:
    """Every row of every epoch, each epoch in so many blocks: `plan` makes the k-th block of the stream.

    Plans are made when needed, by one thread at a time; two are kept. Blocks before the one that is needed are planned
    as well, to count their rows, unless a counts knows them.
    """

    def __init__(self, plan: Callable[[int], Plan], blocks: int = 1, counts: BlockCounts | None = None):
        self.plan = plan
        self.blocks = blocks
        self.counts = counts
        self.known = counts.rows() if counts else {}
        self.firsts = [0]  # the first row of each block that was counted, and of the next
        self.kept: dict[int, Plan] = {}
        self.lock = threading.Lock()

    def __getstate__(self) -> tuple[Callable[[int], Plan], int, BlockCounts | None]:
        return self.plan, self.blocks, self.counts

    def __setstate__(self, state: tuple[Callable[[int], Plan], int, BlockCounts | None]) -> None:
        self.__init__(*state)

    def locate(self, index: int) -> tuple[int, Plan, int]:
        """Epoch, the plan of the block, and the row in it, of row `index` of the stream.

        A block in which no image fits has no row.   Raises DataError where that is so of a whole epoch.
        """
        with self.lock:
            while self.firsts[-1] <= index:
                self._count()
            block = bisect.bisect_right(self.firsts, index) - 1
            return block // self.blocks, self._planned(block), index - self.firsts[block]

    def planned(self, block: int) -> Plan:
        """The plan of a block."""
        with self.lock:
            return self._planned(block)

    def _count(self) -> None:
        """The rows of one more block."""
        block = len(self.firsts) - 1
        rows = self.known[block] if block in self.known else len(self._planned(block).image_ids)
        if self.counts and block not in self.known:
            self.counts.add(block, rows)
        end = self.firsts[-1] + rows
        epoch, place = divmod(block, self.blocks)
        if place == self.blocks - 1 and end == self.firsts[epoch * self.blocks]:
            why = "".join(f"; the last: {why}" for _, why in self._planned(block).left_out[-1:])
            raise DataError(f"none of the images of epoch {epoch} fits a row{why}")
        self.firsts.append(end)

    def _planned(self, block: int) -> Plan:
        if block not in self.kept:
            self.kept = dict([*self.kept.items()][-1:])
            self.kept[block] = self.plan(block)
            rows = len(self.kept[block].image_ids)
            if self.counts and self.known.get(block, rows) != rows:
                raise DataError(
                    f"{self.counts.path}: block {block} has {rows} rows, not {self.known[block]}: remove this file"
                )
        return self.kept[block]
