"""Encoded images in parquet files."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ..errors import DataError, DataMissing
from .measured import _stamp, cached_manifest, decoded_as
from .parquet_columns import class_names, read_images, read_labels
from .source import SPLITS, Source, existing


@dataclass(frozen=True)
class Parquet:
    """ROOT/train*.parquet and ROOT/val*.parquet with encoded images, as data sets on the Hugging Face hub."""

    image: str = "image"
    """Column of images: bytes, or a struct with `bytes`."""
    label: str = "label"
    """Column of labels: class names, or integers."""

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        return ParquetImages(existing(root), split, self.image, self.label)


class ParquetImages:
    """Encoded images in parquet files, held in memory as they are; see `Parquet`."""

    def __init__(self, root: Path, split: str, image: str, label: str):
        self.files = _shards(root, split)
        self.column = image
        training = _shards(root, "train")
        known, values = ([read_labels(f, label) for f in files] for files in (training, self.files))
        names = [f"{f.name}:{i}" for f, inside in zip(self.files, values) for i in range(len(inside))]
        where = f"{root} ({split})"
        labels, classes = _numbered(_chain(known), _chain(values), class_names(training[0], label), where)
        stats = [(str(f.resolve()), _stamp(f)) for f in self.files]
        self.manifest = cached_manifest([stats, image, label], names, labels, classes, where, lambda: self.encoded)
        place = {os.fsencode(name): i for i, name in enumerate(names)}
        self.places = np.array([place[name] for name in self.manifest.names.tolist()], np.int64)

    @cached_property
    def encoded(self) -> list[bytes]:
        return _chain([read_images(f, self.column) for f in self.files])

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "encoded"}

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        return decoded_as(self.manifest.sizes[index], self.encoded[self.places[index]], shrink)


def _shards(root: Path, split: str) -> list[Path]:
    for name in SPLITS[split]:
        if files := sorted(root.glob(f"{name}*.parquet")):
            return files
    raise DataMissing(f"no {SPLITS[split][0]}*.parquet in {root}: name the files so, or set data.root")


def _chain(lists: Iterable[list]) -> list:
    return [value for inside in lists for value in inside]


def _numbered(known: list, values: list, named: tuple[str, ...], where: str) -> tuple[list[int], tuple[str, ...]]:
    """Labels as integers, and the classes, which are those of the training labels `known`."""
    kinds = {*map(type, known), *map(type, values)}
    if kinds == {int, str}:
        raise DataError(f"{where}: labels are integers in one file and names in another: write them alike")
    if kinds == {int}:
        return values, named or tuple(str(i) for i in range(max(known, default=-1) + 1))
    classes = tuple(sorted(set(known)))
    unknown = sorted(set(values) - set(classes))
    if unknown:
        raise DataError(f"{where}: label {unknown[0]!r} does not occur in the training files: mend it, or train on it")
    label_of = {name: i for i, name in enumerate(classes)}
    return [label_of[v] for v in values], classes
