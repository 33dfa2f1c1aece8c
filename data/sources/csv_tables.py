"""CSV tables with named columns: one reader, and one wording of what is wrong with a table."""

import csv
from pathlib import Path

from ..errors import DataError
from ..manifest import printable

Cells = dict[str, str]


def csv_lines(path: Path, *needed: str) -> tuple[list[str], list[tuple[int, Cells]]]:
    """Columns, and the cells of each line with its number; a cell that is not there is empty.

    Raises DataError where the table is damaged or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file, strict=True)
            columns = [*(lines.fieldnames or ())]
            if not {*needed} <= {*columns}:
                some = "columns" if needed[1:] else "column"
                raise DataError(f"{path} has no {some} {' and '.join(needed)} in its first line: add it")
            return columns, [(lines.line_num, {name: line[name] or "" for name in columns}) for line in lines]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a table in UTF-8, {error}: save it again") from None


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
