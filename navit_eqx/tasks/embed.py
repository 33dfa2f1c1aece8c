"""Features: the pooled vector of each image, or a projection of it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..errors import ConfigError
from ..layers import Linear, full
from ..model import NaViT
from ..rows import Batch, Row
from . import config
from .task import AbstractTask, PreparedTask


class Targets(NamedTuple):
    """Nothing is asked."""


class Embed(AbstractTask):
    """The pooled vector of each image, or its linear projection."""

    head: Linear | None
    config: "config.Embed" = eqx.field(static=True)
    Targets = Targets

    def __init__(self, config: "config.Embed", width: int, *, key: PRNGKeyArray):
        self.head = None if config.size is None else Linear(width, config.size, key=key)
        self.config = config

    def predict(self, backbone: NaViT, row: Row) -> Float[Array, "*B I E"]:
        features = full(backbone(row))
        return features if self.head is None else self.head(features)

    def loss(
        self, backbone: NaViT, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        """Raises ConfigError: there is nothing to learn from."""
        raise ConfigError("the task Embed has no loss: train with a task that has targets, such as --task classify")

    @classmethod
    def prepare(cls, config: Any, classes: Sequence[str], load: Callable[[str], Any]) -> PreparedTask:
        """Nothing is automatic; classes belong to the images."""
        return PreparedTask(config)
