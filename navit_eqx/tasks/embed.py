"""Features: the pooled vector of each image, or a projection of it; or blocks of tokens, merged."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..errors import ConfigError, check
from ..layers import Linear, full
from ..masks import slot_tokens
from ..merging import Merger, corners
from ..model import NaViT
from ..rows import Batch, Row
from . import config
from .task import AbstractTask, PreparedTask


class Targets(NamedTuple):
    """Nothing is asked."""


class Embed(AbstractTask):
    """The pooled vector of each image, or its linear projection; with a merger, the mean of its merged tokens."""

    head: Linear | None
    merger: Merger | None
    taps: Merger | None
    """Mergers of all taps, stacked."""
    config: "config.Embed" = eqx.field(static=True)
    Targets = Targets

    def __init__(self, config: "config.Embed", width: int, *, key: PRNGKeyArray):
        self.head = None if config.size is None else Linear(width, config.size, key=key)
        self.merger = self.taps = None
        if (c := config.merger) is not None:
            main, *taps = jr.split(key, 1 + len(c.taps))
            sizes = c.eps, width, c.hidden or c.block**2 * width, c.size, c.block
            self.merger = Merger(c.norm, *sizes, whole=False, key=main)
            tap = lambda key: Merger("layer", *sizes, whole=True, key=key)
            self.taps = eqx.filter_vmap(tap)(jnp.stack(taps)) if taps else None
        self.config = config

    def predict(self, backbone: NaViT, row: Row) -> Float[Array, "*B I E"]:
        if self.merger is not None:
            tokens = full(self.merged(backbone, row)[0])
            first = corners(row.coords, row.segment_ids, self.merger.block)[..., None, :]
            kept = (slot_tokens(row.segment_ids, row.grids.shape[-2]) & first).astype(tokens.dtype)
            return kept @ tokens / jnp.maximum(kept.sum(-1, keepdims=True), 1)
        features = full(backbone(row))
        return features if self.head is None else self.head(features)

    def merged(self, backbone: NaViT, row: Row) -> Float[Array, "kinds *B T E"]:
        """Merged tokens, each at the first token of its block, zeros elsewhere; then those of each tap.

        Raises ConfigError without a merger.
        """
        if self.merger is None or self.config.merger is None:
            raise ConfigError("the model has no merger: navit.features(…, tokens=True) gives its tokens")
        real = (row.segment_ids > 0)[..., None]
        merge = lambda merger, x: merger(jnp.where(real, x, 0), row.coords, row.segment_ids)
        if self.taps is None:
            return merge(self.merger, backbone.tokens(row))[None]
        states, places, norm = backbone.hidden_states(row), self.config.merger.taps, backbone.encoder.norm
        check(max(places) < len(states), f"task.merger.taps={places}: the encoder has {len(states) - 1} blocks")
        last = states[-1] if norm is None else norm(states[-1])
        taps = eqx.filter_vmap(merge)(self.taps, states[np.array(places)])
        return jnp.concatenate([merge(self.merger, last)[None], taps])

    def loss(
        self, backbone: NaViT, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        """Raises ConfigError: there is nothing to learn from."""
        raise ConfigError("the task Embed has no loss: train with a task that has targets, such as --task classify")

    @classmethod
    def prepare(cls, config: Any, classes: Sequence[str], load: Callable[[str], Any]) -> PreparedTask:
        """Nothing is automatic; classes belong to the images."""
        return PreparedTask(config)
