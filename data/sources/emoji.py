"""Drawings of emoji by two vendors, singly and in scenes, with captions.

Evaluation goes beyond the training concepts: drawings by the other vendor (`style`), concepts that no training image
shows (`novel`), and scenes whose caption stands beside a false one: other order, number, direction or concept.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, DataMissing
from .caption_parquet import Encoded, column_of_images
from .captions import CaptionedImages, Captions
from .source import Attribute, Foils, Source, existing

CLASSES, FOILS = "zeroshot.csv", "compositional.csv"


@dataclass(frozen=True)
class Emoji:
    """Drawings of emoji with captions: train.parquet, val.parquet, zeroshot.csv, compositional.csv."""

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        """The images of a split: train or val."""
        return EmojiImages(existing(root), split, channels)


class EmojiImages(CaptionedImages):
    """Captioned drawings with classes and false captions; see `Emoji`."""

    foils: tuple[Foils, ...] = ()

    def __init__(self, root: Path, split: str, channels: int = 3):
        super().__init__(root, split, Captions(layout="parquet", image="image", caption="caption"), channels)
        assert isinstance(self.reader, Encoded)
        columns = {
            name: column_of_images(self.reader.files, name, self.reader, self.places) for name in ("subset", "hexcodes")
        }
        classes = table(root / CLASSES, "hexcode", "subset", "prompt_1")
        self.attributes = tuple(
            found
            for subset in sorted({row["subset"] for row in classes})
            if (found := attribute(subset, [row for row in classes if row["subset"] == subset], columns)).labels.max()
            >= 0
        )
        place = {name.decode(): i for i, name in enumerate(self.manifest.names.tolist())}
        pairs = [row for row in table(root / FOILS, "path", "caption", "foil", "kind") if row["path"] in place]
        self.foils = tuple(
            foils(kind, [row for row in pairs if row["kind"] == kind], place)
            for kind in sorted({row["kind"] for row in pairs})
        )


def attribute(subset: str, classes: list[dict[str, str]], columns: dict[str, list]) -> Attribute:
    """The concepts of a subset: single drawings of it have their only concept as a label."""
    number = {row["hexcode"]: i for i, row in enumerate(classes)}
    labels = [
        number.get(codes[0], -1) if of == subset and codes and len(codes) == 1 else -1
        for of, codes in zip(columns["subset"], columns["hexcodes"])
    ]
    return Attribute(subset, tuple(row["prompt_1"] for row in classes), np.array(labels, np.int64))


def foils(kind: str, pairs: list[dict[str, str]], place: dict[str, int]) -> Foils:
    """The pairs of texts that differ in one respect."""
    images = np.array([place[row["path"]] for row in pairs], np.int64)
    return Foils(kind, images, tuple(row["caption"] for row in pairs), tuple(row["foil"] for row in pairs))


def table(path: Path, *columns: str) -> list[dict[str, str]]:
    """The lines of a table.   Raises DataMissing without it, DataError where it lacks a column."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file)
            rows = list(lines)
    except FileNotFoundError:
        raise DataMissing(
            f"{path} does not exist: it belongs to the drawings; --data.source captions reads them without"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a table in UTF-8, {error}: restore it") from None
    missing = {*columns} - {*(lines.fieldnames or ())}
    if missing or not all(row[column] for row in rows for column in columns):
        raise DataError(f"{path} lacks {', '.join(sorted(missing)) or 'a value'} in a line: restore it")
    return rows
