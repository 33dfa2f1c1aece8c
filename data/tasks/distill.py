"""The logits of a teacher: rows in pairs, with the same pictures in the same slots, for student and teacher."""

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
    """The row that the teacher reads, with the same images in the same slots."""

    teacher_row: Row


@dataclass(frozen=True)
class TeacherBudget:
    """All tokens of every image, at its drawn resolution, in patches and rows of the teacher's own.

    Choice: a teacher drops no token, so that what it says is the best it knows.
    """

    patch: Patch
    row_tokens: int
    longest_side: int
    """The largest grid side that has a position."""

    def tokens(
        self, kept: Int[np.ndarray, " N"], grids_at: Callable[[PatchSize], Int[np.ndarray, "N 2"]], row_tokens: int
    ) -> Int[np.ndarray, " N"]:
        """Tokens of a student's row that each image takes so that the teacher's row holds its share too:
        max(k, ⌈n T / T'⌉) for k tokens of the student's T and n of the teacher's T'; T + 1 where the teacher cannot
        see the image.

        Choice: one number for both rows, so that every packing rule stays as it is; it wastes places where images
        differ in which of the two they fill.
        """
        grids = grids_at(self.patch)
        tokens = grids.prod(-1, dtype=np.int64)
        seen = (tokens <= self.row_tokens) & (grids.max(-1) <= self.longest_side)
        taken = np.maximum(kept, -(-tokens * row_tokens // self.row_tokens))
        return np.where(seen, taken, row_tokens + 1)


class Distill(Classify):
    """No labels in training; a student is judged by them all the same."""

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
        assert self.row_tokens is not None, "chosen from the data before anything is planned"
        return TeacherBudget(self.patch, self.row_tokens, self.longest_side)

    def resolve(self, lengths: Lengths) -> tuple[dict[str, Any], list[str]]:
        """The row length of the teacher for which images cost least."""
        if self.row_tokens is not None:
            return {}, []
        tokens, longest = lengths.tokens_in(self.patch)
        self.row_tokens = teacher_row_tokens(lengths, tokens, longest, self.sizes)
        note = (
            f"task.row_tokens = {self.row_tokens}: in patches of {self.patch[0]} x {self.patch[1]} the teacher reads "
            f"{tokens.mean():.0f} tokens of an image where the student reads {lengths.kept.mean():.0f}"
        )
        return {"row_tokens": self.row_tokens}, [note]

    def batches(self, rows: PlannedRows) -> "PairedRows":
        plans: Any = rows.epochs.plan
        budget = self.budget
        epochs = Epochs(TeacherPlans(budget, rows.epochs, plans), rows.epochs.blocks, rows.epochs.counts)
        pixels = replace_channels(self.pixels, rows.pixels.channels)
        return PairedRows(rows, replace(rows, epochs=epochs, pixels=pixels, row_tokens=budget.row_tokens))

    def targets(self, drawn: Sequence[Drawn], manifest: Manifest, slots: int) -> Any:
        raise NotImplementedError("a pair of rows is read at once: see `batches`")


def replace_channels(pixels: Pixels, channels: int) -> Pixels:
    return pixels._replace(channels=channels)


def teacher_row_tokens(lengths: Lengths, tokens: Int[np.ndarray, " N"], longest: int, sizes: dict[str, Any]) -> int:
    """Tokens T' of a teacher's row, at least as many as the longest image has, for which the images cost least.

    Choice: a set of images needs rows as Σ max(k / T, n / T'), k tokens for the student and n for the teacher, and a
    pair of rows costs the FLOPs of three forward passes of the student, for it is also run backwards, and of one of
    the teacher.
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
    """The plan of a block for the teacher: the same images in the same slots, each with all its tokens."""

    budget: TeacherBudget
    epochs: Epochs
    """Of the student."""
    plans: EpochPlans

    def __call__(self, place: int) -> Plan:
        return plan_for_teacher(
            self.budget.patch, self.epochs.planned(place), *self.plans.grids(place, self.budget.patch)
        )


def plan_for_teacher(patch: Patch, plan: Plan, images: Int[np.ndarray, " n"], grids: Int[np.ndarray, "n 2"]) -> Plan:
    """The same images in the same slots, each of `images` at its grid, with all tokens."""
    order = np.argsort(images)
    place = order[np.searchsorted(images, plan.image_ids, sorter=order)]
    seen = np.where(plan.image_ids[..., None] >= 0, grids[place], 0).astype(np.int32)
    sizes = np.broadcast_to(np.array(patch, np.int32), plan.patch_sizes.shape)
    return plan._replace(grids=seen, kept=seen.prod(-1).astype(np.int32), patch_sizes=sizes)


class ReadOnce:
    """A source for one pair of rows, of which each image is read once, unreadable ones too: both rows then hold the
    same images, even where a disk fails between the two."""

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
    """Pair g of the stream of all epochs, any g at any time.

    What is random about a picture (crop, colors, partner) follows from its seed, epoch and id, in shares of its sides.
    So both rows hold the same picture, each drawn from the image at its own size.
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
