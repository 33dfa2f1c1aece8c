"""The number of steps that fit a number of minutes: a training step is timed before the run."""

import time
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import jax
import jax.random as jr
from jax.sharding import Mesh

from data.sources.source import Source
from data.tasks import DataTask
from navit_eqx.tasks import PreparedTask
from navit_eqx.training.hosts import broadcast_from_main

from ..config import Config
from ..working import working
from .attention import shape_for
from .embedded import rows_to_time
from .folder import read_run
from .loading import training_batches, training_rows
from .program import program_of

UNTIMED, TIMED = 4, 8  # steps: the first compiles, and the next find batches that were read meanwhile


def is_timed(config: Config) -> bool:
    """Whether the minutes of a configuration decide on its steps."""
    return config.steps is None and config.minutes is not None


def steps_of(folder: Path, config: Config) -> int | None:
    """The steps that were chosen for these minutes when the run in `folder` began; None for a new run."""
    if not (folder / "config.json").exists():
        return None
    before = read_run(folder)[0]
    return before.steps if before.minutes == config.minutes else None


def steps_within(config: Config, images: Source, task: DataTask, prepared: PreparedTask, mesh: Mesh) -> int:
    """As many steps as fit `config.minutes`, at most `config.total_steps`."""
    assert config.minutes is not None
    with working("timing a training step"):
        seconds = broadcast_from_main(seconds_per_step(config, images, task, prepared, mesh))
    print(f"a training step takes {seconds:.3g} s", flush=True)
    return fitting(config.total_steps, config.minutes, seconds)


def fitting(most: int, minutes: float, seconds: float) -> int:
    """Steps of `seconds` each in a number of minutes, from 1 to `most`."""
    return max(1, min(most, int(60 * minutes / seconds)))


def seconds_per_step(config: Config, images: Source, task: DataTask, prepared: PreparedTask, mesh: Mesh) -> float:
    """Mean time of a training step, with reading and without compilation; the state is thrown away.

    The batches are read once before, so that images which are kept in memory are there, as in all passes but the first.
    """
    planned = training_rows(config, images, task)
    host = {"host": jax.process_index(), "hosts": jax.process_count(), "workers": config.data.workers}
    open_batches = training_batches(config, task, rows_to_time(config, planned), **host)
    model = shape_for(config, planned.epochs.locate(0)[1])[0]
    program = program_of(replace(config, model=model), prepared, mesh)
    with closing(open_batches()) as batches:
        for _ in islice(batches, TIMED + UNTIMED):
            pass
    state, start = program.init_state(jr.key(config.seed)), 0.0
    with closing(open_batches()) as batches:
        for n, batch in enumerate(islice(batches, TIMED + UNTIMED), 1):
            state, metrics = program.step(state, program.device_batch(batch))
            jax.block_until_ready(metrics)
            start = time.perf_counter() if n == UNTIMED else start
        batch = None  # may be in memory shared with a worker
    return (time.perf_counter() - start) / TIMED
