"""Columns of parquet files, read by pyarrow and checked. Errors are DataError with file and record."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAX_CLASSES = 1_000_000  # limit of integer labels: a wrong column must not make billions of classes


def read_images(file: Path, column: str) -> list[bytes]:
    """Encoded images; b"" where a record has none."""
    values = _read(file, column)
    if not _holds_bytes(values.type):
        raise DataError(
            f"{file}: column {column!r} holds {values.type}, not bytes or a struct with bytes: set data.source.image"
        )
    return [(v["bytes"] if isinstance(v, dict) else v) or b"" for v in values.to_pylist()]


def read_labels(file: Path, column: str) -> list[int] | list[str] | list[list[int]] | list[list[str]]:
    """Class names, or integers from 0 on, or lists of them; all of one kind."""
    values = _read(file, column).to_pylist()
    kinds = set()
    for i, value in enumerate(values):
        inside = value if isinstance(value, list) else [value]
        kinds |= {type(label) for label in inside}
        if type(value) is not type(values[0]) or not kinds <= {int} and not kinds <= {str}:
            raise DataError(
                f"{file.name}:{i} has {column} {value!r}: labels are all integers or all strings, or lists of them; "
                "fix or remove it, or set data.source.label"
            )
        if kinds == {int} and not all(0 <= label < MAX_CLASSES for label in inside):
            raise DataError(
                f"{file.name}:{i} has {column} {value}: integer labels run from 0 to below {MAX_CLASSES}; number the "
                "classes, or set data.source.label"
            )
    return values


def class_names(file: Path, label: str) -> tuple[str, ...]:
    """Class names stored by the `datasets` library, if any."""
    with _opened(file) as table:
        stored = (table.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        names = json.loads(stored)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(n, str) for n in names) else ()


def _read(file: Path, column: str) -> "pa.ChunkedArray":
    with _opened(file) as table:
        if column not in (names := table.schema_arrow.names):
            raise DataError(f"{file} has no column {column!r}; it has {', '.join(names)}: set data.source")
        return table.read([column])[column]


def _holds_bytes(kind: "pa.DataType") -> bool:
    import pyarrow.types as is_a

    if is_a.is_struct(kind):
        field = kind.get_field_index("bytes")
        return field >= 0 and _holds_bytes(kind.field(field).type)
    return is_a.is_binary(kind) or is_a.is_large_binary(kind) or is_a.is_binary_view(kind)


@contextmanager
def _opened(file: Path) -> Iterator["pq.ParquetFile"]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pa.OSFile(os.fsencode(file)) as stream, pq.ParquetFile(stream) as table:
            yield table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = str(error).splitlines()[0]
        raise DataError(f"{file} cannot be read as parquet: {why}; write or download it again") from error
