"""The plan of an epoch: image, size, patch size, tokens kept and row of every image.

The plan is a pure function of (manifest, seed, epoch, sampling); no pixel is read. So the stream of rows is the same
for any number of workers and hosts, its length is known, and its position is one integer.

Large epochs are planned in blocks of consecutive images of the shuffled order. Each block is sampled and packed
independently, so a run on millions of images starts after the first block is planned.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import chain
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from reference.packing import close_row
from reference.sampling.resolution import grow
from reference.template import enlarged, template_rows

from .errors import DataError
from .randomness import Purpose, generator
from .sampling.dropping import Complexity, Constant, Dropping
from .sampling.kinds import Patch, PatchSize
from .sampling.merge import Law, Merged, block_tokens, kept_by, of_images
from .sampling.packing import Packing, Template
from .sampling.patch_size import OneSize, PatchSizes
from .sources.source import Source

NOTHING = Constant(0.0)  # no token dropped
BLOCK = 1 << 17  # most images in a block


MORE_SLOTS = "raise data.packing.row-images, or choose a rule that does not drop surplus images"


class TextPlan(NamedTuple):
    """Rows of the texts of the planned images; −1 in an empty slot."""

    image_ids: Int[np.ndarray, "R M"]
    captions: Int[np.ndarray, "R M"]
    """Index of each text in the list of captions."""
    keys: Int[np.ndarray, "Q I"]
    """Key of the text of each image, in the slots of the rows of images."""


class Plan(NamedTuple):
    """Rows of an epoch or of one block. An empty slot has image id −1, zeros, and the patch size of the slot before."""

    image_ids: Int[np.ndarray, "R I"]
    grids: Int[np.ndarray, "R I A"]
    """Rows and columns of patches; before them, the number of frames of clips, or of quads that are merged."""
    kept: Int[np.ndarray, "R I"]
    patch_sizes: Int[np.ndarray, "R I 2"]
    left_out: tuple[tuple[int, str], ...]
    """Images in no row, with the reasons."""
    texts: TextPlan | None = None
    """Rows of texts, where the task pairs images and texts."""

    def padding(self, row_tokens: int) -> float:
        """Share of token places without a token."""
        return 1 - self.kept.sum() / (len(self.kept) * row_tokens)

    def complete(self) -> "Plan":
        """This plan.   Raises DataError if any image is left out."""
        if self.left_out:
            raise DataError(f"image {self.left_out[0][0]} fits no row: {self.left_out[0][1]}")
        return self


@runtime_checkable
class Budget(Protocol):
    """Tokens of a row that each image takes, where something else must fit as well: a teacher's row, boxes."""

    def tokens(
        self,
        images: Int[np.ndarray, " N"],
        kept: Int[np.ndarray, " N"],
        grids_at: Callable[[PatchSize], Int[np.ndarray, "N 2"]],
        row_tokens: int,
    ) -> Int[np.ndarray, " N"]:
        """At least the tokens kept; more than `row_tokens` where the image does not fit."""
        ...

    def why(self, image: int, kept: int) -> str:
        """The reason why an image does not fit that fits by its tokens, and what to do."""
        ...


class ImagePlan(NamedTuple):
    """What was sampled for each image, in the shuffled order."""

    patch_sizes: Int[np.ndarray, "N 2"]
    grids: Int[np.ndarray, "N A"]
    kept: Int[np.ndarray, " N"]
    budget: Int[np.ndarray, " N"]
    """Tokens of a row that an image takes: the tokens kept, or more with a `Budget`."""
    fits: Bool[np.ndarray, " N"]


