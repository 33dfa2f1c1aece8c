"""What every task asks of the data: targets of a row, and scores of predictions."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Num

from reference.rows import Batch

from ..manifest import Manifest
from ..plan import Budget
from ..rows import Drawn, PlannedRows


@runtime_checkable
class Batches(Protocol):
    """Batch g of the stream of all epochs, of one row each."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Batch: ...


@runtime_checkable
class Lengths(Protocol):
    """What a run knows of the tokens of its images, by which a task may choose what was left open."""

    kept: Int[np.ndarray, " N"]
    row_tokens: int
    row_images: int
    sizes: dict[str, Any]
    """Of the model, for formulas of cost."""

    def tokens_in(self, patch: tuple[int, ...]) -> tuple[Int[np.ndarray, " N"], int]:
        """Tokens of every image in other patches, and the most that one can have."""
        ...


class DataTask(abc.ABC):
    """The data's side of a task. One is made for a run, and travels to worker processes by pickle."""

    metric: ClassVar[str]
    """Name of the mean score."""
    budget: Budget | None = None

    def __init__(self, **known: Any):  # noqa: B027
        """`known` is `PreparedTask.data`."""

    @abc.abstractmethod
    def targets(self, drawn: Sequence[Drawn], manifest: Manifest, slots: int) -> Any:
        """Targets of a row, from what was drawn for its images, slot by slot."""

    @abc.abstractmethod
    def scores(
        self, outputs: Num[np.ndarray, "N *n"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> Float[np.ndarray, " N"]:
        """One number for each image, the more the better; their mean is `metric`."""

    def metrics(
        self, outputs: Num[np.ndarray, "N *n"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> dict[str, float]:
        """Other measures of all images together."""
        return {}

    def check(self, manifest: Manifest) -> None:  # noqa: B027
        """Raises DataError where the images lack what the task needs."""

    def resolve(self, lengths: Lengths) -> tuple[dict[str, Any], list[str]]:
        """Fields of the task's configuration that the data decide, and a note on each."""
        return {}, []

    def batches(self, rows: PlannedRows) -> Batches:
        """Planned rows with their targets."""
        return TargetRows(rows, self.targets)


@dataclass
class TargetRows:
    """Rows and targets made from what was drawn for their images."""

    rows: PlannedRows
    targets: Callable[[Sequence[Drawn], Manifest, int], Any]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        row, drawn = self.rows.draw(index)
        return Batch(row, self.targets(drawn, self.rows.source.manifest, len(row.image_ids)))


def in_slots(values: Sequence[Any], slots: int, empty: Any, dtype: type) -> np.ndarray:
    """Values of the images of a row, slot by slot; `empty` where a slot has none."""
    shape = np.shape(empty)
    table = np.full((slots, *shape), empty, dtype)
    if len(values):
        table[: len(values)] = values
    return table
