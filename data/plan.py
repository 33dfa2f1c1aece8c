"""The plan of an epoch: which images, how large, in which patches, with how many tokens, in which row.

No pixel is read.

A pure function of (manifest, seed, epoch, laws), so the stream is the same for any number of workers and
hosts, its length is known, and its position is one integer.

Large epochs are planned in blocks: the images of a block follow each other in the epoch's order, are drawn for and
packed by themselves, so that a run on millions of images starts with the first of its blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from reference.dropping import kept_tokens
from reference.packing import close_row
from reference.resolution import grow

from .errors import DataError
from .laws import Constant, Dropping, OneSize, PatchSize, PatchSizes, Resolution
from .randomness import Purpose, generator
from .rules import ExactFit, Rule
from .teacher import TeacherView

NOTHING = Constant(0.0)  # dropped
BLOCK = 1 << 17  # most images that are planned together


@dataclass(frozen=True)
class Packing:
    """How images share rows."""

    row_tokens: int = 0
    """T, tokens in a row; best a little above the longest image. 0 chooses from the data."""
    row_images: int = 0
    """I, most images in a row. 0 chooses from the data."""
    rule: Rule = ExactFit()
    fill: Literal["none", "rate", "resolution"] = "none"
    """How a row is closed. rate: its last images drop fewer tokens. resolution: its last image is seen somewhat
    larger, at the drop rate it has, and what then remains is closed by the rate."""


MORE_SLOTS = "raise data.packing.row-images, or choose a rule that does not drop surplus images"


class Plan(NamedTuple):
    """Rows of one epoch, or of a block of it; slots without an image hold −1 and zeros, and the patch size of the slot
    before them."""

    image_ids: Int[np.ndarray, "R I"]
    grids: Int[np.ndarray, "R I 2"]
    kept: Int[np.ndarray, "R I"]
    patch_sizes: Int[np.ndarray, "R I"]
    left_out: tuple[tuple[int, str], ...]

    def padding(self, row_tokens: int) -> float:
        """Share of token places that hold no token."""
        return 1 - self.kept.sum() / (len(self.kept) * row_tokens)

    def complete(self) -> "Plan":
        """This plan.   Raises DataError, naming an image, if any was left out."""
        if self.left_out:
            raise DataError(f"image {self.left_out[0][0]} fits no row: {self.left_out[0][1]}")
        return self


class Views(NamedTuple):
    """How every image is to be seen, in the order of their turns."""

    patch_sizes: Int[np.ndarray, " N"]
    grids: Int[np.ndarray, "N 2"]
    kept: Int[np.ndarray, " N"]
    room: Int[np.ndarray, " N"]
    """Tokens of a row to set aside: those kept, or more for the sake of a teacher."""
    fits: Bool[np.ndarray, " N"]


def plan_epoch(
    sizes: Int[np.ndarray, "N 2"],
    *,
    seed: int,
    epoch: int,
    patch_size: int | PatchSizes,
    resolution: Resolution,
    dropping: Dropping,
    packing: Packing,
    shuffle: bool = True,
    longest_side: int,
    step_rows: int = 1,
    teacher: TeacherView | None = None,
    block: int = 0,
    blocks: int = 1,
) -> Plan:
    """Every image stands in exactly one row, or in `left_out` with the reason; of `blocks` equal parts of the epoch
    this is the plan of one.

    `longest_side` is the largest grid side that has a position. With a patch size for each step the rows come in
    groups of `step_rows`, of one size each; a group that the images do not fill ends with empty rows. With a
    `teacher` its tokens of the images of each row fit a row of its own (`planned_for`).
    Raises DataError where no image fits, unless there are other blocks: then the plan has no row.
    """
    part = block_of(len(sizes), block, blocks)
    order = epoch_order(len(sizes), seed, epoch) if shuffle else np.arange(len(sizes), dtype=np.int32)
    images, seen = order[part], images_seen(epoch, len(sizes), part.start, part.stop)
    sizes = sizes[images]

    def rng(purpose: Purpose) -> np.random.Generator:
        return generator(purpose, seed, epoch, block)

    def grids_at(patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        return grids_of(resolution, sizes, seed, epoch, block, patch_size)

    def views(patch_sizes: Int[np.ndarray, " N"]) -> Views:
        grids = grids_at(patch_sizes)
        tokens = grids.prod(-1)
        kept = kept_tokens(tokens, dropping.rates(rng(Purpose.DROPPING), tokens, seen))
        room = teacher.room(kept, grids_at(teacher.patch_size), packing.row_tokens) if teacher else kept
        return Views(patch_sizes, grids, kept, room, (room <= packing.row_tokens) & (grids.max(-1) <= longest_side))

    law = OneSize(patch_size) if isinstance(patch_size, int) else patch_size
    draw = partial(law.sample, rng(Purpose.PATCH_SIZE), tokens=lambda size: grids_at(size).prod(-1))
    if law.per == "step":
        seen_as, rows = _in_steps(len(images), lambda k: int(draw(seen[k : k + 1])[0]), views, packing, step_rows)
    else:
        seen_as = views(draw(seen))
        rows = _rows(np.arange(len(images)), seen_as, packing)
    left_out = [(k, _why(seen_as, k, packing, longest_side)) for k in np.flatnonzero(~seen_as.fits).tolist()]
    if not rows and blocks == 1:
        first = f"; the first: {left_out[0][1]}" if left_out else ""
        raise DataError(f"none of {len(images)} images fits a row{first}")
    plan = _tabled(rows, images, seen_as, packing, left_out)
    if packing.fill == "resolution":
        _grow_last(plan, packing.row_tokens, longest_side)
    if packing.fill != "none":
        _drop_less(plan, packing.row_tokens)
    return plan


@lru_cache(maxsize=1)
def epoch_order(count: int, seed: int, epoch: int) -> Int[np.ndarray, " N"]:
    """The images of an epoch in the order of their turns."""
    order = np.arange(count, dtype=np.int32)
    generator(Purpose.ORDER, seed, epoch).shuffle(order)
    order.flags.writeable = False
    return order


def block_of(count: int, block: int, blocks: int) -> slice:
    """The turns of one of `blocks` equal parts of an epoch."""
    return slice(count * block // blocks, count * (block + 1) // blocks)


def grids_of(
    resolution: Resolution, sizes: Int[np.ndarray, "n 2"], seed: int, epoch: int, block: int, patch_size: PatchSize
) -> Int[np.ndarray, "n 2"]:
    """Grids of the images of a block, in the order of their turns: the same draw of sides whatever the patches."""
    return resolution.grids(generator(Purpose.RESOLUTION, seed, epoch, block), sizes, patch_size)


def planned_for(teacher: TeacherView, plan: Plan, images: Int[np.ndarray, " n"], grids: Int[np.ndarray, "n 2"]) -> Plan:
    """The same images in the same slots, as the teacher sees them: each of `images` at its grid, with all tokens."""
    order = np.argsort(images)
    turns = order[np.searchsorted(images, plan.image_ids, sorter=order)]
    seen = np.where(plan.image_ids[..., None] >= 0, grids[turns], 0).astype(np.int32)
    sizes = np.full_like(plan.patch_sizes, teacher.patch_size)
    return plan._replace(grids=seen, kept=seen.prod(-1).astype(np.int32), patch_sizes=sizes)


def images_seen(epoch: int, count: int, start: int, end: int) -> Int[np.ndarray, " n"]:
    """For the images with turns `start` to `end` of an epoch of `count`, how many came before since the run began.

    Choice: every image counts when its turn comes, whether or not it finds a place in a row, so that the
    number follows from (seed, epoch) alone and a resumed run goes on exactly.
    """
    return epoch * count + np.arange(start, end)


def _rows(turns: Int[np.ndarray, " n"], seen_as: Views, packing: Packing) -> list[list[int]]:
    """Those of the images that fit, in rows."""
    turns = turns[seen_as.fits[turns]]
    if not len(turns):
        return []
    rows = packing.rule.rows(seen_as.room[turns].tolist(), packing.row_tokens, packing.row_images)
    turn = turns.tolist()
    return [[turn[k] for k in row] for row in rows]


def _in_steps(
    count: int,
    size_from: Callable[[int], int],
    views: Callable[[Int[np.ndarray, " N"]], Views],
    packing: Packing,
    step_rows: int,
) -> tuple[Views, list[list[int]]]:
    """Rows of one step after the other, each step at the patch size drawn when its first image's turn comes.

    A step packs the next images that could fill it; those beyond its rows wait, and come first in the next step.
    """
    room = step_rows * packing.row_tokens
    at = cache(lambda size: views(np.full(count, size, np.int32)))
    whole = np.zeros(count, np.int32)
    seen_as = Views(whole, np.zeros((count, 2), np.int32), whole.copy(), whole.copy(), np.zeros(count, bool))
    rows, waiting, start = [], np.arange(0), 0
    while start < count or len(waiting):
        end = min(count, start + step_rows * packing.row_images - len(waiting))
        turns = np.concatenate([waiting, np.arange(start, end)])
        now = at(size_from(turns[0]))
        turns = turns[: 1 + np.searchsorted(np.cumsum(now.fits[turns] * now.room[turns]), room)]
        start += max(0, len(turns) - len(waiting))
        packed = _rows(turns, now, packing)
        again = np.isin(turns, [k for row in packed[step_rows:] for k in row])
        for table, values in zip(seen_as, now):
            table[turns] = values[turns]
        if packed:
            rows += packed[:step_rows] + [[]] * (step_rows - len(packed))
        waiting = np.concatenate([turns[again], waiting[len(turns) :]])
    return seen_as, rows


def _tabled(
    rows: list[list[int]],
    images: Int[np.ndarray, " N"],
    seen_as: Views,
    packing: Packing,
    left_out: list[tuple[int, str]],
) -> Plan:
    """Rows of turns as tables of images; those that fit but stand in no row are added to those left out."""
    counts = np.fromiter(map(len, rows), np.int32, len(rows))
    used = np.arange(packing.row_images) < counts[:, None]
    turns = np.zeros(used.shape, np.int32)
    turns[used] = np.fromiter(chain.from_iterable(rows), np.int32, counts.sum())
    surplus = seen_as.fits.copy()
    surplus[turns[used]] = False
    reason = f"its row held {packing.row_images} images before it: {MORE_SLOTS}"
    left_out = left_out + [(k, reason) for k in np.flatnonzero(surplus).tolist()]
    last = np.maximum.accumulate(np.where(used, np.arange(used.size).reshape(used.shape), 0).ravel())
    return Plan(
        np.where(used, images[turns], -1),
        np.where(used[..., None], seen_as.grids[turns], 0),
        np.where(used, seen_as.kept[turns], 0),
        seen_as.patch_sizes[turns.ravel()[last]].reshape(used.shape),
        tuple((int(images[k]), why) for k, why in left_out),
    )


def _grow_last(plan: Plan, row_tokens: int, longest_side: int) -> None:
    """Enlarge, in place, the last image of each row where the row has room and positions reach as far."""
    rows = np.flatnonzero((plan.image_ids >= 0).any(-1))
    last = (plan.image_ids[rows] >= 0).sum(-1) - 1
    grids, kept = plan.grids[rows, last], plan.kept[rows, last]
    larger, more = grow(grids, kept, row_tokens - plan.kept[rows].sum(-1))
    legal = larger.max(-1) <= longest_side
    plan.grids[rows, last] = np.where(legal[:, None], larger, grids)
    plan.kept[rows, last] = np.where(legal, more, kept)


def _drop_less(plan: Plan, row_tokens: int) -> None:
    """Close rows, in place, with tokens that were to be dropped."""
    for r in np.flatnonzero(plan.kept.sum(-1) < row_tokens):
        plan.kept[r] = close_row(plan.kept[r], plan.grids[r].prod(-1), row_tokens)


def plan_evaluation(
    sizes: Int[np.ndarray, "N 2"],
    *,
    patch_size: int | PatchSizes,
    resolution: Resolution,
    packing: Packing,
    longest_side: int,
    dropping: Dropping = NOTHING,
) -> Plan:
    """Every image once, by default with all its tokens, in the order of the manifest as far as packing allows."""
    return plan_epoch(
        sizes,
        seed=0,
        epoch=0,
        patch_size=patch_size,
        resolution=resolution,
        dropping=dropping,
        packing=packing,
        shuffle=False,
        longest_side=longest_side,
    )


def _why(seen_as: Views, image: int, packing: Packing, longest_side: int) -> str:
    grid, kept = seen_as.grids[image], seen_as.kept[image]
    shape = f"{grid[0]} x {grid[1]} patches"
    if kept > packing.row_tokens:
        return (
            f"{shape} keep {kept} tokens, a row holds {packing.row_tokens}: lower data.resolution, "
            "raise data.packing.row-tokens or drop more"
        )
    if grid.max() > longest_side:
        return (
            f"{shape}, but positions end at {longest_side} a side: lower data.resolution or raise model.posembed.size"
        )
    return "the teacher's rows or positions end before it does: raise loss.row-tokens or lower data.resolution"