def plan_epoch(
    sizes: Int[np.ndarray, "N A"],
    *,
    seed: int,
    epoch: int,
    patch_size: Patch | PatchSizes,
    resolution: Law,
    dropping: Dropping,
    packing: Packing,
    shuffle: bool = True,
    longest_side: int,
    step_rows: int = 1,
    budget: Budget | None = None,
    complexity: Complexity = None,
    block: int = 0,
    blocks: int = 1,
) -> Plan:
    """The plan of one of `blocks` equal parts of an epoch: every image is in exactly one row, or in `left_out`.

    `longest_side` is the largest grid side with a position. With one patch size per step, rows come in groups of
    `step_rows` with equal patch size; empty rows complete the last group. With `budget`, images may take more of a row
    than their tokens. `complexity` is that of each image, for laws that follow it.
    Raises DataError where no image fits; with several blocks, such a plan has no rows.
    """
    part = block_of(len(sizes), block, blocks)
    order = epoch_order(len(sizes), seed, epoch) if shuffle else np.arange(len(sizes), dtype=np.int32)
    images, before = order[part], images_seen(epoch, len(sizes), part.start, part.stop)
    sizes, complexity = sizes[images], None if complexity is None else complexity[images]
    resolution = of_images(resolution, complexity)
    (row_tokens, _), merges = packing.shape, isinstance(resolution, Merged)

    def rng(purpose: Purpose) -> np.random.Generator:
        return generator(purpose, seed, epoch, block)

    def grids_at(patch_size: PatchSize) -> Int[np.ndarray, "N A"]:
        return grids_of(resolution, sizes, seed, epoch, block, patch_size)

    def image_plan(patch_sizes: Int[np.ndarray, "N 2"]) -> ImagePlan:
        grids = grids_at(patch_sizes)
        tokens = resolution.token_counts(grids)
        kept = kept_by(resolution, tokens, dropping.rates(rng(Purpose.DROPPING), tokens, before, complexity))
        taken = budget.tokens(images, kept, grids_at, row_tokens) if budget else kept
        room = (taken <= row_tokens) | isinstance(packing.rule, Template)  # an image keeps what its window has
        return ImagePlan(patch_sizes, grids, kept, taken, room & in_reach(grids, longest_side))

    sampling = OneSize(patch_size) if isinstance(patch_size, tuple) else patch_size
    draw = partial(
        sampling.sample, rng(Purpose.PATCH_SIZE), tokens=lambda patch: resolution.token_counts(grids_at(patch))
    )
    if isinstance(packing.rule, Template) and (sampling.per == "step" or budget or sizes.shape[1] > 2 or merges):
        raise DataError(
            "data.packing.rule=Template is for images of one row each, without a patch size per step and without "
            "data.merge: choose ExactFit"
        )
    check_blocks(packing, block_tokens(resolution))
    if sampling.per == "step":
        planned, rows = _in_steps(len(images), lambda k: draw(before[k : k + 1])[0], image_plan, packing, step_rows)
    else:
        planned = image_plan(draw(before))
        if isinstance(packing.rule, Template):
            planned, rows = _in_windows(planned, packing.rule, longest_side)
        else:
            rows = _rows(np.arange(len(images)), planned, packing)
    out = np.flatnonzero(~planned.fits).tolist()
    left_out = [(k, _why(planned, k, row_tokens, longest_side, budget, int(images[k]), merges)) for k in out]
    if not rows and blocks == 1:
        first = f"; the first: {left_out[0][1]}" if left_out else ""
        raise DataError(f"none of {len(images)} images fits a row{first}")
    plan = _as_tables(rows, images, planned, packing, left_out)
    if packing.fill == "resolution":
        _grow_last(plan, row_tokens, longest_side)
    if packing.fill != "none":
        _drop_less(plan, resolution, row_tokens)
    return plan


def check_blocks(packing: Packing, block: int) -> None:
    """Raises DataError where rows cannot hold images of whole blocks of so many tokens."""
    if block == 1:
        return
    row_tokens, _ = packing.shape
    if row_tokens % block:
        raise DataError(
            f"data.packing.row-tokens={row_tokens}: rows of a hierarchy hold blocks of {block} tokens; make it a "
            f"multiple of {block}"
        )
    if isinstance(packing.rule, Template) or packing.fill != "none":
        raise DataError(
            "data.packing: windows of Template and `fill` cut blocks of a hierarchy; --data.packing.rule exactfit "
            "--data.packing.fill none"
        )


def in_reach(grids: Int[np.ndarray, "N A"], longest_side: int) -> Bool[np.ndarray, " N"]:
    """Whether every patch has a position; the time of clips is limited when they are sampled."""
    return grids[:, -2:].max(-1) <= longest_side


@lru_cache(maxsize=1)
def epoch_order(count: int, seed: int, epoch: int) -> Int[np.ndarray, " N"]:
    """The images of an epoch in shuffled order."""
    order = np.arange(count, dtype=np.int32)
    generator(Purpose.ORDER, seed, epoch).shuffle(order)
    order.flags.writeable = False
    return order


