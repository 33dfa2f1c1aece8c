"""What a run reads: images, task, and the configuration that follows from both."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh

from data.sources.source import Source
from data.tasks import DataTask
from navit_eqx.serialize import encode
from navit_eqx.tasks import PreparedTask
from navit_eqx.training import hosts

from ..config import Config
from ..resolve import check_unit, resolve
from ..working import working
from .budget import is_timed, steps_of, steps_within
from .loading import open_sources, open_task
from .resume import flat
from .warm_start import shape_from


class Opened(NamedTuple):
    """Sources and task of a run."""

    asked: Config
    """With what is open, beside the task."""
    config: Config
    """With all that was chosen."""
    images: Source
    val: Source
    prepared: PreparedTask
    task: DataTask
    taken: list[str]
    """What `start` decided, in words."""
    chosen: list[str]
    """What was chosen from the images, in words."""

    def with_steps(self, steps: int) -> "Opened":
        """The same for a number of steps; what depends on it is chosen anew."""
        config, chosen = resolve(replace(self.asked, steps=steps), self.images.manifest, self.task)
        return self._replace(config=config, chosen=chosen)


def opened(config: Config) -> Opened:
    """Open the images and the task of a configuration.   Raises ConfigError where processes have opened others."""
    config, taken = shape_from(config)
    with working("reading the images"):
        images, val = open_sources(config)
    prepared, task = open_task(config, images.manifest)
    asked = replace(config, task=prepared.config)
    config, chosen = resolve(asked, images.manifest, task)
    check_unit(config)
    hosts.assert_same_on_hosts(flat(encode(config)) | {"the images": images.manifest.digest})
    return Opened(asked, config, images, val, prepared, task, taken, chosen)


def within_minutes(run: Opened, folder: Path, mesh: Mesh) -> Opened:
    """With the steps that fit the minutes, where these decide: those of the run in `folder`, or a step is timed."""
    if not is_timed(run.asked):
        return run
    print(f"training takes {run.config.minutes:g} minutes at most; --minutes N makes it shorter or longer", flush=True)
    before = hosts.broadcast_from_main(steps_of(folder, run.config))
    return run.with_steps(before or steps_within(run.config, run.images, run.task, run.prepared, mesh))
