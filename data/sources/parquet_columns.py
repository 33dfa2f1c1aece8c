"""Columns of parquet files, read by pyarrow and checked. Errors are DataError with file and record."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .remote import Location

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAX_CLASSES = 1_000_000  # limit of integer labels: a wrong column must not make billions of classes


def read_images(file: Location, column: str) -> list[bytes]:
    """Encoded images; b"" where a record has none."""
    return _encoded(file, column, _read(file, column))


def row_group_counts(file: Location) -> list[int]:
    """Number of rows of each row group."""
    with _opened(file) as table:
        return [table.metadata.row_group(g).num_rows for g in range(table.num_row_groups)]


def read_row_group(file: Location, column: str, group: int) -> list[bytes]:
    """Encoded images of a row group; b"" where a record has none."""
    with _opened(file) as table:
        if column not in (names := table.schema_arrow.names):
            raise DataError(f"{file} has no column {column!r}; it has {', '.join(names)}: set data.source")
        return _encoded(file, column, table.read_row_group(group, [column])[column])


def _encoded(file: Location, column: str, values: "pa.ChunkedArray") -> list[bytes]:
    if not _holds_bytes(values.type):
        raise DataError(
            f"{file}: column {column!r} holds {values.type}, not bytes or a struct with bytes: set data.source.image"
        )
    return [(v["bytes"] if isinstance(v, dict) else v) or b"" for v in values.to_pylist()]


def read_labels(file: Location, column: str) -> list[int] | list[str] | list[list[int]] | list[list[str]]:
    """Class names, or integers from 0 on, or lists of them; all of one kind."""
    values = _values(file, column, _read(file, column))
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


def read_captions(file: Location, column: str) -> list[Any]:
    """None, a text, or a list of texts per record."""
    values = _read(file, column)
    kind = values.type
    while _is_list(kind):
        kind = kind.value_type
    if not _is_text(kind):
        raise DataError(f"{file}: column {column!r} holds {values.type}, not texts: set data.source.caption")
    return _values(file, column, values)


def read_texts(file: Location, column: str) -> list[str]:
    """One text per record; empty where there is none."""
    values = _read(file, column)
    if not _is_text(values.type):
        raise DataError(f"{file}: column {column!r} holds {values.type}, not texts: name another column")
    return [value or "" for value in _values(file, column, values)]


def read_paths(file: Location, column: str, count: int) -> list[str]:
    """The field `path` of a struct of images; empty where there is none."""
    import pyarrow.types as is_a

    with _opened(file) as table:
        kind = table.schema_arrow.field(column).type
        if not is_a.is_struct(kind) or kind.get_field_index("path") < 0:
            return [""] * count
        found = table.read([f"{column}.path"])
    paths = [value and value.get("path") for value in _values(file, column, found[column])]
    return [path if isinstance(path, str) else "" for path in paths]


def column_names(file: Location, encoded: bool = False) -> list[str]:
    """Names of the columns, or of those that hold bytes."""
    with _opened(file) as table:
        return [field.name for field in table.schema_arrow if not encoded or _holds_bytes(field.type)]


def class_names(file: Location, label: str) -> tuple[str, ...]:
    """Class names stored by the `datasets` library, if any."""
    with _opened(file) as table:
        stored = (table.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        names = json.loads(stored)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(n, str) for n in names) else ()


def nested_names(file: Location, column: str) -> tuple[str, ...]:
    """Class names that the `datasets` library stored somewhere below a column, if any."""
    with _opened(file) as table:
        stored = (table.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        return _names_below(json.loads(stored)["info"]["features"][column])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()


def _names_below(feature: Any) -> tuple[str, ...]:
    """The first list of names in a tree."""
    inside = [*feature.values()] if isinstance(feature, dict) else feature if isinstance(feature, list) else []
    if isinstance(feature, dict) and isinstance(names := feature.get("names"), list):
        return tuple(map(str, names))
    return next((found for part in inside if (found := _names_below(part))), ())


def read_objects(file: Location, column: str) -> list[dict[str, list[Any]]]:
    """Records of a struct of lists, or of a list of structs, as dicts of lists; empty where there is none."""
    found = []
    for i, value in enumerate(_values(file, column, _read(file, column))):
        if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
            value = {key: [entry.get(key) for entry in value] for key in (value[0] if value else {})}
        if value is not None and not isinstance(value, dict):
            raise DataError(
                f"{file.name}:{i} has {column} {value!r:.60}, not boxes with labels: set data.source.objects"
            )
        found.append(value or {})
    return found


def _read(file: Location, column: str) -> "pa.ChunkedArray":
    with _opened(file) as table:
        if column not in (names := table.schema_arrow.names):
            raise DataError(f"{file} has no column {column!r}; it has {', '.join(names)}: set data.source")
        return table.read([column])[column]


def _values(file: Location, column: str, values: "pa.ChunkedArray") -> list[Any]:
    try:
        return values.to_pylist()
    except (UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{file}: column {column!r} cannot be read, {error}: write it again") from error


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow.types as is_a

    return is_a.is_string(kind) or is_a.is_large_string(kind) or is_a.is_string_view(kind)


def _is_list(kind: "pa.DataType") -> bool:
    import pyarrow.types as is_a

    return is_a.is_list(kind) or is_a.is_large_list(kind) or is_a.is_fixed_size_list(kind)


def _holds_bytes(kind: "pa.DataType") -> bool:
    import pyarrow.types as is_a

    if is_a.is_struct(kind):
        field = kind.get_field_index("bytes")
        return field >= 0 and _holds_bytes(kind.field(field).type)
    return is_a.is_binary(kind) or is_a.is_large_binary(kind) or is_a.is_binary_view(kind)


def _stream(file: Location) -> Any:
    import pyarrow as pa

    return pa.OSFile(os.fsencode(file)) if isinstance(file, Path) else pa.PythonFile(file.open("rb"), mode="r")


@contextmanager
def _opened(file: Location) -> Iterator["pq.ParquetFile"]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _stream(file) as stream, pq.ParquetFile(stream) as table:
            yield table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = str(error).splitlines()[0]
        raise DataError(f"{file} cannot be read as parquet: {why}; write or download it again") from error
