"""The same numbers on any number of devices, whatever lies on which of them.   pytest -m multihost"""

import math
from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from harness.cli import parse
from harness.config import Config
from harness.presets import digits
from navit_eqx import Model, rows
from navit_eqx.errors import ConfigError
from navit_eqx.tasks.classify import Targets
from navit_eqx.training.checkpoints import Checkpointer
from navit_eqx.training.config import FSDP, DataParallel, OptimConfig
from navit_eqx.training.sharding import (
    abstract_arrays,
    bytes_per_device,
    partition_spec,
    replicated,
    shard_rows,
    shardings,
)
from navit_eqx.training.step import init, train_step
from reference.rows import Row, pack
from tests.support.devices import mesh_of
from tests.support.strategies import CONFIG, TASK, I, T, empty_row, model, tokens_of
from tests.support.tolerances import DEVICES64, assert_close

pytestmark = pytest.mark.multihost

UNEVEN = (0, 3, 1, 0, 4, 2, 1, 5)  # images in each row
OPTIM = OptimConfig(ema=0.5)


@pytest.fixture(autouse=True)
def promotion():
    """As in training: argmax is int64 here, labels are int32."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def no_update(grads, state, params=None):
    return jax.tree.map(jnp.zeros_like, grads), grads


REMEMBERS = optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), no_update)
"""An optimizer whose state is the last gradient."""


@lru_cache
def batch() -> rows.Batch:
    rng = np.random.default_rng(3)
    packed, labels = [], np.full((len(UNEVEN), I), -1, np.int32)
    for r, count in enumerate(UNEVEN):
        images = [tokens_of(rng, (2, 2)) for _ in range(count)]
        labels[r, :count] = rng.integers(0, TASK.classes, count)
        packed.append(pack(images, range(count), T, I) if count else empty_row())
    leaves = map(np.stack, zip(*packed))
    row = Row(*(leaf.astype(np.int32) if leaf.dtype.kind == "i" else leaf for leaf in leaves))
    return rows.Batch(row, Targets(labels, np.full_like(labels, -1), np.zeros(labels.shape)))


def on_devices(mesh) -> rows.Batch:
    row, targets = shard_rows(tuple(batch()), mesh)
    return rows.Batch(rows.Row(*row), targets)


def careful(state, batch):
    return train_step(
        state,
        batch,
        static=eqx.filter(model(), eqx.is_inexact_array, inverse=True),
        optimizer=REMEMBERS,
        config=OPTIM,
        seed=0,
    )


@lru_cache
def one_step(rule, count: int, step=careful):
    """State and metrics after a step, the compiled program, and what it was given."""
    mesh = mesh_of(count)
    start = init(model(), REMEMBERS, OPTIM)
    places = shardings(start, rule, mesh)
    given = jax.device_put(start, places), on_devices(mesh)
    # What is not used is kept, so that its memory is counted.
    jitted = jax.jit(step, out_shardings=(places, replicated(mesh)), keep_unused=True)
    compiled = jitted.lower(*given).compile()
    return *compiled(*given), compiled, given


def is_the_same_step(got, want) -> None:
    """Loss, counts and the gradient of every parameter."""
    assert int(got[1].images) == int(want[1].images) == sum(UNEVEN)
    assert_close(got[1].loss_sum, want[1].loss_sum, DEVICES64)
    assert int(got[1].extras["accuracy"]) == int(want[1].extras["accuracy"])
    for a, b in zip(jax.tree.leaves(got[0].optimizer), jax.tree.leaves(want[0].optimizer), strict=True):
        assert np.abs(b).max() > 0
        assert_close(a, b, DEVICES64)


@pytest.mark.parametrize("rule, count", [(DataParallel(), 2), (DataParallel(), 4), (DataParallel(), 8), (FSDP(1), 8)])
def test_one_device_is_many(rule, count):
    """Also where devices see no image at all, and whichever holds a parameter; and everything stays in its place."""
    state, metrics, compiled, given = one_step(rule, count)
    is_the_same_step((state, metrics), one_step(DataParallel(), 1))
    for leaf, before in zip(jax.tree.leaves(state), jax.tree.leaves(given[0]), strict=True):
        assert leaf.sharding.is_equivalent_to(before.sharding, leaf.ndim)


def mean_of_means(state, batch):
    """What a device-wise mean, averaged over devices, would learn."""
    mean = lambda x: jax.lax.pmean(x, "data") if jnp.issubdtype(x.dtype, jnp.floating) else jax.lax.psum(x, "data")
    local = lambda state, batch: jax.tree.map(mean, careful(state, batch))
    specs = PartitionSpec(), PartitionSpec("data")
    return jax.shard_map(local, mesh=mesh_of(4), in_specs=specs, out_specs=PartitionSpec(), check_vma=False)(
        state, batch
    )


def test_a_mean_of_means_is_caught():
    with pytest.raises(AssertionError, match="relative error"):
        got = one_step(DataParallel(), 4, mean_of_means)
        is_the_same_step(got, one_step(DataParallel(), 1))


def test_memory_is_as_computed():
    """What the compiled step is given, per device, against the sizes of the shares; FSDP leaves about an eighth."""
    sizes = {}
    for rule in (DataParallel(), FSDP(1)):
        _, _, compiled, (state, given) = one_step(rule, 8)
        sizes[rule] = bytes_per_device(state)
        assert compiled.memory_analysis().argument_size_in_bytes == sizes[rule] + bytes_per_device(given)
    whole, split = sizes[DataParallel()], sizes[FSDP(1)]
    assert whole == sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(init(model(), REMEMBERS, OPTIM)))
    assert whole / 8 <= split < whole / 6


def test_born_split_is_born_whole():
    """The numbers of a fresh model do not depend on where they come to lie."""
    mesh, fresh = mesh_of(8), lambda key: eqx.filter(Model(CONFIG, TASK, key=key), eqx.is_inexact_array)
    shapes = jax.eval_shape(fresh, jax.random.key(0))
    born = [jax.jit(fresh, out_shardings=shardings(shapes, rule, mesh)) for rule in (DataParallel(), FSDP(1))]
    whole, split = (jax.tree.leaves(make(jax.random.key(1))) for make in born)
    for a, b in zip(whole, split, strict=True):
        np.testing.assert_array_equal(a, b)
    assert sum(not leaf.is_fully_replicated for leaf in split) > len(split) / 2


@pytest.mark.parametrize(
    "there, here",
    [((FSDP(1), 8), (DataParallel(), 1)), ((DataParallel(), 8), (FSDP(1), 4)), ((FSDP(1), 2), (FSDP(64), 8))],
)
def test_a_state_fits_any_layout(tmp_path, there, here):
    """Bit for bit, where the restored state is to lie."""
    rng = np.random.default_rng(0)
    state = {
        "large": jnp.asarray(rng.normal(size=(3, 16, 24))),
        "half": jnp.asarray(rng.normal(size=(8, 16)), "bfloat16"),
        "odd": jnp.asarray(rng.normal(size=(7, 5))),
        "step": jnp.asarray(7, jnp.int32),
    }
    with Checkpointer(tmp_path, 1) as saver:
        saver.save(1, jax.device_put(state, shardings(state, there[0], mesh_of(there[1]))), {})
    places = shardings(state, here[0], mesh_of(here[1]))
    found = Checkpointer(tmp_path, 1).restore(abstract_arrays(state, places))
    assert found is not None
    for a, b, place in zip(*map(jax.tree.leaves, (found[0], state, places)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes() and a.sharding == place


@given(st.lists(st.integers(1, 48), max_size=4).map(tuple), st.integers(1, 500), st.sampled_from([1, 2, 4, 8]))
def test_the_rule_looks_at_size_alone(shape, least, devices):
    got = partition_spec(shape, FSDP(least), devices)
    fits = [size for size in shape if size % devices == 0]
    if math.prod(shape) < least or not fits:
        assert got == PartitionSpec()
    else:
        assert [axis for axis in got if axis] == ["data"] and shape[len(got) - 1] == max(fits)
    assert partition_spec(shape, DataParallel(), devices) == PartitionSpec()


def test_the_layout_is_chosen_by_name():
    config = parse(
        Config,
        default=digits(),
        args=["--parallelism", "fsdp", "--parallelism.min-size", "5", "--distributed", "off"],
    )
    assert config.parallelism == FSDP(5) and config.distributed == "off" and digits().parallelism == DataParallel()
    with pytest.raises(ConfigError, match=r"parallelism.min_size=0 must be in \[1,"):
        FSDP(0)
