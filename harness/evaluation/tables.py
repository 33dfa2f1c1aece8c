"""Printed tables and CSV files."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def flat(row: dict) -> dict:
    """The row with inner dicts flattened."""
    return {
        k: v for key, value in row.items() for k, v in (value.items() if isinstance(value, dict) else [(key, value)])
    }


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """Write rows as CSV: one column per key, six significant digits, empty cells for None."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, flat(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in flat(row).items()} for row in rows)


def table(rows: Sequence[dict]) -> str:
    """A text table of the rows; columns with equal values in all rows are printed once, below it."""
    cells = [{k: _cell(v) for k, v in flat(row).items()} for row in rows]
    same = {k: v for k, v in cells[0].items() if len(rows) > 1 and all(row[k] == v for row in cells)}
    names = [k for k in cells[0] if k not in same]
    lines = _headings(names) + [[row[k] for k in names] for row in cells]
    widths = [max(len(line[c]) for line in lines) for c in range(len(names))]
    text = "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths)).rstrip() for line in lines)
    below = " · ".join(f"{k.replace('_', ' ')} {v}" for k, v in same.items())
    return f"{text}\n\nin all rows: {below}" if below else text


def _headings(names: Sequence[str]) -> list[list[str]]:
    """Column names with one word per line, aligned at the bottom, for narrow columns."""
    words = [name.replace("_", " ").split() for name in names]
    depth = max(map(len, words))
    return [list(line) for line in zip(*([""] * (depth - len(w)) + w for w in words))]


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
