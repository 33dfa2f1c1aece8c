"""Images with captions, in every common layout: parquet, tar shards, tables, text files. docs/data.md lists them.

The captions of a manifest are its classes, and those of an image are its label set.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Num

from ..errors import DataError
from ..manifest import printable
from .attribute_tables import values_beside
from .caption_layouts import Layout, Located, part_for, recognized
from .caption_parquet import Encoded, attribute, attribute_columns, parquet_pairs
from .caption_tables import table_pairs, table_values, text_pairs
from .label_sets import first_seen
from .layout import held_out, suffixes_for
from .measured import cached_manifest, decoded_as
from .pairs import Pairs, numbered, united, without_bad
from .remote import Location, located
from .source import Attribute, Source
from .tar_shards import tar_pairs


@dataclass(frozen=True)
class Captions:
    """Images with captions, for --task contrast: parquet files, tar shards (WebDataset), captions.csv, captions.jsonl,
    metadata.jsonl, COCO captions, or a .txt beside each image. The layout is recognized."""

    layout: Layout | None = None
    """Layout of the files; auto: the first that is found, in this order."""
    image: str = ""
    """Column of the images, or of their file names; empty: the first with a usual name."""
    caption: str = ""
    """Column of the captions; empty: the first with a usual name."""
    table: str = ""
    """File name of the table of captions; empty: captions.csv and the like."""
    attributes: tuple[str, ...] = ()
    """What names the content of an image, for zero-shot classification and probes: columns of parquet files or tables,
    fields of JSON in COCO files and tar shards, columns of attributes.csv beside images with texts."""

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        """The images of a split: train, val, test, or all of them."""
        return CaptionedImages(located(root), split, self, channels)


class CaptionedImages:
    """Images with captions; see `Captions`."""

    attributes: tuple[Attribute, ...] = ()

    def __init__(self, root: Location, split: str, options: Captions, channels: int = 3):
        suffixes = suffixes_for(channels)
        layout, parts = recognized(root, options.layout, options.table, suffixes)
        part, divided, notes = part_for(parts, split, root)
        files = parts[part]
        pairs = pairs_of(layout, root, part, files, options, suffixes)
        kept, texts, aside, more = without_bad(pairs)
        if layout != "parquet":  # there the rows with the same image are one already
            kept, texts, notes_of_equal = united(pairs.reader, kept, texts)
            more += notes_of_equal
        if divided:
            chosen, note = part_held_out([pairs.names[i] for i in kept], split)
            kept, texts = kept[chosen], [texts[i] for i in chosen]
            more.append(note)
        labels, captions = numbered(texts)
        manifest = cached_manifest(
            [pairs.key, layout, split],
            [pairs.names[i] for i in kept],
            labels.tolist(),
            captions,
            f"{root} ({split})",
            lambda: map(pairs.reader.read, kept.tolist()),
            channels=channels,
            notes=(f"layout: {layout}", *notes, *pairs.notes, *more),
            set_aside=tuple(aside),
        )
        labels, captions = first_seen_captions(manifest.labels, captions)
        self.manifest = replace(
            manifest, labels=labels, classes=captions, notes=(*manifest.notes, said(labels, captions))
        )
        self.reader = pairs.reader
        place = {os.fsencode(pairs.names[i]): i for i in kept.tolist()}
        self.places = np.array([place[name] for name in self.manifest.names.tolist()], np.int64)
        if options.attributes:
            self.attributes = attributes_of(layout, root, parts, part, options, suffixes, pairs, self.places)

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Raises BadImage."""
        return decoded_as(self.manifest, index, self.reader.read(int(self.places[index])), shrink)


def pairs_of(
    layout: Layout, root: Location, part: str, files: Sequence[Location], options: Captions, suffixes: set[str]
) -> Pairs:
    """The pairs of the files of one part.   Raises DataError."""
    if layout == "parquet":
        return parquet_pairs(files, options.image, options.caption)
    if layout == "tar":
        return tar_pairs(files, suffixes, options.caption, options.attributes)[0]
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise DataError(f"{root} has several tables for one part, {names}: name one, --data.source.table FILE")
    table = on_disk(files[0])
    if layout == "text":
        return text_pairs(table, suffixes)
    return table_pairs(table, folder_of(table, on_disk(root)), part, suffixes, options.image, options.caption)


def on_disk(path: Location) -> Path:
    """A table or folder, which no URL leads to: `caption_layouts` finds shards alone there."""
    assert isinstance(path, Path)
    return path


def folder_of(table: Path, root: Path) -> Path:
    """The folder below which the images of a table lie."""
    return root if table.parent.name == "annotations" else table.parent


def attributes_of(
    layout: Layout,
    root: Location,
    parts: Located,
    part: str,
    options: Captions,
    suffixes: set[str],
    pairs: Pairs,
    places: Int[np.ndarray, " N"],
) -> tuple[Attribute, ...]:
    """The attributes of the images of a part; their values are those of all parts.   Raises DataError."""
    if isinstance(pairs.reader, Encoded):
        known = [file for files in parts.values() for file in files]
        return attribute_columns(known, parts[part], options.attributes, pairs.reader, places)
    found = []
    for column in options.attributes:
        of_part = {name: values_of(layout, root, name, parts[name], options, suffixes, column) for name in parts}
        everywhere = [value for own in of_part.values() for value in own.values()]
        own = [of_part[part].get(pairs.names[i]) for i in places.tolist()]
        found.append(attribute(column, everywhere, own, parts[part][0]))
    return tuple(found)


def values_of(
    layout: Layout,
    root: Location,
    part: str,
    files: Sequence[Location],
    options: Captions,
    suffixes: set[str],
    column: str,
) -> dict[str, Any]:
    """The value of an attribute by name of the image, of those that have one.   Raises DataError."""
    if layout == "tar":
        pairs, values = tar_pairs(files, suffixes, options.caption, options.attributes)
        return {name: own[column] for name, own in zip(pairs.names, values) if column in own}
    table, top = on_disk(files[0]), on_disk(root)
    if layout == "text":
        return values_beside(table, top, column)
    return table_values(table, folder_of(table, top), part, suffixes, options.image, column)


def part_held_out(names: list[str], split: str) -> tuple[np.ndarray, str]:
    """Numbers of the training or validation images of a set without splits, and a note: a tenth is held out."""
    taken = held_out(names)
    if not taken:
        return np.arange(len(names)), "a single image: nothing is held out, validation is on the training images"
    chosen = [i for i, name in enumerate(names) if (name in taken) == (split == "val")]
    return np.array(chosen, np.int64), f"no validation split: {len(taken)} of {len(names)} images are held out, a tenth"


def first_seen_captions(labels: Int[np.ndarray, "N M"], captions: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Label sets and captions without those of images that cannot be read."""
    labels, used = first_seen(labels)
    return labels, tuple(captions[i] for i in used.tolist())


def said(labels: np.ndarray, captions: tuple[str, ...]) -> str:
    """A note on the captions."""
    most, mean = labels.shape[1], (labels >= 0).sum() / len(labels)
    each = f"{mean:.1f} an image, at most {most}" if most > 1 else "one an image"
    return f"{len(captions)} different captions, {each}; first: {printable(captions[0]):.80}"
