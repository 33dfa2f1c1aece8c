"""A folder of images, one class per subfolder.

Worker processes get sources by pickle, so sources hold paths, not open files.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Num

from ..errors import DataError, DataMissing
from ..manifest import printable
from .attribute_tables import beside
from .decode import read_file
from .layout import classes_in, held_out, missing, splits_of, suffixes_for
from .measured import cached_manifest, decoded_as, stamp
from .source import Source, existing


@dataclass(frozen=True)
class Folder:
    """A folder of images: ROOT/train/<class>/* and ROOT/val/<class>/* (or test/), or ROOT/<class>/*. Without a
    validation split, a tenth of each class is held out. Names of splits are matched loosely: Training/, seg_train/.
    attributes.csv names attributes of images: `data/sources/attribute_tables.py`."""

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        """The images of a split: train, val, test, or all of them."""
        return ImageFolder(existing(root), split, channels)


class ImageFolder:
    """One class per folder; see `Folder`."""

    def __init__(self, root: Path, split: str, channels: int = 3):
        splits, notes = splits_of(root)
        self.folder, self.channels = folder_of(root, splits, split), channels
        suffixes = suffixes_for(channels)
        files, more = classes_in(self.folder, suffixes)
        training = splits.get("train", self.folder)
        known = files if training == self.folder else classes_in(training, suffixes)[0]
        unknown = sorted(files.keys() - known.keys())
        if unknown:
            raise DataError(
                f"{self.folder}: class {unknown[0]!r} has no folder among the training classes: add or remove it"
            )
        if split in ("train", "val") and not (splits.keys() - {"train"}):
            files, why = hold_out(files, split)
            more.append(why)
        if split == "train" and len(known) == 1:
            raise DataError(
                f"{root} has 1 class, {printable(next(iter(known)))}: name the folder that holds the folders of the "
                "classes"
            )
        place = {name: i for i, name in enumerate(sorted(known))}
        names, labels = zip(*[(f, place[name]) for name in sorted(files) for f in files[name]]) if files else ((), ())
        if not names:
            raise DataMissing(missing("image", split, self.folder, "CLASS/NAME.jpg"))
        key = [str(self.folder.resolve()), *((n, stamp(self.folder / n)) for n in names)]
        self.manifest = cached_manifest(
            key,
            list(names),
            list(labels),
            tuple(sorted(known)),
            str(self.folder),
            lambda: map(self._bytes, names),
            channels=channels,
            notes=(*notes, *more, first_names(sorted(known))),
        )

        self.attributes = beside(self.folder, root, self.manifest.names)

    def _bytes(self, name: str) -> bytes:
        return read_file(self.folder / name)

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Raises BadImage."""
        return decoded_as(self.manifest, index, self._bytes(os.fsdecode(self.manifest.names[index])), shrink)


def folder_of(root: Path, splits: dict[str, Path], split: str) -> Path:
    """The folder of a split.   Raises DataMissing."""
    if not splits:
        if split == "test":
            raise DataMissing(f"{root} has no test/: evaluate on --split val, or on all")
        return root
    if split == "train" and "train" not in splits:
        found = ", ".join(f"{path.name}/" for path in splits.values())
        raise DataMissing(f"{root} has {found} but no train/: put the training classes there")
    if split == "test" and "test" not in splits:
        raise DataMissing(f"{root} has no test/: evaluate on --split val")
    if split == "all":
        split = next(part for part in ("val", "test", "train") if part in splits)
    if split == "val":
        split = next(part for part in ("val", "test", "train") if part in splits)
    return splits[split]


def hold_out(files: dict[str, list[str]], split: str) -> tuple[dict[str, list[str]], str]:
    """Split the images of each class into training and validation images; the images of `split`, and a note.

    Where every class has a single image, both splits have all images.
    """
    taken = {name: held_out(images) for name, images in files.items()}
    count, total = sum(map(len, taken.values())), sum(map(len, files.values()))
    if not count:
        return files, "every class has one image: nothing is held out, validation is on the training images"
    kept = {name: [i for i in images if (i in taken[name]) == (split == "val")] for name, images in files.items()}
    return kept, f"no validation split: {count} of {total} images are held out, about a tenth of each class"


def first_names(classes: list[str]) -> str:
    """A note with the names of the first classes."""
    names = ", ".join(map(printable, classes[:5]))
    return f"classes: {names}{', …' if len(classes) > 5 else ''}"
