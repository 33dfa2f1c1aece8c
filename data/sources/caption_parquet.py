"""Captions in parquet files, in the layout of image-text sets on the Hugging Face hub."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int

from ..errors import DataError
from .caption_tables import column_of
from .measured import stamp
from .pairs import CAPTION_COLUMNS, Pairs, same_images, unique_names
from .parquet_columns import column_names, read_captions, read_paths, read_texts
from .remote import Location
from .row_groups import encoded_images
from .source import Attribute


class Encoded:
    """Encoded images in columns of parquet files, kept in memory, or read by row group from a URL; in each process."""

    def __init__(self, files: Sequence[Location], column: str):
        self.files, self.column = files, column
        self.rows = np.arange(len(self.images))

    @cached_property
    def images(self) -> Sequence[bytes]:
        """The encoded images of all rows."""
        return encoded_images(self.files, self.column)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "images"}

    def read(self, index: int) -> bytes:
        """Empty where the row has no image."""
        return self.images[int(self.rows[index])]

    def length(self, index: int) -> int:
        """Bytes of an image; 0 where the row has none."""
        return len(self.read(index))


def parquet_pairs(files: Sequence[Location], image: str, caption: str) -> Pairs:
    """Images of parquet files with their captions; rows with the same image are one image.   Raises DataError."""
    columns = column_names(files[0])
    image = image or next(iter(column_names(files[0], encoded=True)), "image")
    caption = column_of(files[0], columns, caption, CAPTION_COLUMNS, "caption")
    reader = Encoded(files, image)
    names, paths, captions = [], [], []
    for file in files:
        found = read_captions(file, caption)
        captions += found
        names += [f"{file.name}:{i}" for i in range(len(found))]
        paths += read_paths(file, image, len(found))
    first = np.array(same_images(reader, range(len(names))), np.int64)
    rows = np.unique(first)
    united: dict[int, list[Any]] = {row: [] for row in rows.tolist()}
    for row, value in zip(first.tolist(), captions):
        united[row].append(value)
    reader.rows = rows
    notes = [f"captions: column {caption}"]
    if len(rows) < len(names):
        notes.append(f"{len(names) - len(rows)} rows repeat an image: their captions are united")
    return Pairs(
        unique_names([paths[i] for i in rows], [names[i] for i in rows]),
        [united[row] for row in rows.tolist()],
        reader,
        [[[str(file.resolve()), stamp(file)] for file in files], image, caption],
        [],
        notes,
    )


def attribute_columns(
    known: Sequence[Location],
    files: Sequence[Location],
    columns: tuple[str, ...],
    reader: Encoded,
    places: Int[np.ndarray, " N"],
) -> tuple[Attribute, ...]:
    """The values of columns as classes with prompts, over all splits in sorted order.   Raises DataError."""
    found = []
    for column in columns:
        everywhere = [value for file in known for value in read_texts(file, column)]
        own = [value for file in files for value in read_texts(file, column)]
        found.append(attribute(column, everywhere, [own[row] for row in reader.rows[places].tolist()], files[0]))
    return tuple(found)


def attribute(column: str, everywhere: Iterable[Any], own: Iterable[Any], where: Location) -> Attribute:
    """The values of a column as classes with prompts: those of all splits, sorted, and those of the images.

    Raises DataError where it has no text.
    """
    values = sorted({*map(text_of, everywhere)} - {""})
    if not values:
        raise DataError(f"{where}: column {column!r} has no text: drop it from data.source.attributes")
    number = {value: i for i, value in enumerate(values)}
    labels = [number.get(text_of(value), -1) for value in own]
    return Attribute(column, tuple(map(prompt, values)), np.array(labels, np.int64))


def text_of(value: Any) -> str:
    """The value of an attribute as a text: JSON may have a number; empty where it is neither."""
    return value.strip() if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def column_of_images(
    files: Sequence[Location], column: str, reader: Encoded, places: Int[np.ndarray, " N"]
) -> list[Any]:
    """The value of each image in a column of texts or lists of texts."""
    values = [value for file in files for value in read_captions(file, column)]
    return [values[row] for row in reader.rows[places].tolist()]


def prompt(name: str) -> str:
    """The name of a class as a text."""
    return " ".join(name.replace("-", " ").replace("_", " ").split())
