"""Where images come from. A source has a `manifest` and draws `image(index)` as upright h w 3 uint8.

Sources travel to worker processes by pickle: they hold paths, not open files.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from .decode import decode, read_size
from .digits import DigitStrips
from .errors import BadImage, DataError, DataMissing
from .manifest import Manifest, as_names

SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".ppm",
    ".avif",
    ".jp2",
    ".tga",
}
SPLITS = {"train": ("train",), "val": ("val", "validation", "valid", "test")}
HELD_OUT = 10  # without a validation folder, one file in ten by the hash of its name is held out


@runtime_checkable
class Source(Protocol):
    """Images with known sizes and labels."""

    manifest: Manifest

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Raises BadImage."""
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
        raise DataMissing(f"data.root={root} is not a folder")
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

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self.images[index]


class ImageFolder:
    """One class per folder; see `Folder`."""

    def __init__(self, root: Path, split: str):
        training, validation = (_sub_folder(root, name) for name in ("train", "val"))
        if validation and not training:
            raise DataMissing(f"{root} has {validation.name}/ but no train/: put the training classes there")
        training = training or root
        self.folder = training if split == "train" else validation or training
        classes = tuple(sorted(p.name for p in training.iterdir() if _is_class(p)))
        names = [n for n in _listing(self.folder) if validation or (split == "val") == _held_out(n)]
        label_of = {name: i for i, name in enumerate(classes)}
        unknown = sorted({n.split("/")[0] for n in names} - label_of.keys())
        if unknown:
            raise DataError(f"{self.folder}: class {unknown[0]!r} has no folder among the training classes")
        labels = [label_of[n.split("/")[0]] for n in names]
        key = [str(self.folder.resolve()), *((n, _stamp(self.folder / n)) for n in names)]
        self.manifest = cached_manifest(key, names, labels, classes, str(self.folder), lambda: map(self._bytes, names))

    def _bytes(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror}") from error

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return decode(self._bytes(os.fsdecode(self.manifest.names[index])))


def _sub_folder(root: Path, split: str) -> Path | None:
    return next((root / name for name in SPLITS[split] if (root / name).is_dir()), None)


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _listing(folder: Path) -> list[str]:
    """class/…/file of every image file, sorted; hidden files and other suffixes are not images."""
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        inside = os.path.relpath(path, folder)
        if inside != ".":
            found += [
                f"{inside}/{f}" for f in files if not f.startswith(".") and os.path.splitext(f)[1].lower() in SUFFIXES
            ]
    return sorted(found)


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
        labels, classes = self._labels(_shards(root, "train"), label)
        stats = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in self.files]
        names = [f"{f.name}:{i}" for f in self.files for i in range(_count(f))]
        self.manifest = cached_manifest(
            [stats, image, label], names, labels, classes, f"{root} ({split})", lambda: self.encoded
        )
        place = {name: i for i, name in enumerate(names)}
        self.places = np.array([place[n.decode()] for n in self.manifest.names], np.int64)

    def _labels(self, training: list[Path], label: str) -> tuple[list[int], tuple[str, ...]]:
        known, values = _read(training, label), _read(self.files, label)
        named = _class_names(training[0], label)
        if known and isinstance(known[0], int):
            return values, named or tuple(str(i) for i in range(max(known) + 1))
        classes = tuple(sorted(set(known)))
        unknown = sorted(set(values) - set(classes))
        if unknown:
            raise DataError(f"{self.files[0]}: label {unknown[0]!r} does not occur in the training files")
        label_of = {name: i for i, name in enumerate(classes)}
        return [label_of[v] for v in values], classes

    @cached_property
    def encoded(self) -> list[bytes]:
        values = _read(self.files, self.column)
        return [(v["bytes"] if isinstance(v, dict) else v) or b"" for v in values]

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "encoded"}

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return decode(self.encoded[self.places[index]])


def _shards(root: Path, split: str) -> list[Path]:
    for name in SPLITS[split]:
        if files := sorted(root.glob(f"{name}*.parquet")):
            return files
    raise DataMissing(f"no {SPLITS[split][0]}*.parquet in {root}")


def _count(file: Path) -> int:
    import pyarrow.parquet as pq

    return pq.read_metadata(file).num_rows


def _read(files: list[Path], column: str) -> list:
    import pyarrow.parquet as pq

    for file in files:
        if column not in (names := pq.read_schema(file).names):
            raise DataError(f"{file} has no column {column!r}; it has {', '.join(names)}: set data.source")
    return [v for file in files for v in pq.read_table(file, columns=[column])[column].to_pylist()]


def _class_names(file: Path, label: str) -> tuple[str, ...]:
    """Names stored by the `datasets` library, if any."""
    import pyarrow.parquet as pq

    stored = (pq.read_schema(file).metadata or {}).get(b"huggingface", b"{}")
    feature = json.loads(stored).get("info", {}).get("features", {}).get(label, {})
    return tuple(feature.get("names", ()))


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
    digest = hashlib.sha256(json.dumps([repr(key), classes, labels]).encode()).hexdigest()[:24]
    file = _cache() / f"sizes-{digest}.npz"
    try:
        with np.load(file, allow_pickle=False) as stored:
            sizes, reasons = stored["sizes"], stored["reasons"].tolist()
    except Exception:  # not there, or damaged in whatever way
        sizes, reasons = measure(names, contents)
        _store(file, sizes=sizes, reasons=np.array(reasons, dtype=str))
    good = np.flatnonzero(np.array([not r for r in reasons], bool))
    return Manifest(
        names=as_names(names)[good],
        sizes=sizes[good],
        labels=np.array(labels, np.int32)[good],
        classes=classes,
        where=where,
        set_aside=tuple((n, r) for n, r in zip(names, reasons) if r),
    )


def measure(names: list[str], contents: Callable[[], Iterable[bytes]]) -> tuple[np.ndarray, list[str]]:
    """Upright sizes from the headers, and the reason where there is none ("" where all is well)."""
    sizes, reasons = np.zeros((len(names), 2), np.int32), [""] * len(names)
    readers = iter(contents())
    for i in range(len(names)):
        try:
            sizes[i] = read_size(next(readers))
        except BadImage as error:
            reasons[i] = str(error)
    return sizes, reasons


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "navit"


def _store(file: Path, sizes: np.ndarray, reasons: np.ndarray) -> None:
    """Write beside and rename, so that no reader meets half a file; without a cache the run goes on."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f"{file.stem}-{os.getpid()}.npz")
        np.savez(beside, sizes=sizes, reasons=reasons)
        beside.rename(file)
    except OSError:
        pass
