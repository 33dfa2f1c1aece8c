"""Tables to read, and CSV files."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def flat(row: dict) -> dict:
    """The row with the columns of inner dicts among its own."""
    return {
        k: v for key, value in row.items() for k, v in (value.items() if isinstance(value, dict) else [(key, value)])
    }


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """One column per key, numbers to six digits, an empty cell for None."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, flat(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in flat(row).items()} for row in rows)


def table(rows: Sequence[dict]) -> str:
    """Rows and columns to read; columns that are the same in all of several rows stand below, once."""
    cells = [{k: _cell(v) for k, v in flat(row).items()} for row in rows]
    same = {k: v for k, v in cells[0].items() if len(rows) > 1 and all(row[k] == v for row in cells)}
    names = [k for k in cells[0] if k not in same]
    lines = _headings(names) + [[row[k] for k in names] for row in cells]
    widths = [max(len(line[c]) for line in lines) for c in range(len(names))]
    text = "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths)).rstrip() for line in lines)
    below = " · ".join(f"{k.replace('_', ' ')} {v}" for k, v in same.items())
    return f"{text}\n\nin all rows: {below}" if below else text


def _headings(names: Sequence[str]) -> list[list[str]]:
    """The words of each name below one another, ending on the same line: narrow columns."""
    words = [name.replace("_", " ").split() for name in names]
    depth = max(map(len, words))
    return [list(line) for line in zip(*([""] * (depth - len(w)) + w for w in words))]


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
