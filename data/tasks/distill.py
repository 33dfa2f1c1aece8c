"""Distillation: pairs of rows for student and teacher, with the same images in the same slots."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Num

from reference.evaluation.cost import row_flops
from reference.rows import Batch, Row

from ..errors import BadImage
from ..manifest import Manifest
from ..plan import TOKEN_STEP, EpochPlans, Plan, round_up
from ..rows import Drawn, Pixels, PlannedRows
from ..sampling.kinds import Patch, PatchSize
from ..sources.decode import Whole
from ..sources.source import Source
from ..stream import Epochs
from .classify import Classify
from .task import Lengths


class Targets(NamedTuple):
    """The row of the teacher, with the same images in the same slots."""

    teacher_row: Row


@dataclass(frozen=True)
class TeacherBudget:
    """Row budget for a teacher that reads all tokens of every image, at its own patch size and row length.

    Choice: the teacher drops no tokens, for its best predictions.
    """

    patch: Patch
    row_tokens: int
    longest_side: int
    """Largest grid side with a position in the teacher."""

    def tokens(
        self,
        images: Int[np.ndarray, " N"],
        kept: Int[np.ndarray, " N"],
        grids_at: Callable[[PatchSize], Int[np.ndarray, "N 2"]],
        row_tokens: int,
    ) -> Int[np.ndarray, " N"]:
        """Tokens of a student's row that each image takes, so that the teacher's row holds the image too:
        max(k, ⌈n T / T'⌉) for k of T tokens of the student and n of T' tokens of the teacher; T + 1 where the teacher
        cannot read the image.

        Choice: one number for both rows keeps the packing rules unchanged; it wastes tokens where some images fill
        the student's row and others the teacher's.
        """
        grids = grids_at(self.patch)
        tokens = grids.prod(-1, dtype=np.int64)
        readable = (tokens <= self.row_tokens) & (grids.max(-1) <= self.longest_side)
        taken = np.maximum(kept, -(-tokens * row_tokens // self.row_tokens))
        return np.where(readable, taken, row_tokens + 1)

    def why(self, image: int, kept: int) -> str:
        """The row of the teacher is too short."""
        return "the row of the teacher is too short for it: raise task.row-tokens or lower data.resolution"


class Distill(Classify):
    """Targets are the rows of the teacher; scores of the student still come from the labels."""

    def __init__(
        self,
        *,
        patch: Patch,
        longest_side: int,
        row_tokens: int | None,
        sizes: dict[str, Any],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ):
        self.patch, self.longest_side, self.sizes = patch, longest_side, sizes
        self.row_tokens = row_tokens
        self.pixels = Pixels(patch, mean=mean, std=std)

    @property
    def budget(self) -> TeacherBudget:  # pyright: ignore[reportIncompatibleVariableOverride]
        assert self.row_tokens is not None, "task.row_tokens is auto: call `harness.resolve.resolve` first"
        return TeacherBudget(self.patch, self.row_tokens, self.longest_side)

    def resolve(self, lengths: Lengths) -> tuple[dict[str, Any], list[str]]:
        """The row length of the teacher with the lowest cost per image."""
        if self.row_tokens is not None:
            return {}, []
        tokens, longest = lengths.tokens_in(self.patch)
        self.row_tokens = teacher_row_tokens(lengths, tokens, longest, self.sizes)
        note = (
            f"task.row_tokens = {self.row_tokens}: in patches of {self.patch[0]} x {self.patch[1]} the teacher reads "
            f"{tokens.mean():.0f} tokens per image, the student {lengths.kept.mean():.0f}"
        )
        return {"row_tokens": self.row_tokens}, [note]

    def batches(self, rows: PlannedRows) -> "PairedRows":
        plans: Any = rows.epochs.plan
        budget = self.budget
        epochs = Epochs(TeacherPlans(budget, rows.epochs, plans), rows.epochs.blocks, rows.epochs.counts)
        pixels = replace_channels(self.pixels, rows.pixels.channels)
        return PairedRows(rows, replace(rows, epochs=epochs, pixels=pixels, row_tokens=budget.row_tokens))

    def targets(self, drawn: Sequence[Drawn], manifest: Manifest, slots: int) -> Any:
        raise NotImplementedError("pairs of rows are read together: use `batches`")


def replace_channels(pixels: Pixels, channels: int) -> Pixels:
    """The same pixels with another number of channels."""
    return pixels._replace(channels=channels)


def teacher_row_tokens(lengths: Lengths, tokens: Int[np.ndarray, " N"], longest: int, sizes: dict[str, Any]) -> int:
    """Tokens T' of a teacher's row with the lowest cost per image, at least the tokens of the longest image.

    Choice: images need Σ max(k / T, n / T') rows, for k tokens of the student and n of the teacher; a pair of rows
    costs three forward passes of the student (one forward, one backward) and one of the teacher.
    """
    forward = lambda sizes, row_tokens: row_flops([], row_tokens, lengths.row_images, **sizes)[1]
    shortest, once = round_up(longest), 3 * forward(lengths.sizes, lengths.row_tokens)
    choices = range(shortest, max(shortest, 4 * lengths.row_tokens) + 1, TOKEN_STEP)

    def cost(row_tokens: int) -> float:
        rows = np.maximum(lengths.kept / lengths.row_tokens, tokens / row_tokens).mean()
        return rows * (once + forward(sizes, row_tokens))

    return min(choices, key=cost)


@dataclass(frozen=True)
class TeacherPlans:
    """Plans of blocks for the teacher: the same images in the same slots, each with all its tokens."""

    budget: TeacherBudget
    epochs: Epochs
    """Epochs of the student."""
    plans: EpochPlans

    def __call__(self, place: int) -> Plan:
        return plan_for_teacher(
            self.budget.patch, self.epochs.planned(place), *self.plans.grids(place, self.budget.patch)
        )


def plan_for_teacher(patch: Patch, plan: Plan, images: Int[np.ndarray, " n"], grids: Int[np.ndarray, "n 2"]) -> Plan:
    """`plan` for the teacher: the same images in the same slots, at `grids`, with all tokens."""
    order = np.argsort(images)
    place = order[np.searchsorted(images, plan.image_ids, sorter=order)]
    in_slots = np.where(plan.image_ids[..., None] >= 0, grids[place], 0).astype(np.int32)
    sizes = np.broadcast_to(np.array(patch, np.int32), plan.patch_sizes.shape)
    return plan._replace(grids=in_slots, kept=in_slots.prod(-1).astype(np.int32), patch_sizes=sizes)


class ReadOnce:
    """A source that reads each image once, for one pair of rows: both rows hold the same images even where a read fails
    in between."""

    def __init__(self, source: Source):
        self.source = source
        self.manifest = source.manifest
        self.found: dict[int, Num[np.ndarray, "h w C"] | BadImage] = {}

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
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
class PairedRows:
    """Pairs of rows for student and teacher by index.

    Augmentation follows from seed, epoch and image id, relative to the sides of the image. So both rows hold the same
    augmented image, each at its own size.
    """

    student: PlannedRows
    teacher: PlannedRows

    def __len__(self) -> int:
        return len(self.student)

    def __getitem__(self, index: int) -> Batch:
        source = ReadOnce(self.student.source)
        both = (replace(rows, source=source, decoding=Whole()) for rows in (self.student, self.teacher))
        student, teacher = (rows[index] for rows in both)
        return Batch(student, Targets(teacher))
