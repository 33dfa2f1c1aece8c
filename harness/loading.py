"""Sources and packed rows as configured."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from data.errors import DataError
from data.laws import Augment, Dropping, PatchSizes, Resolution
from data.lessons import LessonRows, Taught, lessons
from data.manifest import Manifest
from data.memory import Remembered
from data.pipeline import batches
from data.plan import (
    BLOCK,
    NOTHING,
    Packing,
    Plan,
    block_of,
    epoch_order,
    grids_of,
    plan_epoch,
    plan_evaluation,
)
from data.rows import Epochs, PlannedRows
from data.rules import ExactFit
from data.sources import Source
from data.teacher import TeacherView
from reference.dropping import kept_tokens
from reference.types import Row

from .choose import interpolation_of, patch_law, round_up
from .config import Config, DataConfig


def open_source(data: DataConfig, split: str) -> Source:
    """The images of a split, checked.   Raises DataError or DataMissing."""
    source = data.source.open(data.root, split)
    source.manifest.check_unreadable(data.max_unreadable)
    return Remembered(source, int(data.memory * 2**30)) if split == "train" and data.memory else source


def check_left_out(config: Config, manifest: Manifest, plan: Plan) -> None:
    """Raises DataError where more images of a plan fit no row than may be unreadable."""
    planned = int((plan.image_ids >= 0).sum()) + len(plan.left_out)
    if len(plan.left_out) > config.data.max_unreadable * planned:
        index, reason = plan.left_out[0]
        raise DataError(f"{len(plan.left_out)} of {planned} images fit no row; {manifest.name(index)}: {reason}")


def blocks_of(source: Source) -> int:
    """In how many blocks an epoch is planned."""
    return -(-len(source.manifest) // BLOCK)


def training_plan(config: Config, source: Source, teacher: TeacherView | None = None) -> Callable[[int], Plan]:
    """Block of the stream → plan."""
    return partial(
        _plan,
        source,
        config.seed,
        patch_law(config),
        config.data,
        config.model.posembed.longest_side,
        config.rows,
        teacher,
    )


def _plan(
    source: Source,
    seed: int,
    patch_size: PatchSizes,
    data: DataConfig,
    longest_side: int,
    step_rows: int,
    teacher: TeacherView | None,
    place: int,
) -> Plan:
    epoch, block = divmod(place, blocks_of(source))
    return plan_epoch(
        source.manifest.sizes,
        seed=seed,
        epoch=epoch,
        patch_size=patch_size,
        resolution=data.resolution,
        dropping=data.dropping,
        packing=data.packing,
        longest_side=longest_side,
        step_rows=step_rows,
        teacher=teacher,
        block=block,
        blocks=blocks_of(source),
    )


def training_rows(config: Config, source: Source, teacher: TeacherView | None = None) -> PlannedRows:
    """The stream of rows of the whole run; with room for what a teacher sees of them."""
    return PlannedRows(
        source,
        Epochs(training_plan(config, source, teacher), blocks_of(source)),
        config.steps * config.rows,
        config.model.patch_size,
        config.data.packing.row_tokens,
        config.seed,
        None if config.data.augment == Augment() else config.data.augment,
        config.data.choosing,
        interpolation_of(config.model) if patch_law(config).per == "image" else None,
        config.data.decoding,
    )


def training_lessons(config: Config, rows: PlannedRows, teacher: TeacherView | None) -> PlannedRows | LessonRows:
    """Training rows that were planned for this teacher, each beside what it sees of them; alone where there is none."""
    if teacher is None:
        return rows
    taught = partial(_taught, rows.source, config.seed, config.data.resolution, teacher.patch_size)
    return lessons(rows, teacher, taught)


def _taught(source: Source, seed: int, resolution: Resolution, patch_size: int, place: int) -> Taught:
    """The images of a block of the stream in the order of their turns, and their grids."""
    sizes, (epoch, block) = source.manifest.sizes, divmod(place, blocks_of(source))
    images = epoch_order(len(sizes), seed, epoch)[block_of(len(sizes), block, blocks_of(source))]
    return images, grids_of(resolution, sizes[images], seed, epoch, block, patch_size)


def evaluation_batches(
    config: Config, source: Source, resolution: Resolution, dropping: Dropping = NOTHING, patch_size: int = 0
) -> tuple[Iterator[Row], Plan]:
    """Every image once, by default with all its tokens and in patches of the model's own size (0); the last batch is
    filled up with empty rows.

    Rows are as long as in training, or longer where the longest image needs it.
    """
    sizes, patch_size = source.manifest.sizes, patch_size or config.model.patch_size
    packing = packing_at(config.data.packing, resolution, sizes, patch_size, dropping)
    plan = plan_evaluation(
        sizes,
        patch_size=patch_size,
        resolution=resolution,
        packing=packing,
        longest_side=config.model.posembed.longest_side,
        dropping=dropping,
    )
    padded = fill_last_batch(plan, config.rows)
    count = len(padded.image_ids)
    epochs = Epochs(lambda epoch: padded)
    rows = PlannedRows(source, epochs, count, patch_size, packing.row_tokens, config.seed, None)
    return batches(rows, config.rows), plan


def packing_at(
    packing: Packing, resolution: Resolution, sizes, patch_size: int, dropping: Dropping = NOTHING
) -> Packing:
    """`packing` with rows long enough for every image at this resolution, and a rule that loses none."""
    rng = np.random.default_rng(0)
    tokens = resolution.grids(rng, sizes, patch_size).prod(-1)
    longest = int(kept_tokens(tokens, dropping.rates(rng, tokens, np.arange(len(tokens)))).max())
    row_tokens = packing.row_tokens if longest <= packing.row_tokens else round_up(longest)
    return replace(packing, row_tokens=row_tokens, rule=ExactFit(), fill="none")


def fill_last_batch(plan: Plan, rows: int) -> Plan:
    """The plan with empty rows up to a multiple of `rows`."""
    missing = -len(plan.image_ids) % rows

    def fill(table, value):
        widths = [(0, missing)] + [(0, 0)] * (table.ndim - 1)
        return np.pad(table, widths, constant_values=value)

    return plan._replace(
        image_ids=fill(plan.image_ids, -1),
        grids=fill(plan.grids, 0),
        kept=fill(plan.kept, 0),
        patch_sizes=np.pad(plan.patch_sizes, [(0, missing), (0, 0)], mode="edge"),
    )
