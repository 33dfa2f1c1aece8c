"""How many rows each block of a run's stream has, in a file: who continues the run need not plan them to count."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ledger:
    """A line for each block, from whichever process planned it first; several at once do no harm."""

    path: Path
    key: str
    """Of all that the plans follow from: lines with another key say nothing about them."""

    def rows(self) -> dict[int, int]:
        """By block, as far as is known; what is no whole line is passed over."""
        found = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            with suppress(ValueError):
                key, block, rows = json.loads(line)
                found |= {block: rows} if key == self.key else {}
        return found

    def add(self, block: int, rows: int) -> None:
        """If it is not there. Where it cannot be written, it is counted again: that costs time, not the run."""
        with suppress(OSError):
            if block not in self.rows():
                with self.path.open("a") as file:
                    file.write(json.dumps([self.key, block, rows]) + "\n")
