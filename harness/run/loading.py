"""Sources, tasks, plans and packed rows of a configuration."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain, starmap
from pathlib import Path
from typing import Any

import jax

from data.adaptive import PlannedBlocks
from data.clips import PlannedClips
from data.complexity import with_complexity
from data.counts import of_source
from data.errors import DataError
from data.evaluation_plan import fill_last_batch, of_two_lengths, packing_at, plan_evaluation
from data.hierarchy import PlannedQuads
from data.manifest import Manifest
from data.pipeline import HostShard, batches, rows_each
from data.plan import NOTHING, EpochPlans, Plan
from data.rows import Pixels, PlannedRows
from data.sampling.augment import Augment
from data.sampling.dropping import ByContent, Dropping
from data.sampling.kinds import Patch
from data.sampling.merge import Law, MergeByContent, Merged
from data.sampling.resolution import Clips, WholeBlocks
from data.sources.balanced import balanced
from data.sources.decode import Decoding, Whole
from data.sources.memory import CachedInMemory
from data.sources.source import Source, with_classes
from data.sources.unboxed import unboxed
from data.stream import BlockCounts, Epochs
from data.tasks import TASKS, DataTask
from navit_eqx import Model
from navit_eqx.config import ModelConfig
from navit_eqx.errors import check
from navit_eqx.inference import rows_at_once
from navit_eqx.tasks import PreparedTask, prepare
from reference.resize import Interpolation
from reference.rows import Row

from ..adaptive import may_merge
from ..config import Config
from ..cost import imbalance
from ..lengths import patch_sampling
from ..resolve import with_start
from .trained import trained_model

WHOLE = Whole()


def open_source(config: Config, split: str) -> Source:
    """Open a split and check its share of unreadable images.   Raises DataError or DataMissing."""
    data = config.data
    source = data.source.open(data.root, split, config.model.channels)
    source.manifest.check_unreadable(data.max_unreadable)
    if isinstance(data.merge, MergeByContent) or isinstance(data.dropping, ByContent):
        source = with_complexity(source)
    return CachedInMemory(source, int(data.memory * 2**30)) if split == "train" and data.memory else source


def open_sources(config: Config) -> tuple[Source, Source]:
    """Training images, repeated by `data.balance`, and validation images; labels index the same classes where these
    belong to the model. Where texts name the classes, validation keeps its own, and those held out have no box in
    training.   Raises DataError."""
    try:
        train, val = open_source(config, "train"), open_source(config, "val")
    except DataError as error:
        raise with_start(error, config.start) from None
    if config.task.named_by_texts:
        return balanced(unboxed(train, config.task.held_out), config.data.balance, config.seed), val
    if not TASKS[type(config.task).__name__].own_classes:
        check(config.data.balance is None, f"data.balance: the task {type(config.task).__name__} has no classes")
        return train, val
    return balanced(train, config.data.balance, config.seed), with_classes(val, train.manifest.classes)


def open_task(config: Config, manifest: Manifest) -> tuple[PreparedTask, DataTask]:
    """Model side and data side of the configured task.   Raises ConfigError or DataError."""
    prepared = prepare(config.task, manifest.classes, trained_model)
    data_task = TASKS[type(config.task).__name__](**prepared.data)
    data_task.check(manifest)
    return prepared, data_task


def task_of(model: Model) -> DataTask:
    """Data side of the task of a saved model."""
    config, info = model.task.config, model.info
    prepared = prepare(config, info.classes if info else (), trained_model)
    return TASKS[type(model.task).__name__](**prepared.data)


def check_left_out(config: Config, manifest: Manifest, plan: Plan) -> None:
    """Raises DataError where the share of images that fit no row exceeds data.max_unreadable."""
    planned = int((plan.image_ids >= 0).sum()) + len(plan.left_out)
    if len(plan.left_out) > config.data.max_unreadable * planned:
        index, reason = plan.left_out[0]
        raise DataError(f"{len(plan.left_out)} of {planned} images fit no row; {manifest.name(index)}: {reason}")


def pixels_of(model: ModelConfig, mapped: bool) -> Pixels:
    """Pixel format of rows for a model; `mapped` where patches of several sizes share a row."""
    interpolation = Interpolation(**asdict(model.interpolation)) if mapped else None
    return Pixels(model.patch, model.channels, model.mean, model.std, interpolation, model.detail is not None)


def is_mapped(model: ModelConfig, law: Law) -> bool:
    """Whether rows hold patches of several sizes, mapped to the kernel, whatever the size at which images are cut."""
    return bool(model.tubelets) or isinstance(law, Merged) and law.merge.rule == "pi"


def training_rows(config: Config, source: Source, task: DataTask, counts: Path | None = None) -> PlannedRows:
    """Rows of the whole run by index; the file `counts`, if any, stores the number of rows of each block."""
    patches = patch_sampling(config)
    sampling = {
        "seed": config.seed,
        "patch_size": patches,
        "resolution": config.data.law,
        "dropping": config.data.dropping,
        "packing": config.data.packing,
        "longest_side": config.model.posembed.longest_side,
        "step_rows": config.rows,
        "budget": task.budget,
    }
    plans = task.plans(EpochPlans(source, sampling), config.rows)
    rows, more = rows_of(config.data.law, training=True)
    return rows(
        source,
        Epochs(plans, plans.blocks, BlockCounts(counts, plans.key) if counts else None),
        config.total_steps * config.rows,
        pixels_of(config.model, patches.per == "image" or is_mapped(config.model, config.data.law)),
        config.data.packing.shape[0],
        config.seed,
        None if config.data.augment == Augment() else config.data.augment,
        config.data.token_selection,
        config.data.decoding,
        **more,
    )


def rows_of(law: Law, training: bool) -> tuple[type[PlannedRows], dict[str, Any]]:
    """The class of rows for images, merged or not, or clips, and its further arguments."""
    if isinstance(law, Clips):
        return PlannedClips, {"clips": law, "random_times": training}
    if isinstance(law, Merged):
        return PlannedBlocks, {"merge": law.merge}
    if isinstance(law, WholeBlocks):
        return PlannedQuads, {"merges": law.merges}
    return PlannedRows, {}


def training_batches(config: Config, task: DataTask, rows: PlannedRows, **where: Any) -> Any:
    """A function that opens the stream of batches at `start`; the rows of a batch are dealt to all devices by cost."""
    return partial(batches, task.batches(rows), config.rows, costs=rows.costs, devices=jax.device_count(), **where)


def imbalance_of(config: Config, task: DataTask, rows: PlannedRows) -> Callable[[int], float] | None:
    """A function of the step: largest over mean cost of a device. None for one device."""
    if (devices := jax.device_count()) == 1:
        return None
    elements = task.batches(rows)
    each = config.rows // rows_each(elements)
    shard = HostShard(elements, each, 0, 1, rows.costs, devices if each % devices == 0 else 1)
    tokens = config.rows // devices * rows.row_tokens
    return lambda step: imbalance(config.model, config.task.classes or 0, tokens, shard.loads(step))


def evaluation_rows(
    config: Config,
    source: Source,
    law: Law,
    dropping: Dropping = NOTHING,
    patch: Patch | None = None,
    longest: int = 0,
    decoding: Decoding = WHOLE,
) -> tuple[Iterator[Row], Plan]:
    """Batches of every image once, by default with all tokens and the patch size of the model, and their plan.

    Rows are as long as in training; images that are longer have rows of their own, for the longest of them or of
    `longest` tokens. Empty rows complete the last batch of each length.   Raises ConfigError where windows
    of the model would cut merged blocks.
    """
    if isinstance(law, Merged):
        may_merge(config, law.merge.scales)
    sizes, side = source.manifest.sizes, config.model.posembed.longest_side
    patch = (patch or config.model.patch)[-2:]
    law = of_source(law, source, patch)
    packing = packing_at(config.data.packing, law, sizes, patch, dropping, longest_side=side, longest=longest)
    plan = plan_evaluation(
        sizes,
        patch_size=patch,
        resolution=law,
        packing=packing,
        longest_side=side,
        dropping=dropping,
        complexity=source.manifest.complexity,
    )
    parts = of_two_lengths(plan, packing, config.data.packing.shape[0])
    return chain.from_iterable(starmap(partial(_batches, config, source, law, decoding), parts)), plan


def _batches(
    config: Config, source: Source, law: Law, decoding: Decoding, row_tokens: int, plan: Plan
) -> Iterator[Row]:
    """Batches of as many rows as are computed at once."""
    count = rows_at_once(row_tokens, jax.local_device_count())
    padded, pixels = fill_last_batch(plan, count), pixels_of(config.model, is_mapped(config.model, law))
    epochs = Epochs(lambda place: padded)
    kind, more = rows_of(law, training=False)
    more |= {"decoding": decoding}
    rows = kind(source, epochs, len(padded.image_ids), pixels, row_tokens, config.seed, None, **more)
    return batches(rows, count)


def counted(batches: Iterable[Any], advance: Callable[[int], None]) -> Iterator[Any]:
    """The batches; `advance` takes the number of images of each."""
    for row in batches:
        advance(int((row.image_ids >= 0).sum()))
        yield row
