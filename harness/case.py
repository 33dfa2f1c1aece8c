"""A run before it starts: each part of it is made on first use, as training makes it."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

from data.rows import PlannedRows
from data.sources.source import Source
from data.tasks import DataTask
from navit_eqx import ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.tasks import PreparedTask
from navit_eqx.training.program import Program
from navit_eqx.training.sharding import data_mesh
from navit_eqx.training.step import State
from reference.rows import Batch

from .config import Config
from .resolve import resolve
from .run.attention import shape_for
from .run.embedded import rows_to_time
from .run.loading import open_sources, open_task, training_batches, training_rows
from .run.program import program_of
from .run.warm_start import shape_from


@dataclass
class Case:
    """A run to check; each part is made on first use."""

    requested: Config
    """The configuration of the command line, not resolved."""
    preset: str

    @property
    def folder(self) -> Path:
        return Path(self.requested.out) / (self.requested.name or self.preset)

    @property
    def place(self) -> Path:
        """The run folder, or its nearest existing parent."""
        return next(path for path in (self.folder.absolute(), *self.folder.absolute().parents) if path.exists())

    @cached_property
    def sources(self) -> tuple[Source, Source]:
        """With the channels of the model to start from; one that cannot be read is a matter of `shaped`."""
        try:
            return open_sources(self.shaped)
        except ConfigError:
            return open_sources(self.requested)

    @cached_property
    def shaped(self) -> Config:
        """The configuration with the shape of the model to start from."""
        return shape_from(self.requested)[0]

    @cached_property
    def task(self) -> tuple[PreparedTask, DataTask]:
        """Model side and data side of the task."""
        return open_task(self.shaped, self.sources[0].manifest)

    @cached_property
    def config(self) -> Config:
        """The resolved configuration."""
        prepared, task = self.task
        return resolve(replace(self.shaped, task=prepared.config), self.sources[0].manifest, task)[0]

    @cached_property
    def shape(self) -> ModelConfig:
        """Shape of the model, with the attention backend of training."""
        return shape_for(self.config, self.planned.epochs.locate(0)[1], self.folder)[0]

    @cached_property
    def planned(self) -> PlannedRows:
        config = self.config  # resolves the task as well
        return training_rows(config, self.sources[0], self.task[1])

    @cached_property
    def batch(self) -> Batch:
        """The first batch of the run."""
        stream = training_batches(self.config, self.task[1], rows_to_time(self.config, self.planned))()
        try:
            return jax.tree.map(np.array, next(stream))
        finally:
            stream.close()

    @cached_property
    def program(self) -> Program:
        return program_of(replace(self.config, model=self.shape), self.task[0], data_mesh())

    @property
    def state_bytes(self) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.program.abstract_state))

    @cached_property
    def step(self) -> Any:
        """The compiled training step."""
        return self.program.step.lower(self.program.abstract_state, self.program.device_batch(self.batch)).compile()

    @cached_property
    def state(self) -> State:
        """The state before the first step."""
        return self.program.init_state(jr.key(self.config.seed))
