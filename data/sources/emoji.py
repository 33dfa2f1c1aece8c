"""Drawings of emoji by two vendors, singly and in scenes, with captions.

Evaluation goes beyond the training concepts: drawings by the other vendor (`style`), concepts that no training image
shows (`novel`, among themselves and among all), and scenes whose caption stands beside a false one: another order,
number, direction or concept. Scenes with novel concepts are counted with the others, and apart.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, DataMissing
from .caption_parquet import Encoded, column_of_images
from .captions import CaptionedImages, Captions
from .csv_tables import Cells, csv_lines
from .source import Attribute, Foils, Source, existing

CLASSES, FOILS = "zeroshot.csv", "compositional.csv"
NOVEL, NOVEL_SCENES = "novel", "scene_novel"  # subsets
# Reached by kernel ridge from thumbnails, aspect ratio and area to words of the captions, as the page of the set says.
FLOORS = {"style": 0.268, "novel": 0.074, "swap": 0.5, "count": 0.675, "replace": 0.539, "direction": 1.0}


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
        classes = table(root / CLASSES, "hexcode", "name", "subset", "prompt_1")
        found = [
            attribute(subset, subset, [row for row in classes if row["subset"] == subset], columns)
            for subset in sorted({row["subset"] for row in classes})
        ]
        found.append(attribute("novel among all", NOVEL, classes, columns))
        self.attributes = tuple(each for each in found if each.labels.max(initial=-1) >= 0)
        place = {name.decode(): i for i, name in enumerate(self.manifest.names.tolist())}
        pairs = [
            row for row in table(root / FOILS, "path", "subset", "caption", "foil", "kind") if row["path"] in place
        ]
        novel = [row | {"kind": f"{row['kind']}, novel"} for row in pairs if row["subset"] == NOVEL_SCENES]
        kinds = sorted({row["kind"] for row in pairs + novel})
        self.foils = tuple(foils(kind, [row for row in pairs + novel if row["kind"] == kind], place) for kind in kinds)


def attribute(name: str, subset: str, classes: list[Cells], columns: dict[str, list]) -> Attribute:
    """Concepts as classes: single drawings of a subset have their only concept as a label."""
    number = {row["hexcode"]: i for i, row in enumerate(classes)}
    labels = [
        number.get(codes[0], -1) if of == subset and codes and len(codes) == 1 else -1
        for of, codes in zip(columns["subset"], columns["hexcodes"])
    ]
    names = tuple(row["name"] for row in classes)
    return Attribute(name, names, np.array(labels, np.int64), tuple(map(prompts, classes)), FLOORS.get(name))


def prompts(row: Cells) -> tuple[str, ...]:
    """The texts of a class: prompt_1, prompt_2, …"""
    return tuple(text for column, text in row.items() if column and column.startswith("prompt_") and text)


def foils(kind: str, pairs: list[Cells], place: dict[str, int]) -> Foils:
    """The pairs of texts that differ in one respect."""
    images = np.array([place[row["path"]] for row in pairs], np.int64)
    captions, false = (tuple(row[column] for row in pairs) for column in ("caption", "foil"))
    return Foils(kind, images, captions, false, FLOORS.get(kind))


def table(path: Path, *columns: str) -> list[Cells]:
    """The lines of a table.   Raises DataMissing without it, DataError where it lacks a column or a value."""
    if not path.is_file():
        raise DataMissing(
            f"{path} does not exist: it belongs to the drawings; --data.source captions reads them without"
        )
    _, lines = csv_lines(path, *columns)
    for number, cells in lines:
        for column in columns:
            if not cells[column]:
                raise DataError(f"{path}, line {number}: the cell {column} is empty: fill it")
    return [cells for _, cells in lines]
