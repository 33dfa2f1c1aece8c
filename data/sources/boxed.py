"""Images with boxes, in every common layout: COCO JSON, YOLO text files, Pascal VOC XML, parquet. docs/dense.md lists
them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Num

from ..errors import DataError, DataMissing
from ..manifest import printable
from .box_files import text_of, voc_table, yolo_table
from .box_json import begin, coco_table, parquet_table
from .box_table import BoxTable, checked, drawn_at
from .caption_layouts import Parts, files_by_part, part_for, split_folders
from .captions import part_held_out
from .folder import first_names
from .layout import SPLITS, files_below, is_image_name, part_of, suffixes_for
from .measured import cached_manifest, decoded_as
from .parquet_columns import column_names
from .source import Source, existing

BoxLayout = Literal["coco", "yolo", "voc", "parquet"]
OTHER_WORDS = ("caption", "keypoint", "panoptic", "stuff", "image_info")  # COCO files without boxes


@dataclass(frozen=True)
class Boxed:
    """Images with boxes, for --task detect: COCO JSON, YOLO text files, Pascal VOC XML, or parquet with a column of
    objects. The layout is recognized; without a validation split, a tenth of the images is held out."""

    layout: BoxLayout | None = None
    """Layout of the files; auto: the first that is found, in this order."""
    table: str = ""
    """Name of the COCO file; empty: the one for the split."""
    image: str = ""
    """Column of the images in parquet files; empty: the first with encoded images."""
    objects: str = "objects"
    """Column of the boxes in parquet files: a struct of lists, or a list of structs."""
    form: Literal["corner and size", "corners"] = "corner and size"
    """Boxes in parquet files: left, top, width, height, or left, top, right, bottom."""

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        """The images of a split: train, val, test, or all of them."""
        return BoxedImages(existing(root), split, self, channels)


class BoxedImages:
    """Images with boxes; see `Boxed`. Labels are the classes that occur in each image."""

    def __init__(self, root: Path, split: str, options: Boxed, channels: int = 3):
        suffixes = suffixes_for(channels)
        layout, parts = recognized(root, options, suffixes)
        part, divided, notes = part_for(parts, split, root)
        table = READERS[layout](root, part, parts[part], options, suffixes)
        if not table.classes:
            raise DataError(f"{root} ({split}): {len(table.names)} images without any box: name the files of the boxes")
        kept = np.arange(len(table.names))
        if divided:
            kept, note = part_held_out(table.names, split)
            notes = [*notes, note]
        manifest = cached_manifest(
            [table.key, layout, split],
            [table.names[i] for i in kept],
            [0] * len(kept),
            table.classes,
            f"{root} ({split})",
            lambda: map(table.reader.read, kept.tolist()),
            channels=channels,
        )
        place = {os.fsencode(table.names[i]): i for i in kept.tolist()}
        images = np.array([place[name] for name in manifest.names.tolist()], np.int64)
        reasons = drawn_at(table, images, manifest.sizes)
        aside = [(manifest.name(i), why) for i, why in enumerate(reasons) if why]
        good = np.array([not why for why in reasons], bool)
        if not good.any():
            raise DataError(f"{root}: {aside[0][0]}: {aside[0][1]}; the same is true of all images")
        boxes, more = checked(table, images[good], manifest.sizes[good], manifest.where)
        self.places, self.reader = images[good], table.reader
        self.manifest = replace(
            manifest,
            names=manifest.names[good],
            sizes=manifest.sizes[good],
            labels=boxes.label_sets(),
            boxes=boxes,
            set_aside=(*manifest.set_aside, *aside),
            notes=(*notes, *table.notes, *more, first_names(list(table.classes))),
        )

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Raises BadImage."""
        return decoded_as(self.manifest, index, self.reader.read(int(self.places[index])), shrink)


def coco(root: Path, part: str, files: list[Path], options: Boxed, suffixes: set[str]) -> BoxTable:
    """Raises DataError where several files are for one part."""
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise DataError(f"{root} has several COCO files for one part, {names}: name one, --data.source.table FILE")
    return coco_table(files[0], root, part)


def yolo(root: Path, part: str, files: list[Path], options: Boxed, suffixes: set[str]) -> BoxTable:
    """`files` are the folders of images and of text files."""
    images, labels = files
    return yolo_table(images, labels, root, suffixes)


def voc(root: Path, part: str, files: list[Path], options: Boxed, suffixes: set[str]) -> BoxTable:
    """Images lie in JPEGImages/ beside Annotations/, in images/, or beside the XML files."""
    folder = files[0].parent
    places = [folder.parent / "JPEGImages", folder.parent / "images", folder.parent / "Images", folder]
    return voc_table(files, next((p for p in places if p.is_dir() and holds_images(p, suffixes)), folder))


