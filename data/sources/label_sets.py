"""A folder of images with a table of label sets.

ROOT/labels.csv          file,labels        a header, then one line per image
                         cat/a.jpg,cat;pet  path below ROOT, class names separated by ;, empty for no class
ROOT/train/labels.csv, ROOT/val/labels.csv  one table per split

Further columns are attributes of the images, for probes.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Num

from ..errors import DataError, DataMissing
from .attribute_tables import table_attributes
from .csv_tables import by_file
from .decode import read_file
from .folder import first_names
from .layout import held_out
from .measured import cached_manifest, decoded_as, stamp
from .source import Source, existing


@dataclass(frozen=True)
class LabelSets:
    """A folder of images with a table of label sets, `labels.csv`, for --task multilabel."""

    table: str = "labels.csv"
    """File name of the table."""
    separator: str = ";"
    """Separator between the classes of an image."""

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        """The images of a split: train, val, test, or all of them."""
        return LabelledFiles(existing(root), split, self.table, self.separator, channels)


class LabelledFiles:
    """Images listed in a table; see `LabelSets`."""

    def __init__(self, root: Path, split: str, table: str, separator: str, channels: int = 3):
        self.folder = folder_of(root, split, table)
        training = root / "train" if (root / "train" / table).is_file() else self.folder
        known = read_table(training / table, separator)
        classes = tuple(sorted({name for names in known.values() for name in names}))
        sets = known if training == self.folder else read_table(self.folder / table, separator)
        unknown = sorted({name for names in sets.values() for name in names} - {*classes})
        if unknown:
            raise DataError(f"{self.folder / table}: class {unknown[0]!r} does not occur in training: add or remove it")
        notes = [first_names(list(classes))]
        if self.folder == root and split in ("train", "val"):
            taken = held_out(list(sets))
            sets = {name: names for name, names in sets.items() if (name in taken) == (split == "val")}
            notes.append(f"no validation split: {len(taken)} images are held out, about a tenth")
        place = {name: i for i, name in enumerate(classes)}
        names = sorted(sets)
        key = [str(self.folder.resolve()), *((n, stamp(self.folder / n)) for n in names)]
        self.manifest = cached_manifest(
            key,
            names,
            fill_up([[place[c] for c in sets[name]] for name in names]),
            classes,
            str(self.folder),
            lambda: map(self._bytes, names),
            channels=channels,
            notes=tuple(notes),
        )

        known = [os.fsdecode(name) for name in self.manifest.names.tolist()]
        self.attributes = table_attributes(self.folder / table, known, ("file", "labels"))

    def _bytes(self, name: str) -> bytes:
        return read_file(self.folder / name)

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Raises BadImage."""
        return decoded_as(self.manifest, index, self._bytes(os.fsdecode(self.manifest.names[index])), shrink)


def folder_of(root: Path, split: str, table: str) -> Path:
    """The folder with the table of a split.   Raises DataMissing."""
    order = {"train": ("train", ""), "val": ("val", "test", ""), "test": ("test",), "all": ("", "val", "test", "train")}
    for part in order[split]:
        if (root / part / table).is_file():
            return root / part
    raise DataMissing(f"no {table} for {split} in {root}: write one with the columns file and labels")


def read_table(path: Path, separator: str) -> dict[str, list[str]]:
    """Class names by file.   Raises DataError with the number of the line."""
    _, rows = by_file(path, "labels")
    if not rows:
        raise DataError(f"{path} names no image: add a line for each")
    return {
        name: [label.strip() for label in row["labels"].split(separator) if label.strip()] for name, row in rows.items()
    }


def fill_up(sets: Sequence[Sequence[int]]) -> list[list[int]]:
    """Label sets without repeated labels, padded with −1 to equal length."""
    unique = [sorted({*labels}) for labels in sets]
    longest = max(map(len, unique), default=0) or 1
    return [labels + [-1] * (longest - len(labels)) for labels in unique]


def without_repeats(labels: Int[np.ndarray, "N M"]) -> Int[np.ndarray, "N M"]:
    """Label sets in their order, without repeated labels; −1 at the end."""
    earlier = np.tril(np.ones((labels.shape[1],) * 2, bool), -1)
    repeated = (labels[:, :, None] == labels[:, None] * earlier - ~earlier).any(-1)
    kept = np.where(repeated, -1, labels)
    return np.take_along_axis(kept, np.argsort(kept < 0, -1, kind="stable"), -1)


def first_seen(labels: Int[np.ndarray, "N M"]) -> tuple[Int[np.ndarray, "N M"], Int[np.ndarray, " Y"]]:
    """Label sets in which classes are numbered as they occur, image by image, and the old number of each."""
    used, first, place = np.unique(labels[labels >= 0], return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(used), np.int32)
    number[order] = np.arange(len(used))
    renumbered = np.full(labels.shape, -1, np.int32)
    renumbered[labels >= 0] = number[place]
    return renumbered, used[order]
