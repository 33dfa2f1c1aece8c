"""Layouts of images with masks: folders of both, COCO JSON, parquet with two columns."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from jaxtyping import Integer

from ..errors import BadImage, DataError, DataMissing
from ..manifest import printable
from .box_json import area_in, begin, classes_in, folder_of, objects_in, read_coco, size_in
from .caption_layouts import Parts, files_by_part, split_folders
from .caption_parquet import Encoded
from .decode import read_file
from .layout import files_below, is_image_name, part_of
from .mask_files import MOST_CLASSES, Thing, draw_things, read_mask
from .measured import stamp
from .pairs import Files, Reader
from .parquet_columns import column_names
from .source import UNLABELED

MaskLayout = Literal["folders", "coco", "parquet"]
IMAGES = ("images", "imgs", "img", "image", "JPEGImages", "leftImg8bit")
MASKS = ("masks", "mask", "labels", "semantic", "annotations", "segmentation", "SegmentationClass", "gtFine", "gt")
SUFFIXES = {".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm", ".ppm", ".tga"}
ENDINGS = ("", "_mask", "_label", "_labels", "_seg", "_gt")  # of the stem of a mask after that of its image


class MaskReader(Protocol):
    """Masks by number; travels to workers by pickle."""

    def read(self, index: int, size: tuple[int, int]) -> Integer[np.ndarray, "h w"]:
        """The numbers of a mask; `size` is that of the image.   Raises BadImage."""
        ...


class MaskTable(NamedTuple):
    """Images with masks, unchecked."""

    names: list[str]
    reader: Reader
    masks: MaskReader
    key: Any
    """Files with sizes and times, for caches."""
    notes: list[str]
    classes: tuple[str, ...] = ()
    """Names of the classes, where the files say them."""


class MaskFiles(NamedTuple):
    """Masks in files."""

    folder: Path
    paths: list[str]

    def read(self, index: int, size: tuple[int, int]) -> Integer[np.ndarray, "h w"]:
        """Raises BadImage."""
        if not self.paths[index]:
            raise BadImage("it has no mask of the same name")
        return read_mask(read_file(self.folder / self.paths[index]))


class MaskColumn(NamedTuple):
    """Masks in a column of parquet files."""

    column: Encoded

    def read(self, index: int, size: tuple[int, int]) -> Integer[np.ndarray, "h w"]:
        """Raises BadImage."""
        return read_mask(self.column.read(index))


class CocoMasks(NamedTuple):
    """Masks drawn from the objects of a COCO file."""

    things: list[list[Thing]]
    sizes: list[tuple[int, int] | None]

    def read(self, index: int, size: tuple[int, int]) -> Integer[np.ndarray, "h w"]:
        """Raises BadImage."""
        said = self.sizes[index]
        if said is not None and said != size:
            raise BadImage(f"its objects are drawn at {said[0]} x {said[1]} pixels, it has {size[0]} x {size[1]}")
        return draw_things(self.things[index], size)


# folders --------------------------------------------------------------------------------------------


def folder_parts(root: Path, options: Any, suffixes: set[str]) -> Parts:
    """Pairs of folders: train/images with train/masks, images/train with masks/train, or images with masks."""
    parts = {part: pair_in(folder, options) for part, folder in split_folders(root).items()}
    if not any(parts.values()) and (both := pair_in(root, options)):
        inner = {part_of(f.name): f for f in sorted(both[0].iterdir()) if f.is_dir() and part_of(f.name)}
        parts = {part: [f, both[1] / f.name] for part, f in inner.items()} or {"": both}
    return {part: both for part, both in parts.items() if both and both[1].is_dir()}


def pair_in(folder: Path, options: Any) -> list[Path]:
    """The folders of images and of masks in a folder; empty where there are none."""
    there = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else {}
    images = next(
        (there[n.lower()] for n in ([options.images] if options.images else IMAGES) if n.lower() in there), None
    )
    masks = next((there[n.lower()] for n in ([options.masks] if options.masks else MASKS) if n.lower() in there), None)
    return [images, masks] if images and masks and any(is_mask(name) for name in files_below(masks)) else []


def is_mask(name: str) -> bool:
    """Whether a name has a suffix of files that keep numbers."""
    return Path(name).suffix.lower() in SUFFIXES


def folder_table(root: Path, part: str, files: list[Path], options: Any, suffixes: set[str]) -> MaskTable:
    """Each image has the mask with the same path, but for its suffix and an ending such as _mask.

    Raises DataError where two masks are for one image.
    """
    images, masks = files
    names = sorted(name for name in files_below(images) if is_image_name(name, suffixes))
    stems = [str(Path(name).with_suffix("")) for name in files_below(masks) if is_mask(name)]
    paths = dict(zip(stems, (name for name in files_below(masks) if is_mask(name))))
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        raise DataError(f"{masks} has several masks called {printable(twice[0])}: keep one")
    found = [
        next((paths[stem + end] for end in ENDINGS if (stem := str(Path(name).with_suffix(""))) + end in paths), "")
        for name in names
    ]
    left = len(paths) - len({*found} - {""})
    notes = [f"masks: {masks}"] + ([f"{left} masks have no image of the same name"] if left else [])
    key = [str(images.resolve()), *((n, stamp(images / n), m, m and stamp(masks / m)) for n, m in zip(names, found))]
    return MaskTable(names, Files(images, names), MaskFiles(masks, found), key, notes)


# COCO -----------------------------------------------------------------------------------------------


def coco_parts(root: Path, options: Any, suffixes: set[str]) -> Parts:
    """JSON files with segmentations: in ROOT, annotations/, or folders of splits."""

    def chosen(path: Path) -> bool:
        if options.table:
            return path.name == options.table
        return path.suffix.lower() == ".json" and b'"segmentation"' in begin(path)

    return files_by_part(root, chosen, "annotations")


def coco_table(root: Path, part: str, files: list[Path], options: Any, suffixes: set[str]) -> MaskTable:
    """Class 0 is the background, the others are the categories by id.

    Raises DataError on several files for a part, or a file that contradicts itself.
    """
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise DataError(f"{root} has several COCO files for one part, {names}: name one, --data.source.table FILE")
    data = read_coco(files[0])
    classes = classes_in(files[0], data)
    if len(classes) >= MOST_CLASSES:
        raise DataError(f"{files[0]} has {len(classes)} categories: 1 to {MOST_CLASSES - 1} can be told apart")
    objects, lost = objects_in(files[0], data)
    things = [[thing_of(a, 1 + label) for a, label in own] for own in objects]
    crowds = sum(thing.label == UNLABELED for own in things for thing in own)
    names = [image["file_name"] for image in data["images"]]
    folder = folder_of(files[0], root, part, names)
    notes = [f"masks: outlines and run lengths of {files[0].name}, images: {folder}"]
    notes += [f"{lost} objects of images that are not listed are left out"] if lost else []
    notes += [f"pixels of {crowds} crowds have no class"] if crowds else []
    key = [str(files[0].resolve()), stamp(files[0]), *((name, stamp(folder / name)) for name in names)]
    masks = CocoMasks(things, [size_in(image) for image in data["images"]])
    return MaskTable(names, Files(folder, names), masks, key, notes, ("background", *classes))


def thing_of(annotation: dict[str, Any], label: int) -> Thing:
    """An object of a class; a crowd has none."""
    crowd = annotation.get("iscrowd")
    return Thing(
        UNLABELED if crowd else label, annotation.get("segmentation"), area_in(annotation), annotation.get("id")
    )


# parquet --------------------------------------------------------------------------------------------


def parquet_parts(root: Path, options: Any, suffixes: set[str]) -> Parts:
    """Parquet files with a column of masks beside that of the images."""
    parts = files_by_part(root, lambda path: path.suffix.lower() == ".parquet", "data")
    return parts if any(mask_column(paths[0], options) for paths in parts.values()) else {}


def mask_column(file: Path, options: Any) -> str:
    """The column of masks: the one that is named, or the first with such a name; empty where there is none."""
    columns = column_names(file, encoded=True)
    wanted = (options.mask,) if options.mask else ("mask", "label", "annotation", "segmentation", *MASKS)
    return next((name for name in wanted if name in columns), "")


def parquet_table(root: Path, part: str, files: list[Path], options: Any, suffixes: set[str]) -> MaskTable:
    """The images and masks of parquet files of one part."""
    mask = mask_column(files[0], options)
    image = options.image or next(name for name in column_names(files[0], encoded=True) if name != mask)
    images, masks = Encoded(files, image), Encoded(files, mask)
    counts = [len(Encoded([file], mask).images) for file in files]
    names = [f"{file.name}:{i}" for file, count in zip(files, counts) for i in range(count)]
    key = [[[str(file.resolve()), stamp(file)] for file in files], image, mask]
    return MaskTable(names, images, MaskColumn(masks), key, [f"masks: column {mask}"])


LAYOUTS: dict[MaskLayout, Callable[[Path, Any, set[str]], Parts]] = {
    "folders": folder_parts,
    "coco": coco_parts,
    "parquet": parquet_parts,
}
READERS: dict[MaskLayout, Callable[[Path, str, list[Path], Any, set[str]], MaskTable]] = {
    "folders": folder_table,
    "coco": coco_table,
    "parquet": parquet_table,
}


def recognized(root: Path, options: Any, suffixes: set[str]) -> tuple[MaskLayout, Parts]:
    """The layout of a folder and its files.   Raises DataMissing where there is none."""
    names: list[MaskLayout] = [options.layout] if options.layout else [*LAYOUTS]
    for name in names:
        if parts := LAYOUTS[name](root, options, suffixes):
            return name, parts
    inside = ", ".join(printable(path.name) for path in sorted(root.iterdir())[:8]) or "nothing"
    raise DataMissing(
        f"no masks in {root}: it has {inside}, not folders images/ and masks/, a COCO file with segmentations, or "
        "parquet files with a column mask; layouts are listed in docs/dense.md"
    )