def parquet(root: Path, part: str, files: list[Path], options: Boxed, suffixes: set[str]) -> BoxTable:
    """Files of one part."""
    return parquet_table(files, options.image, options.objects, options.form)


READERS: dict[str, Callable[[Path, str, list[Path], Boxed, set[str]], BoxTable]] = {
    "coco": coco,
    "yolo": yolo,
    "voc": voc,
    "parquet": parquet,
}


# layouts --------------------------------------------------------------------------------------------


def coco_parts(root: Path, options: Boxed, suffixes: set[str]) -> Parts:
    """JSON files that begin as COCO files with boxes do: in ROOT, annotations/, or folders of splits."""

    def chosen(path: Path) -> bool:
        if options.table:
            return path.name == options.table
        name = path.name.lower()
        return name.endswith(".json") and not any(word in name for word in OTHER_WORDS) and b'"bbox"' in begin(path)

    return files_by_part(root, chosen, "annotations")


def yolo_parts(root: Path, options: Boxed, suffixes: set[str]) -> Parts:
    """Folders of images and of text files: images/train with labels/train, train/images with train/labels, or images
    with labels."""
    pairs = {part_of(f.name): [f, root / "labels" / f.name] for f in split_folders_in(root / "images")}
    pairs |= {part: [f / "images", f / "labels"] for part, f in split_folders(root).items()}
    found = {part: both for part, both in pairs.items() if are_yolo(*both)}
    whole = [root / "images", root / "labels"]
    return found or ({"": whole} if are_yolo(*whole) else {})


def are_yolo(images: Path, labels: Path) -> bool:
    """Whether both folders are there, with text files in the second."""
    return images.is_dir() and labels.is_dir() and any(labels.glob("**/*.txt"))


def split_folders_in(folder: Path) -> list[Path]:
    """Folders of splits in a folder, which may not be there."""
    return [f for f in sorted(folder.iterdir()) if f.is_dir() and part_of(f.name)] if folder.is_dir() else []


def voc_parts(root: Path, options: Boxed, suffixes: set[str]) -> Parts:
    """XML files in an Annotations/ up to two folders below, by the lists in ImageSets/Main; or in folders of splits;
    or in ROOT."""
    folder = next(
        (p for pattern in ("", "*", "*/*") for p in sorted(root.glob(f"{pattern}/Annotations".strip("/")))), None
    )
    if folder is None:
        parts = {part: xml_in(f) for part, f in split_folders(root).items()}
        return {part: files for part, files in parts.items() if files} or ({"": xml_in(root)} if xml_in(root) else {})
    lists = folder.parent / "ImageSets" / "Main"
    parts = {}
    for part in SPLITS:
        if (lists / f"{part}.txt").is_file():
            names = [line.split()[0] for line in text_of(lists / f"{part}.txt").splitlines() if line.strip()]
            parts[part] = [folder / f"{name}.xml" for name in names]
    return parts or ({"": xml_in(folder)} if xml_in(folder) else {})


def xml_in(folder: Path) -> list[Path]:
    """XML files of a folder, sorted."""
    return sorted(path for path in folder.glob("*.xml") if path.is_file())


def parquet_parts(root: Path, options: Boxed, suffixes: set[str]) -> Parts:
    """Parquet files with a column of objects."""
    parts = files_by_part(root, lambda path: path.suffix.lower() == ".parquet", "data")
    return parts if any(options.objects in column_names(paths[0]) for paths in parts.values()) else {}


LAYOUTS: dict[BoxLayout, Callable[[Path, Boxed, set[str]], Parts]] = {
    "coco": coco_parts,
    "yolo": yolo_parts,
    "voc": voc_parts,
    "parquet": parquet_parts,
}


def recognized(root: Path, options: Boxed, suffixes: set[str]) -> tuple[BoxLayout, Parts]:
    """The layout of a folder and its files.   Raises DataMissing where there is none."""
    names: list[BoxLayout] = [options.layout] if options.layout else [*LAYOUTS]
    for name in names:
        if parts := LAYOUTS[name](root, options, suffixes):
            return name, parts
    inside = ", ".join(printable(path.name) for path in sorted(root.iterdir())[:8]) or "nothing"
    raise DataMissing(
        f"no boxes in {root}: it has {inside}, not a COCO file, YOLO's images/ and labels/, VOC's Annotations/, or "
        "parquet files with a column objects; layouts are listed in docs/dense.md"
    )


def holds_images(folder: Path, suffixes: set[str]) -> bool:
    """Whether there is an image below a folder."""
    return any(is_image_name(name, suffixes) for name in files_below(folder))