def block_of(count: int, block: int, blocks: int) -> slice:
    """Block number `block` of `blocks` equal parts of an epoch."""
    return slice(count * block // blocks, count * (block + 1) // blocks)


def grids_of(
    resolution: Law, sizes: Int[np.ndarray, "n A"], seed: int, epoch: int, block: int, patch_size: PatchSize
) -> Int[np.ndarray, "n _"]:
    """Grids of the images of a block; the resolutions are the same for every patch size."""
    return resolution.grids(generator(Purpose.RESOLUTION, seed, epoch, block), sizes, patch_size)


def images_seen(epoch: int, count: int, start: int, end: int) -> Int[np.ndarray, " n"]:
    """Number of images before each of the images `start` to `end` of an epoch of `count`, since the start of the run.

    Choice: images in no row count too, so the number follows from (seed, epoch) alone and a resumed run continues
    exactly.
    """
    return epoch * count + np.arange(start, end)


def _rows(order: Int[np.ndarray, " n"], planned: ImagePlan, packing: Packing) -> list[list[int]]:
    """Pack the images that fit."""
    order = order[planned.fits[order]]
    if not len(order):
        return []
    assert not isinstance(packing.rule, Template)  # see `_in_windows`
    rows = packing.rule.rows(planned.budget[order].tolist(), *packing.shape)
    place = order.tolist()
    return [[place[k] for k in row] for row in rows]


def _in_windows(planned: ImagePlan, rule: Template, longest_side: int) -> tuple[ImagePlan, list[list[int]]]:
    """Rows of the images that fit, with the tokens that their windows have; an image is enlarged where too few are as
    large as a window.   Raises DataError where its positions end."""
    assert rule.windows, "data.packing.rule.windows is auto: call `harness.resolve.resolve` first"
    fit = np.flatnonzero(planned.fits)
    rows, kept = template_rows(planned.kept[fit], planned.grids[fit].prod(-1), rule.windows)
    grids = enlarged(planned.grids[fit], kept)
    if not in_reach(grids, longest_side).all():
        raise DataError(
            f"a window of {kept[grids.max(-1).argmax()]} tokens is larger than the images of "
            f"data.packing.rule.windows = {rule.windows}: lower the first windows"
        )
    tables = planned.grids.copy(), planned.kept.copy(), planned.budget.copy()
    for table, values in zip(tables, (grids, kept, kept)):
        table[fit] = values
    return ImagePlan(planned.patch_sizes, *tables, planned.fits), [fit[row].tolist() for row in rows]


def _in_steps(
    count: int,
    patch_from: Callable[[int], Int[np.ndarray, " 2"]],
    image_plan: Callable[[Int[np.ndarray, "N 2"]], ImagePlan],
    packing: Packing,
    step_rows: int,
) -> tuple[ImagePlan, list[list[int]]]:
    """Rows step by step, each step at the patch size drawn for its first image.

    A step packs the next images that can fill it; images beyond its rows are queued and packed first in the next step.
    """
    row_tokens, row_images = packing.shape
    step_tokens = step_rows * row_tokens
    at = cache(lambda patch: image_plan(np.tile(np.array(patch, np.int32), (count, 1))))
    zeros = np.zeros(count, np.int32)
    pairs = np.zeros((count, 2), np.int32)
    planned = ImagePlan(pairs, pairs.copy(), zeros, zeros.copy(), np.zeros(count, bool))
    rows, queue, start = [], np.arange(0), 0
    while start < count or len(queue):
        end = min(count, start + step_rows * row_images - len(queue))
        order = np.concatenate([queue, np.arange(start, end)])
        now = at(tuple(patch_from(order[0]).tolist()))
        order = order[: 1 + np.searchsorted(np.cumsum(now.fits[order] * now.budget[order]), step_tokens)]
        start += max(0, len(order) - len(queue))
        packed = _rows(order, now, packing)
        again = np.isin(order, [k for row in packed[step_rows:] for k in row])
        for table, values in zip(planned, now):
            table[order] = values[order]
        if packed:
            rows += packed[:step_rows] + [[]] * (step_rows - len(packed))
        queue = np.concatenate([order[again], queue[len(order) :]])
    return planned, rows


def _as_tables(
    rows: list[list[int]],
    images: Int[np.ndarray, " N"],
    planned: ImagePlan,
    packing: Packing,
    left_out: list[tuple[int, str]],
) -> Plan:
    """Tables of the rows; images that fit but are in no row are added to `left_out`."""
    _, row_images = packing.shape
    counts = np.fromiter(map(len, rows), np.int32, len(rows))
    used = np.arange(row_images) < counts[:, None]
    place = np.zeros(used.shape, np.int32)
    place[used] = np.fromiter(chain.from_iterable(rows), np.int32, counts.sum())
    surplus = planned.fits.copy()
    surplus[place[used]] = False
    reason = f"its row already has {row_images} images: {MORE_SLOTS}"
    left_out = left_out + [(k, reason) for k in np.flatnonzero(surplus).tolist()]
    last = np.maximum.accumulate(np.where(used, np.arange(used.size).reshape(used.shape), 0).ravel())
    return Plan(
        np.where(used, images[place], -1),
        np.where(used[..., None], planned.grids[place], 0),
        np.where(used, planned.kept[place], 0),
        planned.patch_sizes[place.ravel()[last]].reshape(*used.shape, 2),
        tuple((int(images[k]), why) for k, why in left_out),
    )


def _grow_last(plan: Plan, row_tokens: int, longest_side: int) -> None:
    """Enlarge, in place, the last image of each row within the free tokens and the largest position."""
    rows = np.flatnonzero((plan.image_ids >= 0).any(-1))
    last = (plan.image_ids[rows] >= 0).sum(-1) - 1
    grids, kept = plan.grids[rows, last], plan.kept[rows, last]
    larger, more = grow(grids, kept, row_tokens - plan.kept[rows].sum(-1))
    legal = larger.max(-1) <= longest_side
    plan.grids[rows, last] = np.where(legal[:, None], larger, grids)
    plan.kept[rows, last] = np.where(legal, more, kept)


def _drop_less(plan: Plan, resolution: Law, row_tokens: int) -> None:
    """Fill rows, in place, by dropping fewer tokens."""
    for r in np.flatnonzero(plan.kept.sum(-1) < row_tokens):
        plan.kept[r] = close_row(plan.kept[r], resolution.token_counts(plan.grids[r]), row_tokens)


def _why(
    planned: ImagePlan, place: int, row_tokens: int, longest_side: int, budget: Budget | None, image: int, merges: bool
) -> str:
    grid, kept = planned.grids[place], planned.kept[place]
    more = f", {grid[0]} {'merges' if merges else 'frames'}" if len(grid) == 3 else ""
    shape = f"{' x '.join(map(str, grid[-2:]))} patches{more}"
    if kept > row_tokens:
        return (
            f"{shape} keep {kept} tokens, a row holds {row_tokens}: lower data.resolution, "
            "raise data.packing.row-tokens or drop more"
        )
    if grid[-2:].max() > longest_side:
        return (
            f"{shape}, but positions end at {longest_side} a side: lower data.resolution or raise model.posembed.size"
        )
    assert budget is not None, "what fits by its tokens and positions is kept out by the budget alone"
    return budget.why(image, int(kept))


@dataclass(frozen=True)
class EpochPlans:
    """Plans of all epochs, by number of the block in the stream; picklable."""

    source: Source
    sampling: dict[str, Any]
    """Keyword arguments of `plan_epoch` that are the same for all blocks."""

    @property
    def blocks(self) -> int:
        """Blocks per epoch."""
        return -(-len(self.source.manifest) // BLOCK)

    def __call__(self, place: int) -> Plan:
        epoch, block = divmod(place, self.blocks)
        known, part = self.source.manifest, {"epoch": epoch, "block": block, "blocks": self.blocks}
        return plan_epoch(known.sizes, complexity=known.complexity, **part, **self.sampling)

    def images(self, place: int) -> Int[np.ndarray, " n"]:
        """The images of a block, shuffled."""
        count, (epoch, block) = len(self.source.manifest), divmod(place, self.blocks)
        return epoch_order(count, self.sampling["seed"], epoch)[block_of(count, block, self.blocks)]

    def grids(self, place: int, patch: Patch) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, "n A"]]:
        """The images of a block, shuffled, and their grids at the planned resolutions and another patch size."""
        sizes, (epoch, block) = self.source.manifest.sizes, divmod(place, self.blocks)
        seed, resolution = self.sampling["seed"], self.sampling["resolution"]
        images = self.images(place)
        return images, grids_of(resolution, sizes[images], seed, epoch, block, patch)

    @property
    def key(self) -> str:
        """Digest of everything the plans depend on."""
        settings = self.source.manifest.digest, self.blocks, self.sampling
        return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]


TOKEN_STEP = 32  # row lengths are multiples of this


def round_up(tokens: int) -> int:
    """The next multiple of TOKEN_STEP."""
    return -(-tokens // TOKEN_STEP) * TOKEN_STEP
