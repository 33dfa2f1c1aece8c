"""Where images come from. A source has a `manifest` and draws `image(index, shrink)` as upright h w 3 uint8.

Sources travel to worker processes by pickle: they hold paths, not open files.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ..errors import DataError, DataMissing
from .decode import read_file
from .measured import _stamp, cached_manifest, decoded_as
from .source import SPLITS, Source, existing

SUFFIXES = set(".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2 .j2k .tga".split())
HELD_OUT = 10  # without a validation folder, one file in ten by the hash of its name is held out


@dataclass(frozen=True)
class Folder:
    """ROOT/train/<class>/* and ROOT/val/<class>/*; without val/ one file in ten is held out; without train/
    the classes are the folders of ROOT."""

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        return ImageFolder(existing(root), split)


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


def _held_out(name: str) -> bool:
    return int(hashlib.sha1(os.fsencode(name)).hexdigest(), 16) % HELD_OUT == 0
