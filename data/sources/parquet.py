"""Encoded images in parquet files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Num

from ..errors import DataError, DataMissing
from .attribute_tables import numbered as numbered_values
from .folder import first_names
from .label_sets import fill_up
from .layout import held_out, part_of
from .measured import cached_manifest, decoded_as, stamp
from .parquet_columns import class_names, read_labels, read_texts
from .remote import Location, located
from .row_groups import encoded_images
from .source import Attribute, Source


@dataclass(frozen=True)
class Parquet:
    """Encoded images in parquet files, as on the Hugging Face hub: ROOT/train*.parquet and ROOT/val*.parquet (or
    test*), or the same in ROOT/data/. Without a validation split, a tenth of each class is held out."""

    image: str = "image"
    """Column of the images: bytes, or a struct with a field `bytes`."""
    label: str = "label"
    """Column of the labels: class names, integers, or lists of these for label sets."""
    attributes: tuple[str, ...] = ()
    """Columns of texts with further properties of the images, for probes."""

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        """The images of a split: train, val, test, or all of them."""
        return ParquetImages(located(root), split, self.image, self.label, channels, self.attributes)


class ParquetImages:
    """Encoded images of parquet files, kept in memory, or read by row group from a URL; see `Parquet`."""

    def __init__(
        self, root: Location, split: str, image: str, label: str, channels: int = 3, attributes: tuple[str, ...] = ()
    ):
        shards = shards_of(root)
        self.column, self.files = image, files_of(root, shards, split)
        training = shards.get("train", self.files)
        columns = {file: label_column(file, label) for file in dict.fromkeys((*training, *self.files))}
        check_alike(columns)
        classes = classes_of([columns[file] for file in training])
        sets = [labels for file in self.files for labels in columns[file].named]
        names = [f"{file.name}:{i}" for file in self.files for i in range(len(columns[file].named))]
        kept = np.arange(len(names))
        notes = [first_names(list(classes))]
        if split in ("train", "val") and shards.keys() <= {"train"}:
            kept = part_held_out(names, sets, split)
            notes.append(f"no validation split: {len(kept)} of {len(names)} images are in the {split} part of it")
        self.names, self.kept = names, kept
        labels = numbered([sets[i] for i in kept], classes, [names[i] for i in kept], columns[self.files[0]].is_set)
        stats = [(str(f.resolve()), stamp(f)) for f in self.files]
        self.manifest = cached_manifest(
            [stats, image, label, split],
            [names[i] for i in kept],
            labels,
            classes,
            f"{root} ({split})",
            lambda: (self.encoded[i] for i in kept.tolist()),
            channels=channels,
            notes=tuple(notes),
        )
        place = {os.fsencode(name): i for i, name in enumerate(names)}
        self.places = np.array([place[name] for name in self.manifest.names.tolist()], np.int64)
        self.attributes = tuple(self._attribute(column) for column in attributes)

    def _attribute(self, column: str) -> Attribute:
        """The values of a column of texts."""
        values = [value for file in self.files for value in read_texts(file, column)]
        names = [self.names[i] for i in self.places.tolist()]
        return numbered_values(column, dict(zip(self.names, values)), names)

    @cached_property
    def encoded(self) -> Sequence[bytes]:
        """The encoded images of all files, read on first use."""
        return encoded_images(self.files, self.column)

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "encoded"}

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Raises BadImage."""
        return decoded_as(self.manifest, index, self.encoded[int(self.places[index])], shrink)


def shards_of(root: Location) -> dict[str, list[Location]]:
    """Files of the splits train, val and test, from ROOT or else ROOT/data/.   Raises DataMissing."""
    for folder in (root, root / "data"):
        found: dict[str, list[Location]] = {}
        for file in sorted(folder.glob("*.parquet")):
            if part := part_of(file.stem):
                found.setdefault(part, []).append(file)
        if found:
            return found
    raise DataMissing(f"no train*.parquet in {root}, nor in its data/: name the files so, or set data.root")


def files_of(root: Location, shards: dict[str, list[Location]], split: str) -> list[Location]:
    """The files of a split.   Raises DataMissing."""
    order = {"train": ("train",), "test": ("test",), "val": ("val", "test", "train"), "all": ("val", "test", "train")}
    part = next((part for part in order[split] if part in shards), None)
    if part is None:
        raise DataMissing(f"no {split}*.parquet in {root}; found are {', '.join(shards)}: name the files so")
    return shards[part]


class LabelColumn(NamedTuple):
    """The labels of one file, read once."""

    stored: tuple[str, ...]
    """Class names that the file stores; empty for none."""
    named: list[tuple[str, ...]]
    """The class names of every image."""
    are_names: bool | None
    """Whether labels are names or have stored names; None where there is no label."""
    is_set: bool
    """Whether an image has a set of labels."""


def label_column(file: Location, column: str) -> LabelColumn:
    """The labels of a file; integers index the names stored in the same file.   Raises DataError."""
    stored = class_names(file, column)

    def name(value: int | str) -> str:
        if isinstance(value, str) or not stored:
            return str(value)
        if value >= len(stored):
            raise DataError(f"{file}: {column} {value}, but the file has {len(stored)} class names: fix one of them")
        return stored[value]

    values = read_labels(file, column)
    sets = [value if isinstance(value, list) else [value] for value in values]
    first = next((label for labels in sets for label in labels), None)
    are_names = None if first is None else isinstance(first, str) or bool(stored)
    is_set = any(isinstance(value, list) for value in values[:1])
    return LabelColumn(stored, [tuple(map(name, labels)) for labels in sets], are_names, is_set)


def check_alike(columns: dict[Location, LabelColumn]) -> None:
    """Raises DataError where labels are numbers without names in one file, and names in another."""
    numbers = [file for file, each in columns.items() if each.are_names is False]
    names = [file for file, each in columns.items() if each.are_names]
    if numbers and names:
        raise DataError(f"labels are integers in one file and names in another: {numbers[0]}, {names[0]}; use one kind")


def classes_of(columns: list[LabelColumn]) -> tuple[str, ...]:
    """Class names stored in the training files, in their order; else the names that occur, sorted."""
    stored = dict.fromkeys(name for each in columns for name in each.stored)
    if stored:
        return tuple(stored)
    used = {name for each in columns for names in each.named for name in names}
    if used and all(name.isdecimal() for name in used):
        return tuple(str(i) for i in range(max(map(int, used)) + 1))
    return tuple(sorted(used))


def numbered(
    sets: list[tuple[str, ...]], classes: tuple[str, ...], images: list[str], is_set: bool
) -> list[int] | list[list[int]]:
    """Places of names in `classes`.   Raises DataError on a name that is not there, with its image."""
    place = {name: i for i, name in enumerate(classes)}
    for image, names in zip(images, sets):
        for name in names:
            if name not in place:
                raise DataError(f"{image}: label {name!r} does not occur in the training files: fix it, or train on it")
    found = [[place[name] for name in names] for names in sets]
    return fill_up(found) if is_set else [places[0] for places in found]


def part_held_out(names: list[str], sets: list[tuple[str, ...]], split: str) -> np.ndarray:
    """Indices of the training or validation images of a lone train split; a tenth of each class is held out."""
    of_class: dict[tuple[str, ...], list[str]] = {}
    for name, classes in zip(names, sets):
        of_class.setdefault(classes[:1], []).append(name)
    taken = set().union(*(held_out(images) for images in of_class.values()))
    chosen = [i for i, name in enumerate(names) if (name in taken) == (split == "val")]
    return np.array(chosen if taken else range(len(names)), np.int64)
