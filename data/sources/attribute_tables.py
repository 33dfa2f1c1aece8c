"""Attributes of images in a CSV table: a column `file`, and a column for each attribute."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..manifest import printable
from .source import Attribute

TABLE = "attributes.csv"


def beside(folder: Path, root: Path, names: np.ndarray) -> tuple[Attribute, ...]:
    """The attributes of images by a table in their folder, or by one in `root` that names them from there; none
    without a table.   Raises DataError."""
    below = [os.fsdecode(name) for name in names.tolist()]
    if (folder / TABLE).is_file():
        return table_attributes(folder / TABLE, below)
    if (root / TABLE).is_file():
        start = folder.relative_to(root)
        return table_attributes(root / TABLE, [os.fspath(start / name) for name in below])
    return ()


def table_attributes(path: Path, names: Sequence[str], others: Sequence[str] = ("file",)) -> tuple[Attribute, ...]:
    """Each column but `others`: its values, sorted, and that of each image; −1 for an empty cell, and for an image that
    the table does not name.   Raises DataError where it is damaged, with the line."""
    rows: dict[str, dict[str, str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file, strict=True)
            columns = [name for name in lines.fieldnames or () if name not in others]
            if "file" not in (lines.fieldnames or ()):
                raise DataError(f"{path} has no column file in its first line: add it")
            for line in lines:
                name = line["file"]
                if not name or name in rows:
                    why = f"file {printable(name or '')!r} is empty or listed twice"
                    raise DataError(f"{path}, line {lines.line_num}: {why}: fix the line")
                rows[name] = {column: (line[column] or "").strip() for column in columns}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a table in UTF-8, {error}: save it again") from None
    if rows and not rows.keys() & {*names}:
        raise DataError(f"{path} names none of the images, first {names[0]!r}: paths start at the folder of the table")
    return tuple(numbered(column, {name: row[column] for name, row in rows.items()}, names) for column in columns)


def numbered(column: str, values: dict[str, str], names: Sequence[str]) -> Attribute:
    """An attribute from the value of each file; \"\" for none."""
    known = sorted({*values.values()} - {""})
    number = {value: i for i, value in enumerate(known)} | {"": -1}
    return Attribute(column, tuple(known), np.array([number[values.get(name, "")] for name in names], np.int64))
