"""CSV tables with named columns: one reader, and one wording of what is wrong with a table."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..manifest import printable

Cells = dict[str, str]


def csv_lines(path: Path, *needed: str) -> tuple[list[str], list[tuple[int, Cells]]]:
    """Columns, and the cells of each line with its number; a cell that is not there is empty.

    Raises DataError where the table is damaged, lacks a column or has two of a name, or a line has more cells than
    columns, as where a comma in a name is not quoted.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file, strict=True)
            columns = [*(lines.fieldnames or ())]
            if twice := [name for name, count in Counter(columns).items() if name and count > 1]:
                raise DataError(f"{path} has two columns {printable(twice[0])!r} in its first line: rename one")
            if missing := [name for name in needed if name not in columns]:
                some = "columns" if missing[1:] else "column"
                other = next((mark for mark in (";", "\t") if mark in "".join(columns)), "")
                how = f"columns are parted by commas, not by {other!r}" if other else "add it"
                raise DataError(f"{path} has no {some} {' and '.join(missing)} in its first line: {how}")
            return columns, [(lines.line_num, cells_of(line, f"{path}, line {lines.line_num}")) for line in lines]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a table in UTF-8, {error}: save it again") from None


def cells_of(line: dict[str | None, Any], where: str) -> Cells:
    """The cells of a line by column.   Raises DataError where there are more."""
    more = line.pop(None, None) or []
    if any(more):
        raise DataError(f"{where}: more cells than columns, from {printable(more[0])!r} on: quote commas")
    return {name: cell or "" for name, cell in line.items()}  # pyright: ignore[reportReturnType]


def by_file(path: Path, *needed: str) -> tuple[list[str], dict[str, Cells]]:
    """Columns, and the cells of each file, by the column `file`.   Raises DataError, with the number of the line."""
    columns, lines = csv_lines(path, "file", *needed)
    found: dict[str, Cells] = {}
    for number, cells in lines:
        name = cells["file"]
        if not name or name in found:
            why = f"file {printable(name)!r} is empty or listed twice"
            raise DataError(f"{path}, line {number}: {why}: fix the line")
        found[name] = cells
    return columns, found
