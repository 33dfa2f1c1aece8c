"""A small run, compiled in no time, and its state held to the bit."""

from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data.sampling.dropping import Beta
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sources.digits import Digits
from data.tasks import TASKS
from harness.config import Config, DataConfig
from harness.run.loading import training_rows
from navit_eqx.config import ModelConfig
from navit_eqx.layers import expand
from navit_eqx.rows import Batch, Row, to_device
from navit_eqx.tasks.classify import Targets, softmax_cross_entropy
from navit_eqx.training.config import OptimConfig
from navit_eqx.training.sharding import abstract_arrays

STEPS, ROWS = 8, 2
TINY = Config(
    model=ModelConfig((8, 8)),
    data=DataConfig(
        source=Digits(60, 10), resolution=Native(0.8, 1.2), dropping=Beta(0.3, 0.6), packing=Packing(64, 12)
    ),
    optim=OptimConfig(ema=0.9),
    rows=ROWS,
    steps=STEPS + 1,
)


class Toy(eqx.Module):
    """Class scores from the mean colors of an image, with noise."""

    w: Float[Array, "P C"]

    def loss(self, batch: Batch, key):
        row, targets = batch
        slots = jnp.arange(1, row.grids.shape[-2] + 1, dtype=jnp.int32)
        gates = jax.random.normal(key, row.image_ids.shape, "float32")
        noise = gates[..., None] * expand(jnp.arange(self.w.shape[-1]), gates[..., None])  # the same for all is none
        ids = row.segment_ids[..., None, :]
        mine = (ids == expand(slots[:, None], ids)).astype("float32")
        logits = jnp.einsum("bit,btp,pc->bic", mine, row.patches.astype("float32") / 255, self.w) + noise
        own, other = (jax.nn.one_hot(y, logits.shape[-1], dtype="float32") for y in targets[:2])
        target = own + targets.weights[..., None] * (other - own)
        total, count = softmax_cross_entropy(logits, target, targets.labels >= 0)
        return total, count, {"first": total}


@lru_cache
def rows():
    """Packed rows of the run, with their targets."""
    planned = training_rows(TINY, TINY.data.source.open("", "train"), TASKS["Classify"]())
    return TASKS["Classify"]().batches(planned)


def on_device(batch) -> Batch:
    """A batch of the data as a step reads it."""
    return Batch(to_device(Row(*batch.row)), Targets(*map(jnp.asarray, batch.targets)))


def like(state):
    """Shape, dtype and place of each leaf."""
    return abstract_arrays(state, jax.tree.leaves(state)[0].sharding)


def bits_of(x) -> np.ndarray:
    x = np.asarray(x)
    return x.view(f"u{x.dtype.itemsize}")


def same_bits(a, b) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(bits_of(x), bits_of(y))
