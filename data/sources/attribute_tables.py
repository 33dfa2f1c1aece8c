"""Attributes of images in a CSV table: a column `file`, and a column for each attribute."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from .csv_tables import by_file
from .source import Attribute

TABLE = "attributes.csv"


def beside(folder: Path, root: Path, names: np.ndarray) -> tuple[Attribute, ...]:
    """The attributes of images by a table in their folder, or by one in `root` that names them from there; none
    without a table.   Raises DataError."""
    table, start = table_for(folder, root)
    return table_attributes(table, [os.fspath(start / os.fsdecode(n)) for n in names.tolist()]) if table else ()


def table_for(folder: Path, root: Path) -> tuple[Path | None, Path]:
    """The table of the images of a folder, there or in `root`, and the path to the folder from there."""
    if (folder / TABLE).is_file():
        return folder / TABLE, Path()
    return root / TABLE if (root / TABLE).is_file() else None, folder.relative_to(root)


def values_beside(folder: Path, root: Path, column: str) -> dict[str, str]:
    """The values of a column, by path below `folder`.   Raises DataError where no table has it."""
    table, start = table_for(folder, root)
    columns, rows = by_file(table) if table else ((), {})
    if column not in columns:
        lacks = f"{table} has no column {column!r}" if table else f"{folder} has no {TABLE} with a column {column!r}"
        raise DataError(f"{lacks}: add it, or drop it from data.source.attributes")
    return {os.path.relpath(name, start): row[column].strip() for name, row in rows.items()}


def table_attributes(path: Path, names: Sequence[str], others: Sequence[str] = ("file",)) -> tuple[Attribute, ...]:
    """Each column but `others`: its values, sorted, and that of each image; −1 for an empty cell, and for an image that
    the table does not name.   Raises DataError where it is damaged, with the line."""
    columns, rows = by_file(path)
    if rows and not rows.keys() & {*names}:
        raise DataError(f"{path} names none of the images, first {names[0]!r}: paths start at the folder of the table")
    values = {column: {name: row[column].strip() for name, row in rows.items()} for column in columns}
    return tuple(numbered(column, values[column], names) for column in columns if column not in others)


def numbered(column: str, values: dict[str, str], names: Sequence[str]) -> Attribute:
    """An attribute from the value of each file; \"\" for none."""
    known = sorted({*values.values()} - {""})
    number = {value: i for i, value in enumerate(known)} | {"": -1}
    return Attribute(column, tuple(known), np.array([number[values.get(name, "")] for name in names], np.int64))
