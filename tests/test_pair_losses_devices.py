"""Contrastive losses on several devices and in several processes; what a device stores.   pytest -m multihost"""

import json
from functools import partial

import jax
import pytest
from hypothesis import given
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.contrastive import differentiated, plain_block
from navit_eqx.tasks import pair_losses as fast
from navit_eqx.training.sharding import with_mesh
from tests.support import contrast_steps
from tests.support.contrast import DUPLICATES, KINDS, agrees, scalars, towers
from tests.support.devices import mesh_of
from tests.support.laws import caught
from tests.support.processes import ended, start
from tests.support.tolerances import FLOAT64, assert_close

kinds = pytest.mark.parametrize("kind", KINDS)
FORMS = [
    (kind, how, devices, blocks)
    for kind in KINDS
    for how in DUPLICATES
    for devices in (1, 2, 4, 8)
    for blocks in (None, 1, 2)
]


@pytest.mark.multihost
@pytest.mark.parametrize("form", FORMS, ids=str)
@given(both=towers(), scalars=scalars)
def test_every_number_of_devices_agrees(form, both, scalars):
    agrees(form, *both, *scalars)


@pytest.mark.multihost
@kinds
def test_three_steps_are_the_same_on_any_number_of_devices(kind):
    """Not the loss alone: a gradient that grows with the number of devices would be seen here."""
    want = contrast_steps.trained(kind, mesh_of(1))
    for devices in (2, 4, 8):
        for got, leaf in zip(contrast_steps.trained(kind, mesh_of(devices)), want, strict=True):
            assert_close(got, leaf, FLOAT64)


@pytest.mark.multihost
def test_three_steps_are_the_same_in_two_processes(tmp_path, processes):
    ended(start("tests.support.contrast_steps", processes, 2, tmp_path, str(tmp_path)), tmp_path, 0)
    first, second = (json.loads((tmp_path / f"found-{n}.json").read_text()) for n in range(2))
    assert first == second
    for kind in KINDS:
        for got, leaf in zip(first[kind], contrast_steps.trained(kind, mesh_of(1)), strict=True):
            assert_close(got, leaf, FLOAT64)


# memory -------------------------------------------------------------------------------------------

BLOCKS = {"sigmoid": 2, "softmax": 6}  # that the gradient may store at a time
MEMORY = [(4096, 1, 1), (4096, 1, 16), (8192, 4, 1), (8192, 8, 1), (8192, 4, 4)]


def compiled(loss, slots: int, width: int, devices: int):
    """The gradient program, of as many images as texts, in float32."""

    def mean(u, v, scalar, keys):
        total, count, extras = loss(fast.Slots(u, keys, keys), fast.Slots(v, keys, keys), scalar, scalar)
        return total / count.astype(total.dtype), extras

    mesh = mesh_of(devices)
    rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    vectors = jax.ShapeDtypeStruct((slots, width), "float32", sharding=rows)
    scalar = jax.ShapeDtypeStruct((), "float32", sharding=everywhere)
    keys = jax.ShapeDtypeStruct((slots,), "int32", sharding=rows)
    gradient = with_mesh(jax.value_and_grad(mean, (0, 1, 2), has_aux=True), mesh)
    return jax.jit(gradient).lower(vectors, vectors, scalar, keys).compile()


def stores_few_blocks(kind: str, loss, slots: int, width: int, devices: int, block: int) -> str:
    """Temporaries: a few blocks of so many pairs, and at most eight copies of the vectors of a device. → the program"""
    program = compiled(loss, slots, width, devices)
    vectors = 2 * slots // devices * width
    found = program.memory_analysis().temp_size_in_bytes / 4
    assert found <= BLOCKS[kind] * block + 8 * vectors, f"{found / block:.2f} blocks"
    return program.as_text()


@kinds
def test_a_device_stores_few_blocks(kind):
    """A quarter of all pairs each: they are computed anew for the gradient."""
    stores_few_blocks(kind, partial(fast.contrastive_loss, kind), 4096, 16, 1, fast.BLOCK)


@pytest.mark.multihost
@kinds
@pytest.mark.parametrize("slots, devices, blocks", MEMORY)
def test_devices_store_few_blocks(kind, slots, devices, blocks):
    """And texts travel from neighbor to neighbor: no device gathers them."""
    loss = partial(fast.contrastive_loss, kind, blocks=blocks)
    program = stores_few_blocks(kind, loss, slots, 64, devices, (slots // devices) ** 2 // blocks)
    assert ("collective-permute" in program) == (devices > 1) and "all-gather" not in program


@kinds
def test_blocks_that_jax_differentiates_are_caught(kind):
    """A scan over blocks saves nothing by itself: it stores all of them for the backward pass."""
    loss = partial(differentiated, kind, chunks=16, block=plain_block)
    caught(stores_few_blocks, kind, loss, 2048, 16, 1, 2048**2 // 16)
