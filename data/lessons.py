"""Rows in pairs, for distillation: the same pictures in the same slots, as a student and as its teacher see them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from reference.types import Row

from .decode import Whole
from .errors import BadImage
from .plan import Plan, planned_for
from .rows import Epochs, PlannedRows
from .sources import Source
from .teacher import TeacherView

Taught = tuple[Int[np.ndarray, " n"], Int[np.ndarray, "n 2"]]
"""Images, and the grids at which a teacher sees them."""


class Lesson(NamedTuple):
    """Two rows, or batches of them, with the same images in the same slots."""

    student: Row
    teacher: Row


class ReadOnce:
    """A source for one row, of which each image is read once, unreadable ones too: both rows of a lesson then hold the
    same images, even where a disk fails between the two."""

    def __init__(self, source: Source):
        self.source = source
        self.manifest = source.manifest
        self.found: dict[int, UInt8[np.ndarray, "h w 3"] | BadImage] = {}

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        """Raises BadImage."""
        if index not in self.found:
            try:
                self.found[index] = self.source.image(index, shrink)
            except BadImage as error:
                self.found[index] = error
        image = self.found[index]
        if isinstance(image, BadImage):
            raise image
        return image


@dataclass
class LessonRows:
    """Lesson g of the stream of all epochs, any g at any time.

    What is random about a picture (crop, colours, partner) follows from its seed, epoch and id, in shares of its sides.
    So both rows hold the same picture, each drawn from the image at its own size.
    """

    student: PlannedRows
    teacher: PlannedRows

    def __len__(self) -> int:
        return len(self.student)

    def __getitem__(self, index: int) -> Lesson:
        source = ReadOnce(self.student.source)
        both = (replace(rows, source=source, decoding=Whole()) for rows in (self.student, self.teacher))
        return Lesson(*(rows[index] for rows in both))


def lessons(student: PlannedRows, teacher: TeacherView, taught: Callable[[int], Taught]) -> LessonRows:
    """`student` rows, planned with this teacher, beside what it sees of them in each block of the stream."""
    of = student.epochs
    epochs = Epochs(partial(_planned_for, teacher, of, taught), of.blocks, of.ledger)
    beside = replace(
        student, epochs=epochs, patch_size=teacher.patch_size, row_tokens=teacher.row_tokens, interpolation=None
    )
    return LessonRows(student, beside)


def _planned_for(teacher: TeacherView, epochs: Epochs, taught: Callable[[int], Taught], place: int) -> Plan:
    return planned_for(teacher, epochs.planned(place), *taught(place))
