"""Sources and packed rows as configured."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError
from data.laws import Augment, Dropping, Resolution
from data.ledger import Ledger
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


def laws_of(config: Config, teacher: TeacherView | None) -> dict[str, Any]:
    """All that plans follow from, beside the images."""
    return {
        "seed": config.seed,
        "patch_size": patch_law(config),
        "resolution": config.data.resolution,
        "dropping": config.data.dropping,
        "packing": config.data.packing,
        "longest_side": config.model.posembed.longest_side,
        "step_rows": config.rows,
        "teacher": teacher,
    }


def _plan(source: Source, laws: dict[str, Any], place: int) -> Plan:
    epoch, block = divmod(place, blocks_of(source))
    return plan_epoch(source.manifest.sizes, epoch=epoch, block=block, blocks=blocks_of(source), **laws)


def key_of(source: Source, blocks: int, laws: dict[str, Any]) -> str:
    """The same for the same plans."""
    return hashlib.sha256(repr((source.manifest.digest, blocks, laws)).encode()).hexdigest()[:16]


def training_rows(
    config: Config, source: Source, teacher: TeacherView | None = None, ledger: Path | None = None
) -> PlannedRows:
    """The stream of rows of the whole run, with room for what a teacher sees of them; its blocks are counted in the
    file `ledger`, if one is given."""
    laws, blocks = laws_of(config, teacher), blocks_of(source)
    counted = Ledger(ledger, key_of(source, blocks, laws)) if ledger else None
    return PlannedRows(
        source,
        Epochs(partial(_plan, source, laws), blocks, counted),
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
