"""Images with a mask each, in every common layout: folders of both, COCO JSON, parquet. docs/dense.md lists them."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Num, UInt8

from ..errors import BadImage, DataError, check_in
from .caption_layouts import part_for
from .captions import part_held_out
from .folder import first_names
from .label_sets import fill_up
from .layout import suffixes_for
from .mask_files import MOST_CLASSES, Kind, as_labels, survey
from .mask_layouts import READERS, MaskLayout, MaskTable, recognized
from .measured import cached_manifest, decoded_as
from .source import UNLABELED, Source, existing

BACKGROUND = "background"


@dataclass(frozen=True)
class Masks:
    """Images with a mask each, for --task segment: folders of images and masks, COCO JSON with outlines or run
    lengths, or parquet. The layout is recognized; without a validation split, a tenth of the images is held out."""

    layout: MaskLayout | None = None
    """Layout of the files; auto: the first that is found, in this order."""
    images: str = ""
    """Name of the folder of images; empty: images, imgs, JPEGImages and the like."""
    masks: str = ""
    """Name of the folder of masks; empty: masks, labels, semantic, annotations and the like."""
    numbers: Literal["auto", "classes", "objects"] = "auto"
    """Meaning of the numbers in a mask: classes, or objects with 0 as background. auto: objects in masks of 16 bits."""
    ignore: int | None = UNLABELED
    """Number of pixels without a class, in masks of classes; none: every number counts."""
    classes: tuple[str, ...] = ()
    """Names of the classes from 0 on; empty: those of the files, or their numbers."""
    table: str = ""
    """Name of the COCO file; empty: the one for the split."""
    image: str = ""
    """Column of the images in parquet files; empty: the first with encoded images."""
    mask: str = ""
    """Column of the masks in parquet files; empty: mask, label, annotation and the like."""

    def __post_init__(self):
        check_in("[0, 65535]", ignore=self.ignore)
        if len(self.classes) > MOST_CLASSES or len({*self.classes}) < len(self.classes):
            raise ValueError(f"classes={self.classes} must be at most {MOST_CLASSES} different names")

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        """The images of a split: train, val, test, or all of them."""
        return MaskedImages(existing(root), split, self, channels)


class MaskedImages:
    """Images with a mask each; see `Masks`. Labels are the classes that occur in each image."""

    def __init__(self, root: Path, split: str, options: Masks, channels: int = 3):
        suffixes = suffixes_for(channels)
        layout, parts = recognized(root, options, suffixes)
        part, divided, notes = part_for(parts, split, root)
        table = READERS[layout](root, part, parts[part], options, suffixes)
        manifest = images_of(table, f"{root} ({split})", channels)
        self.reader, self.masks = table.reader, table.masks
        self.kind: Kind = kind_of(table, manifest, options)
        self.ignore = None if layout == "coco" else options.ignore
        self.binary = False
        self.places, self.manifest = places_in(table, manifest), manifest
        found = survey([table.key, self.kind, self.ignore], manifest.sizes, self.numbers)
        usable = np.array([not why for why in found.reasons], bool)
        self.binary = is_binary(found.present[usable]) and layout != "coco"
        present = binary(found.present) if self.binary else found.present
        classes = options.classes or table.classes or self.named(root, parts, split, options, present[usable], channels)
        reasons = [why or unknown(present[i], classes) for i, why in enumerate(found.reasons)]
        good = np.array([not why for why in reasons], bool)
        aside = tuple((manifest.name(i), why) for i, why in enumerate(reasons) if why)
        if not good.any():
            raise DataError(f"{root}: {aside[0][0]}: {aside[0][1]}; no mask can be used, of {len(aside)}")
        if divided:
            chosen, note = part_held_out([manifest.name(i) for i in range(len(manifest))], split)
            good, notes = good & np.isin(np.arange(len(good)), chosen), [*notes, note]
        self.places = self.places[good]
        self.manifest = replace(
            manifest.select(good),
            labels=np.array(fill_up([np.flatnonzero(row[:UNLABELED]).tolist() for row in present[good]]), np.int32),
            classes=classes,
            set_aside=(*manifest.set_aside, *aside),
            notes=(*notes, *table.notes, *self.in_words(found.present[good]), first_names([*classes])),
            masks=True,
        )

    def named(
        self, root: Path, parts: Any, split: str, options: Masks, present: Bool[np.ndarray, "N 256"], channels: int
    ) -> tuple[str, ...]:
        """Names where the files say none: background and object, or the numbers that occur in training."""
        if self.kind == "objects" or self.binary:
            return BACKGROUND, "object"
        if split != "train" and "train" in parts:
            return MaskedImages(root, "train", options, channels).manifest.classes
        used = np.flatnonzero(present[:, :UNLABELED].any(0))
        return tuple(str(i) for i in range(int(used.max(initial=0)) + 1))

    def in_words(self, present: Bool[np.ndarray, "N 256"]) -> list[str]:
        """Notes on the numbers of the masks."""
        what = "0 is background, all else one class" if self.kind == "objects" or self.binary else "classes"
        without = int(present[:, UNLABELED].sum()) if not self.binary else 0
        return [f"numbers of masks: {what}"] + ([f"{without} images have pixels without a class"] if without else [])

    def numbers(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """The labels of a mask as they are in its file.   Raises BadImage."""
        height, width = self.manifest.sizes[index].tolist()
        values = self.masks.read(int(self.places[index]), (height, width))
        return as_labels(values, self.kind, self.ignore)

    def mask(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Raises BadImage."""
        labels = self.numbers(index)
        if labels.shape != tuple(self.manifest.sizes[index]):
            raise BadImage(f"its mask has {labels.shape[0]} x {labels.shape[1]} pixels, not those of the image")
        return (labels > 0).astype(np.uint8) if self.binary else labels

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Raises BadImage."""
        return decoded_as(self.manifest, index, self.reader.read(int(self.places[index])), shrink)


def images_of(table: MaskTable, where: str, channels: int) -> Any:
    """The manifest of the images, whose masks are not read yet."""
    count = len(table.names)
    return cached_manifest(
        [table.key, "masks"],
        table.names,
        [0] * count,
        ("",),
        where,
        lambda: map(table.reader.read, range(count)),
        channels=channels,
    )


def places_in(table: MaskTable, manifest: Any) -> np.ndarray:
    """The number of each readable image in its table."""
    place = {os.fsencode(name): i for i, name in enumerate(table.names)}
    return np.array([place[name] for name in manifest.names.tolist()], np.int64)


def kind_of(table: MaskTable, manifest: Any, options: Masks) -> Kind:
    """What the numbers of the masks mean: as the options say, or by the bits of the first mask that can be read."""
    if options.numbers != "auto":
        return options.numbers
    for i, place in enumerate(places_in(table, manifest).tolist()):
        height, width = manifest.sizes[i].tolist()
        try:
            return "objects" if table.masks.read(place, (height, width)).dtype.itemsize > 1 else "classes"
        except BadImage:
            continue
    return "classes"


def is_binary(present: Bool[np.ndarray, "N 256"]) -> bool:
    """Whether masks hold black and white alone: 255 is then a class, since otherwise there would be only one."""
    used = np.flatnonzero(present.any(0)).tolist()
    return used == [0, UNLABELED]


def binary(present: Bool[np.ndarray, "N 256"]) -> Bool[np.ndarray, "N 256"]:
    """The labels that occur, where white stands for class 1."""
    found = np.zeros_like(present)
    found[:, 0], found[:, 1] = present[:, 0], present[:, UNLABELED]
    return found


def unknown(present: Bool[np.ndarray, " 256"], classes: tuple[str, ...]) -> str:
    """The reason why a mask cannot be used: a class that has no name."""
    beyond = np.flatnonzero(present[len(classes) : UNLABELED]) + len(classes)
    if not len(beyond):
        return ""
    return f"its mask has class {beyond[0]}, known are 0 to {len(classes) - 1}: name it, or correct the mask"
