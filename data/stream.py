"""Rows of all epochs by one index, and the number of rows of each block."""

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
    """Row counts of blocks in a file, so that a resumed run need not plan earlier blocks.

    One line per block, written by the first process that plans it; concurrent writers do no harm.
    """

    path: Path
    key: str
    """Digest of everything the plans depend on; lines with another key are ignored."""

    def rows(self) -> dict[int, int]:
        """Known row counts by block; damaged lines are ignored and their blocks counted again."""
        lines, _ = read_lines(self.path)
        return {block: rows for key, block, rows in lines if key == self.key}

    def add(self, block: int, rows: int) -> None:
        """Append the count of a new block. Failure to write is ignored: the block is counted again."""
        with suppress(OSError):
            if block not in self.rows():
                with self.path.open("a") as file:
                    file.write(checked_line([self.key, block, rows]))


class Epochs:
    """Rows of all epochs, `blocks` blocks per epoch; `plan(k)` plans block k of the stream.

    Plans are made on demand, by one thread at a time; the last two are kept. Earlier blocks are planned too, to count
    their rows, unless `counts` has them.
    """

    def __init__(self, plan: Callable[[int], Plan], blocks: int = 1, counts: BlockCounts | None = None):
        self.plan = plan
        self.blocks = blocks
        self.counts = counts
        self.known = counts.rows() if counts else {}
        self.firsts = [0]  # first row of each counted block and of the next one
        self.kept: dict[int, Plan] = {}
        self.lock = threading.Lock()

    def __getstate__(self) -> tuple[Callable[[int], Plan], int, BlockCounts | None]:
        return self.plan, self.blocks, self.counts

    def __setstate__(self, state: tuple[Callable[[int], Plan], int, BlockCounts | None]) -> None:
        self.__init__(*state)

    def locate(self, index: int) -> tuple[int, Plan, int]:
        """Epoch, plan of the block, and row within that plan, of row `index` of the stream.

        A block in which no image fits has no rows.   Raises DataError if an epoch has no rows.
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
        """Count the rows of the next block."""
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
