"""Outputs of a model for any number of rows, by one compiled program.

Rows are computed in groups of a fixed number of rows, so that the number of images of a request compiles nothing. A
stream of batches is split over all devices of this process; every device computes the same program on its own rows.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from .errors import ConfigError
from .rows import Row, row_of
from .tasks.embed import Embed
from .tasks.model import Model

Output = Callable[[Model, Row], Array]  # one or several values per row: the first axis is that of the rows

TOKENS_AT_ONCE = 1024  # of a group of rows, on a CPU: more is no faster, and one image costs as much as a group
ON_ACCELERATORS = 16  # times as many on other devices, which a small group leaves idle


class Outputs(NamedTuple):
    """One entry per image, in the order of the batches."""

    image_ids: Int[np.ndarray, " N"]
    values: Float[np.ndarray, "N *n"]
    """Logits, features or other outputs."""


@eqx.filter_jit
def forward(model: Model, batch: Row) -> Array:
    """The output of each image slot, such as logits, jitted."""
    return model(batch)


@eqx.filter_jit
def pooled(model: Model, batch: Row) -> Float[Array, "*B I D"]:
    """The pooled vector of each image slot, jitted."""
    return model.backbone(batch)


@eqx.filter_jit
def tokens(model: Model, batch: Row) -> Float[Array, "*B T D"]:
    """The encoded tokens of each row, jitted."""
    return model.backbone.tokens(batch)


@eqx.filter_jit
def hidden_states(model: Model, batch: Row) -> Float[Array, "*B states T D"]:
    """Tokens before the first block and after each block, jitted."""
    return jnp.moveaxis(model.backbone.hidden_states(batch), 0, -3)


@eqx.filter_jit
def merged(model: Model, batch: Row) -> Float[Array, "*B T kinds E"]:
    """Merged tokens of each row, and those of each tap, jitted.   Raises ConfigError where the model has no merger."""
    if not isinstance(model.task, Embed):
        raise ConfigError(f"the task {type(model.task).__name__} has no merger: load the tower itself")
    return jnp.moveaxis(model.task.merged(model.backbone, batch), 0, -2)


class Runner(NamedTuple):
    """A model and one of its outputs on devices, with a compiled program for each row length."""

    model: Model
    output: Output
    mesh: Mesh | None
    """Several devices, on one axis of rows; None: the default device."""

    @classmethod
    def on(cls, model: Model, output: Output, devices: Sequence[Any]) -> "Runner":
        """The model with a copy of its arrays on every device."""
        if len(devices) == 1:
            return cls(model, output, None)
        mesh = Mesh(np.array(devices), ("rows",), axis_types=(AxisType.Auto,))
        arrays, static = eqx.partition(model, eqx.is_array)
        everywhere = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec()))
        return cls(eqx.combine(everywhere, static), output, mesh)

    def put(self, rows: Row) -> Row:
        """A group of rows, split over the devices."""
        return Row(*jax.device_put(tuple(rows), self.mesh and NamedSharding(self.mesh, PartitionSpec("rows"))))

    def __call__(self, rows: Row) -> Array:
        """The output of a group of rows that lies on the devices."""
        if self.mesh is None:
            return self.output(self.model, rows)
        return on_mesh(self.model, self.output, self.mesh, rows)

    def started(self, batch: Row) -> list[Array]:
        """The outputs of the groups of a batch, which are being computed."""
        count = rows_at_once(batch.segment_ids.shape[-1], 1 if self.mesh is None else self.mesh.size)
        rows = row_of(map(np.asarray, batch))
        parts = (row_of(leaf[i : i + count] for leaf in rows) for i in range(0, len(rows.segment_ids), count))
        return [self(self.put(_padded(part, count))) for part in parts]


def rows_at_once(row_tokens: int, devices: int = 1) -> int:
    """Rows of T tokens that are computed at once."""
    tokens = TOKENS_AT_ONCE * (1 if jax.default_backend() == "cpu" else ON_ACCELERATORS)
    return devices * max(1, tokens // row_tokens)


def run(model: Model, batch: Row, output: Output = forward) -> np.ndarray:
    """The output of every row of a batch of at least one row, or of one row alone, on the default device.

    Equal to `output(model, batch)`, which compiles anew for every number of rows.
    """
    if np.ndim(batch.segment_ids) == 1:
        return run(model, row_of(np.asarray(leaf)[None] for leaf in batch), output)[0]
    return _finished(batch, Runner(model, output, None).started(batch))


def outputs(model: Model, batches: Iterable[Row], output: Output = forward) -> Iterator[tuple[Row, np.ndarray]]:
    """Each batch with the output of its rows, on all devices of this process; the next batch is read meanwhile."""
    runner, last = Runner.on(model, output, jax.local_devices()), None
    for batch in batches:
        started = runner.started(batch)
        if last:
            yield last[0], _finished(*last)
        last = batch, started
    if last:
        yield last[0], _finished(*last)


def predict(
    model: Model,
    batches: Iterable[Row],
    output: Output = forward,
    image_outputs: Callable[[Row, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
) -> Outputs:
    """Run the model over batches and keep the outputs of slots with an image; or what `image_outputs` makes of the
    outputs of a batch: image ids, and one output for each.   Raises ValueError without a batch.
    """
    parts = [(image_outputs or _real)(batch, values) for batch, values in outputs(model, batches, output)]
    if not parts:
        raise ValueError("predict needs at least one batch of rows, got none")
    return Outputs(*(np.concatenate(column) for column in zip(*parts)))


@eqx.filter_jit
def on_mesh(model: Model, output: Output, mesh: Mesh, batch: Row) -> Array:
    """`output`, by every device on its own rows: no device waits for another, and rounding is that of one device."""
    arrays, static = eqx.partition(model, eqx.is_array)
    each = lambda arrays, rows: output(eqx.combine(arrays, static), rows)
    rows, everywhere = PartitionSpec("rows"), PartitionSpec()
    return jax.shard_map(each, mesh=mesh, in_specs=(everywhere, rows), out_specs=rows, check_vma=False)(arrays, batch)


def _finished(batch: Row, parts: list[Array]) -> np.ndarray:
    return np.concatenate([np.asarray(part) for part in parts])[: len(batch.segment_ids)]


def _padded(rows: Row, count: int) -> Row:
    """The rows, completed to `count` by rows of padding."""
    missing = count - len(rows.segment_ids)
    fill = lambda leaf, value: np.concatenate([leaf, np.full((missing, *leaf.shape[1:]), value, leaf.dtype)])
    return row_of(map(fill, rows, (0, 0, 0, 0, -1))) if missing else rows


def _real(batch: Row, values: np.ndarray) -> Outputs:
    slots = np.arange(1, batch.grids.shape[-2] + 1)
    real = (np.asarray(batch.segment_ids)[:, None] == slots[:, None]).any(-1)
    return Outputs(np.asarray(batch.image_ids)[real], values[real])
