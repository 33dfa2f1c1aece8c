"""Interface of the data side of a task: targets of a row, scores of predictions."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Num

from reference.rows import Batch

from ..manifest import Manifest
from ..plan import Budget, EpochPlans
from ..rows import Drawn, PlannedRows
from ..sources.source import Source

ImageOutputs = Callable[[Any, np.ndarray], tuple[np.ndarray, np.ndarray]]


@runtime_checkable
class Batches(Protocol):
    """Batches of one row each, by index of the row in the stream of all epochs."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Batch: ...


@runtime_checkable
class Lengths(Protocol):
    """Statistics of the tokens of the images that are used, from which a task may resolve automatic options."""

    kept: Int[np.ndarray, " n"]
    rows: int
    """Rows in a batch."""
    devices: int
    """Devices that share a batch."""
    row_tokens: int
    row_images: int
    manifest: Manifest
    patch: tuple[int, ...]
    """Patch of the model, in pixels."""
    sizes: dict[str, Any]
    """Sizes of the model, for formulas of cost."""

    def tokens_in(self, patch: tuple[int, ...]) -> tuple[Int[np.ndarray, " n"], int]:
        """Tokens of every such image at another patch size, and the largest number one can have."""
        ...


class DataTask(abc.ABC):
    """Data side of a task. One instance per run; worker processes get it by pickle."""

    metric: ClassVar[str]
    """Name of the mean score, or of `score`, in tables and logs."""
    own_classes: bool = True
    """Whether classes belong to the model; otherwise every set of images has its own."""
    studies: ClassVar[tuple[str, ...]] = ("sweep", "mistakes", "calibration", "attention")
    """Studies of every evaluation."""
    budget: Budget | None = None
    """Tokens of a row that each image takes; None: the tokens kept."""

    def __init__(self, **known: Any):  # noqa: B027
        """`known` is `PreparedTask.data`."""

    @abc.abstractmethod
    def targets(self, drawn: Sequence[Drawn], manifest: Manifest, slots: int) -> Any:
        """Targets of a row, from what was sampled for its images, slot by slot."""

    @abc.abstractmethod
    def scores(
        self, outputs: Num[np.ndarray, "N *n"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> Float[np.ndarray, " N"]:
        """One score per image, higher is better; their mean is `metric`."""

    def score(
        self, outputs: Num[np.ndarray, "N *n"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> tuple[float, float] | None:
        """`metric` of all these images together and its standard error, where it is not a mean of scores."""
        return None

    def metrics(
        self, outputs: Num[np.ndarray, "N *n"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> dict[str, float]:
        """Further metrics over all images, by name."""
        return {}

    def image_outputs(self, source: Source) -> ImageOutputs | None:
        """Ids and outputs of the images of a batch, from the outputs of its rows, where those belong to tokens; None:
        they belong to image slots."""
        return None

    def check(self, manifest: Manifest) -> None:  # noqa: B027
        """Raises DataError where the labels do not suit the task."""

    def resolve(self, lengths: Lengths) -> tuple[dict[str, Any], list[str]]:
        """Automatic fields of the task configuration, resolved from the data, and a note on each."""
        return {}, []

    def plans(self, plans: EpochPlans, rows: int) -> EpochPlans:
        """The plans of blocks for batches of `rows` rows, where the task changes them."""
        return plans

    def batches(self, rows: PlannedRows) -> Batches:
        """Planned rows with their targets."""
        return TargetRows(rows, self.targets)


@dataclass
class TargetRows:
    """Rows with targets made from what was sampled for their images."""

    rows: PlannedRows
    targets: Callable[[Sequence[Drawn], Manifest, int], Any]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        row, drawn = self.rows.draw(index)
        return Batch(row, self.targets(drawn, self.rows.source.manifest, len(row.image_ids)))


def in_slots(values: Sequence[Any], slots: int, empty: Any, dtype: type) -> np.ndarray:
    """Values of the images of a row as an array over slots; `empty` in empty slots."""
    shape = np.shape(empty)
    table = np.full((slots, *shape), empty, dtype)
    if len(values):
        table[: len(values)] = values
    return table
