"""Printed tables and CSV files."""

import csv
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from navit_eqx.files import replacing

from ..terminal import WIDTH


def flat(row: dict) -> dict:
    """The row with inner dicts flattened."""
    return {
        k: v for key, value in row.items() for k, v in (value.items() if isinstance(value, dict) else [(key, value)])
    }


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """Write rows as CSV: one column per key, six significant digits, empty cells for None."""
    with replacing(path) as draft, draft.open("w", newline="") as file:
        writer = csv.DictWriter(file, flat(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in flat(row).items()} for row in rows)


def table(rows: Sequence[dict]) -> str:
    """A text table of the rows, within WIDTH columns: wide tables are split, and each part repeats the first column.

    Columns with equal values in all rows are printed once, below it; long cells are cut, CSV files have them whole.
    """
    cells = [{k: _short(cell(v)) for k, v in flat(row).items()} for row in rows]
    same = {k: v for k, v in cells[0].items() if len(rows) > 1 and all(row[k] == v for row in cells)}
    names = [k for k in cells[0] if k not in same]
    columns = [[*heading, *(row[name] for row in cells)] for name, heading in zip(names, _headings(names))]
    texts = ["\n".join("  ".join(line).rstrip() for line in zip(*part)) for part in _parts(columns)]
    below = " · ".join(f"{k.replace('_', ' ')} {v}" for k, v in same.items())
    return "\n\n".join([*texts, *(["\n".join(textwrap.wrap(f"in all rows: {below}", WIDTH))] if below else [])])


def _parts(columns: list[list[str]]) -> list[list[list[str]]]:
    """Columns of equal width, in groups that fit into WIDTH; each group begins with the first column."""
    even = [[cell.rjust(max(map(len, column))) for cell in column] for column in columns]
    parts, used = [even[:1]], sum(len(column[0]) for column in even[:1])
    for column in even[1:]:
        if used + 2 + len(column[0]) > WIDTH:
            parts, used = [*parts, even[:1]], len(even[0][0])
        parts[-1] = [*parts[-1], column]
        used += 2 + len(column[0])
    return parts


def _headings(names: Sequence[str]) -> list[list[str]]:
    """The words of each column name, one per line, aligned at the bottom, for narrow columns."""
    words = [[_short(word) for word in name.replace("_", " ").split()] for name in names]
    depth = max(map(len, words), default=0)
    return [[""] * (depth - len(w)) + w for w in words]


def cell(value: Any) -> str:
    """A value for reading: three significant digits, - for None."""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "-" if value is None else str(value)


def _short(text: str) -> str:
    """A text cut so that two columns and the space between them fit into WIDTH."""
    most = WIDTH // 2 - 1
    return text if len(text) <= most else f"{text[: most - 1]}…"
