"""Where images come from. A source has a `manifest` and draws `image(index, shrink)` as upright h w 3 uint8.

Sources travel to worker processes by pickle: they hold paths, not open files.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import PIL
from jaxtyping import Int, UInt8

from .decode import FORMATS, MAX_BYTES, MAX_PIXELS, MAX_SCANS, MAX_SIDE, decode, read_file, read_size
from .digits import DigitStrips
from .errors import BadImage, DataError, DataMissing
from .manifest import Manifest, as_names, printable
from .parquet import class_names, read_images, read_labels

SUFFIXES = set(".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2 .j2k .tga".split())
SPLITS = {"train": ("train",), "val": ("val", "validation", "valid", "test")}
HELD_OUT = 10  # without a validation folder, one file in ten by the hash of its name is held out
RULES = [PIL.__version__, FORMATS, MAX_BYTES, MAX_PIXELS, MAX_SIDE, MAX_SCANS]  # what a measured size depends on


@runtime_checkable
class Source(Protocol):
    """Images with known sizes and labels."""

    manifest: Manifest

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        """In full, or where the source can at 1 / shrink of its sides, rounded up.   Raises BadImage."""
        ...


@dataclass(frozen=True)
class Digits:
    """The embedded digit strips."""

    train_images: int = 300_000
    val_images: int = 2_000
    seed: int = 0

    def open(self, root: str, split: str) -> Source:
        return DigitStrips(split, self.train_images if split == "train" else self.val_images, self.seed)


@dataclass(frozen=True)
class Folder:
    """ROOT/train/<class>/* and ROOT/val/<class>/*; without val/ one file in ten is held out; without train/
    the classes are the folders of ROOT."""

    def open(self, root: str, split: str) -> Source:
        return ImageFolder(existing(root), split)


@dataclass(frozen=True)
class Parquet:
    """ROOT/train*.parquet and ROOT/val*.parquet with encoded images, as data sets on the Hugging Face hub."""

    image: str = "image"
    """Column of images: bytes, or a struct with `bytes`."""
    label: str = "label"
    """Column of labels: class names, or integers."""

    def open(self, root: str, split: str) -> Source:
        return ParquetImages(existing(root), split, self.image, self.label)


def existing(root: str) -> Path:
    """Raises DataMissing where `root` is no folder."""
    if not root:
        raise DataMissing("data.root is not set: give the folder of the images, --data.root DIR")
    if not Path(root).is_dir():
        raise DataMissing(f"data.root={root} is not a folder: give the folder of the images, --data.root DIR")
    return Path(root)


class Arrays:
    """Images in memory, each h w 3 uint8."""

    def __init__(self, images: Sequence[np.ndarray], labels: Int[np.ndarray, " N"], classes: tuple[str, ...]):
        self.images = images
        self.manifest = Manifest(
            names=as_names([str(i) for i in range(len(images))]),
            sizes=np.array([image.shape[:2] for image in images], np.int32).reshape(-1, 2),
            labels=np.asarray(labels, np.int32),
            classes=classes,
            where="arrays in memory",
        )

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        return self.images[index]


class ImageFolder:
    """One class per folder; see `Folder`."""

    def __init__(self, root: Path, split: str):
        training, validation = (_sub_folder(root, name) for name in ("train", "val"))
        if validation and not training:
            raise DataMissing(f"{root} has {validation.name}/ but no train/: put the training classes there")
        training = training or root
        self.folder = training if split == "train" else validation or training
        classes = tuple(_class_folders(training))
        names = [n for n in _listing(self.folder) if validation or (split == "val") == _held_out(n)]
        if not names:
            raise DataMissing(
                f"no image to {split} on in {self.folder}: put images into it as CLASS/NAME.jpg or the like"
            )
        label_of = {name: i for i, name in enumerate(classes)}
        unknown = sorted({n.split("/")[0] for n in names} - label_of.keys())
        if unknown:
            raise DataError(
                f"{self.folder}: class {unknown[0]!r} has no folder among the training classes: add or remove it"
            )
        labels = [label_of[n.split("/")[0]] for n in names]
        key = [str(self.folder.resolve()), *((n, _stamp(self.folder / n)) for n in names)]
        self.manifest = cached_manifest(key, names, labels, classes, str(self.folder), lambda: map(self._bytes, names))

    def _bytes(self, name: str) -> bytes:
        return read_file(self.folder / name)

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        return decoded_as(self.manifest.sizes[index], self._bytes(os.fsdecode(self.manifest.names[index])), shrink)


def _sub_folder(root: Path, split: str) -> Path | None:
    return next((root / name for name in SPLITS[split] if (root / name).is_dir()), None)


def _class_folders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _listing(folder: Path) -> list[str]:
    """class/…/file of every image file, sorted."""
    found = (f"{name}/{file}" for name in _class_folders(folder) for file in files_below(folder / name))
    return sorted(filter(is_image_name, found))


def files_below(folder: Path) -> Iterator[str]:
    """Every file below `folder`, by its path from there; hidden files and folders are left alone.

    Links are followed; a folder met twice, as in a loop of links, is entered once.
    """
    seen = set()
    for path, folders, files in os.walk(folder, followlinks=True, onerror=_stop):
        here = os.stat(path)
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        inside = os.path.relpath(path, folder)
        yield from (os.path.normpath(f"{inside}/{file}") for file in sorted(files) if not file.startswith("."))


def is_image_name(name: str) -> bool:
    """By its suffix alone."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _stop(error: OSError) -> None:
    """A folder that cannot be listed is no empty folder."""
    raise error


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of change; None where there is no file, as behind a broken link."""
    try:
        return (stat := path.stat()).st_size, stat.st_mtime_ns
    except OSError:
        return None


def _held_out(name: str) -> bool:
    return int(hashlib.sha1(os.fsencode(name)).hexdigest(), 16) % HELD_OUT == 0


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


def cached_manifest(
    key: object,
    names: list[str],
    labels: list[int],
    classes: tuple[str, ...],
    where: str,
    contents: Callable[[], Iterable[bytes]],
) -> Manifest:
    """The manifest of encoded images, from the cache if these very files were measured before.

    Only headers are read. Unreadable images are set aside by name.
    """
    digest = hashlib.sha256(json.dumps([RULES, repr(key), classes, labels]).encode()).hexdigest()[:24]
    file = cache_folder() / f"sizes-{digest}.npz"
    measured = _stored(file, len(names))
    if measured is None:
        measured = measure(names, contents)
        _store(file, *measured)
    sizes, reasons = measured
    good = sizes.min(-1) > 0
    return Manifest(
        names=as_names(names)[good],
        sizes=sizes[good],
        labels=np.array(labels, np.int32)[good],
        classes=classes,
        where=where,
        set_aside=tuple((printable(names[i]), why) for i, why in zip(np.flatnonzero(~good), reasons)),
    )


def measure(names: list[str], contents: Callable[[], Iterable[bytes]]) -> tuple[np.ndarray, list[str]]:
    """Upright sizes from the headers; 0 x 0 for an image that cannot be used, and the reasons of these in order."""
    sizes, reasons = np.zeros((len(names), 2), np.int32), []
    readers = iter(contents())
    for i in range(len(names)):
        try:
            sizes[i] = read_size(next(readers))
        except BadImage as error:
            reasons.append(str(error))
    return sizes, reasons


def decoded_as(size: Int[np.ndarray, " 2"], data: bytes, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
    """The image, of the size for which it was planned, or that divided by `shrink`.   Raises BadImage."""
    image = decode(data, shrink)
    if image.shape[:2] not in (tuple(size), tuple(-(-size // shrink))):
        raise BadImage(
            f"{image.shape[0]} x {image.shape[1]} pixels, but {size[0]} x {size[1]} when it was measured: start anew"
        )
    return image


def cache_folder() -> Path:
    """Where what can be made again is kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "navit"


def _stored(file: Path, count: int) -> tuple[np.ndarray, list[str]] | None:
    """What `_store` wrote; None where it is not there, or not sound."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            sizes, reasons = stored["sizes"], stored["reasons"]
    except Exception:  # damaged in whatever way
        return None
    sound = sizes.dtype == np.int32 and sizes.shape == (count, 2) and sizes.min(initial=0) >= 0
    if not sound or reasons.dtype.kind != "U" or reasons.shape != ((sizes.min(-1) == 0).sum(),):
        return None
    return sizes, reasons.tolist()


def _store(file: Path, sizes: np.ndarray, reasons: list[str]) -> None:
    """Write beside and rename, so that no reader meets half a file; without a cache the run goes on."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f"{file.stem}-{os.getpid()}.npz")
        np.savez(beside, sizes=sizes, reasons=np.array(reasons, dtype=str))
        beside.rename(file)
    except OSError:
        pass
