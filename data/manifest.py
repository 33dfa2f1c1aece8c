"""Manifest of a source, known before any pixel is read: names, upright sizes, labels, classes."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from .boxes import Boxes
from .errors import DataError, DataMissing, UnknownClasses


@dataclass(frozen=True)
class Manifest:
    """One entry per image; images that cannot be used are in `set_aside`."""

    names: np.ndarray
    """Names as bytes, so that any file name fits."""
    sizes: Int[np.ndarray, "N A"]
    """Upright height and width in pixels; of clips, the number of frames before them."""
    labels: Int[np.ndarray, "N *M"]
    """One label per image, or a set of labels per image padded with −1."""
    classes: tuple[str, ...]
    where: str
    """Name of the source, for messages."""
    set_aside: tuple[tuple[str, str], ...] = ()
    """Names of images that cannot be used, with the reasons."""
    channels: int = 3
    dtype: str = "uint8"
    """Type of the pixels: uint8, or float32 for pixels that are already normalized."""
    notes: tuple[str, ...] = ()
    """What was found and left out when the source was opened, for printing."""
    boxes: Boxes | None = None
    """Boxes of the images, where the source has them; `labels` are then the classes that occur in each image."""
    masks: bool = False
    """Whether the source has the class of every pixel; `labels` are then the classes that occur in each image."""
    complexity: Float[np.ndarray, " N"] | None = None
    """How much of each image large patches lose, where a law asks for it: data/complexity.py."""
    stamp: str = ""
    """Digest of the names, sizes and times of the files; empty where nothing is known of files."""

    def __post_init__(self):
        count = len(self.names)
        if not count:
            first = f"; {len(self.set_aside)} were set aside, first {self._first()}" if self.set_aside else ""
            raise DataMissing(f"no readable image in {self.where}{first}")
        if (
            self.sizes.shape not in ((count, 2), (count, 3))
            or self.labels.shape[:1] != (count,)
            or self.labels.ndim > 2
        ):
            raise DataError(f"{self.where}: {count} names, sizes {self.sizes.shape}, labels {self.labels.shape}")
        lowest = 0 if self.labels.ndim == 1 else -1
        rows = self.labels.reshape(count, -1)
        wrong = np.flatnonzero(((rows < lowest) | (rows >= len(self.classes))).any(-1))
        if len(wrong):
            i = int(wrong[0])
            raise DataError(
                f"{self.where}: {self.name(i)} has label {self.labels[i].tolist()}, allowed are 0 to "
                f"{len(self.classes) - 1} ({len(wrong)} such images): fix the labels or the list of classes"
            )
        if self.boxes is not None and len(self.boxes.ends) != count + 1:
            raise DataError(f"{self.where}: {count} names, boxes of {len(self.boxes.ends) - 1} images")
        if self.complexity is not None and self.complexity.shape != (count,):
            raise DataError(f"{self.where}: {count} names, complexity of {len(self.complexity)} images")
        if self.sizes.min() < 1:
            i = int(self.sizes.min(-1).argmin())
            raise DataError(f"{self.where}: {self.name(i)} has size {tuple(self.sizes[i])}")

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: Int[np.ndarray, " n"] | Bool[np.ndarray, " N"]) -> "Manifest":
        """These images, in this order, with all that is known of them."""
        rows = np.arange(len(self))[rows]
        return replace(
            self,
            names=self.names[rows],
            sizes=self.sizes[rows],
            labels=self.labels[rows],
            boxes=None if self.boxes is None else self.boxes.select(rows),
            complexity=None if self.complexity is None else self.complexity[rows],
        )

    @property
    def has_clips(self) -> bool:
        """Whether the entries are clips."""
        return self.sizes.shape[1] == 3

    def name(self, index: int) -> str:
        """Printable name of one image."""
        return printable(os.fsdecode(self.names[index]))

    @cached_property
    def digest(self) -> str:
        """Hash of names, sizes, labels, classes, boxes and complexity."""
        digest = hashlib.sha256(repr(self.classes).encode())
        more = [] if self.complexity is None else [self.complexity]
        for array in (self.names, self.sizes, self.labels, *(self.boxes.tables if self.boxes else ()), *more):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def renamed(self, classes: tuple[str, ...]) -> "Manifest":
        """The same images with labels that index `classes`, matched by class name.

        Raises UnknownClasses where an image has a class that is not in `classes`.
        """
        if classes == self.classes:
            return self
        place = {name: i for i, name in enumerate(classes)}
        used = np.unique(self.labels[self.labels >= 0]).tolist()
        unknown = [self.classes[i] for i in used if self.classes[i] not in place]
        if unknown:
            raise UnknownClasses(
                f"{self.where} has images of {len(unknown)} unknown classes, first {unknown[0]!r}; "
                f"known are {len(classes)}, first {', '.join(map(repr, classes[:3]))}: rename or remove them"
            )
        table = np.array([place.get(name, -1) for name in self.classes] + [-1], np.int32)
        boxes = self.boxes and replace(self.boxes, classes=table[self.boxes.classes])
        return replace(self, labels=table[self.labels], classes=classes, boxes=boxes)

    def _first(self) -> str:
        return ": ".join(self.set_aside[0])

    def check_unreadable(self, budget: float) -> None:
        """Raises DataError where more than the share `budget` of the images is set aside."""
        share = len(self.set_aside) / (len(self) + len(self.set_aside))
        if share > budget:
            raise DataError(
                f"{len(self.set_aside)} of {len(self) + len(self.set_aside)} images in {self.where} cannot be "
                f"read, more than the share data.max_unreadable={budget}; first: {self._first()}. "
                "Fix or remove them (`python -m data.check` lists all), or raise the share"
            )


def as_names(names: Sequence[str]) -> np.ndarray:
    """Names as an array of bytes: compact for millions of images, exact for any file name."""
    return np.array([os.fsencode(name) for name in names] or [b""])[: len(names)]


def printable(name: str) -> str:
    """A file name as one line of plain text; invalid bytes, line ends and terminal codes are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
