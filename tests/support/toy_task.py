"""A task in one file: the mean color of each image. Nothing else knows of it but a line in the table of each side.

Three parts, as every task has them: formulas on one row, an Equinox module with its frozen configuration, and the
data's side.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from data.manifest import Manifest
from data.rows import Drawn, PlannedRows
from data.sources.digits import Digits
from data.tasks import DataTask
from navit_eqx.layers import Linear, full
from navit_eqx.masks import used_slots
from navit_eqx.tasks import AbstractTask, PreparedTask
from navit_eqx.tasks import config as task_config
from reference.layers import linear
from reference.rows import Batch

# the reference's side -------------------------------------------------------------------------------


class Targets(NamedTuple):
    """The mean of each channel, in 0…1, of the image in each slot."""

    colors: Any


def predict(params: dict, features):
    """A linear map of the pooled vector."""
    return linear(params["head"], features)


def loss(params: dict, features, targets: Targets, used) -> tuple[float, int]:
    """Σ |color − target|² over the images of a row, and their number."""
    return float((((predict(params, features) - targets.colors) ** 2).sum(-1))[used].sum()), int(used.sum())


# the model's side -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeanColor(task_config.Task):
    """The mean color of each image."""

    images: Digits = Digits()
    """The images, of which evaluation needs the true colors."""
    channels: int = 3
    trained: bool = False
    """Whether it is for inference alone."""


Config = MeanColor  # in a chapter of its own it is config.MeanColor


class MeanColor(AbstractTask):
    """A linear map of the pooled vector of each image."""

    head: Linear
    config: Config = eqx.field(static=True)
    Targets = Targets

    def __init__(self, config: Config, width: int, *, key):
        self.head = Linear(width, config.channels, key=key)
        self.config = config

    def predict(self, backbone, row):
        return self.head(full(backbone(row)))

    def loss(self, backbone, batch, key):
        row, targets = batch
        colors = self.head(full(backbone(row, backbone.gates(key, row.image_ids))))
        error = ((colors - targets.colors.astype(colors.dtype)) ** 2).sum(-1)
        used = used_slots(row.segment_ids, row.grids.shape[-2])
        count = used.sum(dtype=jnp.int32)
        return jnp.where(used, error, 0).sum(), count, {"brightness": jnp.where(used, colors.mean(-1), 0).sum()}

    def for_inference(self) -> "MeanColor":
        task = copy(self)
        object.__setattr__(task, "config", replace(self.config, trained=True))
        return task

    @classmethod
    def prepare(cls, config, classes: Sequence[str], load) -> PreparedTask:
        return PreparedTask(config, {"images": config.images}, lambda fields: Targets(*fields))


# the data's side ------------------------------------------------------------------------------------


class MeanColorData(DataTask):
    """Colors of the pixels that a row holds; of whole images where predictions are judged."""

    metric = "closeness"

    def __init__(self, images: Digits):
        self.images = images

    def targets(self, drawn: Sequence[Drawn], manifest: Manifest, slots: int) -> Targets:
        colors = self.truth([image.image_id for image in drawn], manifest)
        return Targets(np.concatenate([colors, np.zeros((slots - len(drawn), colors.shape[-1]), np.float32)]))

    def batches(self, rows: PlannedRows) -> "ColoredRows":
        return ColoredRows(rows)

    def scores(self, outputs, image_ids, manifest: Manifest) -> np.ndarray:
        """1 for the true color, less by the largest error of a channel."""
        return 1.0 - np.abs(outputs - self.truth(image_ids.tolist(), manifest)).max(-1)

    def truth(self, image_ids: list[int], manifest: Manifest) -> np.ndarray:
        """The mean color of whole images."""
        sources = (self.images.open("", split) for split in ("train", "val"))
        source = next(source for source in sources if source.manifest.digest == manifest.digest)
        return np.array([source.image(i).mean((0, 1)) / 255 for i in image_ids], np.float32)


@dataclass
class ColoredRows:
    """Rows, and the mean color of each of their images as it is seen."""

    rows: PlannedRows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        row, channels = self.rows[index], self.rows.pixels.channels
        colors = np.zeros((len(row.image_ids), channels), np.float32)
        for slot in np.flatnonzero(row.grids[:, 0] > 0):
            mine = row.patches[row.segment_ids == slot + 1]
            colors[slot] = mine.reshape(-1, channels).mean(0) / 255
        return Batch(row, Targets(colors))


def register(monkeypatch) -> None:
    """A line in each of the three tables."""
    import data.tasks
    import navit_eqx.tasks
    import reference.tasks
    from tests.support import toy_task

    monkeypatch.setitem(reference.tasks.TASKS, "MeanColor", toy_task)
    monkeypatch.setitem(navit_eqx.tasks.TASKS, Config, MeanColor)
    monkeypatch.setitem(data.tasks.TASKS, "MeanColor", MeanColorData)
