"""The central property: packing is not observable. For the backbone and for a model with each task, on both sides."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from navit_eqx.rows import Row as DeviceRow
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference import model as slow
from reference import tasks
from reference.rows import Batch, Row, pack
from tests.support import laws
from tests.support.strategies import CONFIG, I, Packed, T, backbone, empty_row, model, rows, seeds, tokens_of
from tests.support.tasks import TASKS, every_task, fast_loss, mean_gradient, on_device, slow_loss, stacked, targets_of
from tests.support.tolerances import FLOAT64, assert_close

FAST = {"backbone": backbone()} | {name: model(task=task) for name, task in TASKS.items()}
SLOW = {name: to_reference(module) for name, module in FAST.items()}
# One of each class of tasks: the others differ in their loss alone.
OUTPUTS = ("backbone", "softmax", "label sets", "distill")
jitted = eqx.filter_jit(lambda model, row: model(row))
parameter_gradient = eqx.filter_jit(eqx.filter_grad(lambda model, row: (model(row) ** 2).sum()))
subject_tasks = pytest.mark.parametrize("name", OUTPUTS[1:])
subjects = pytest.mark.parametrize("name", OUTPUTS)


def fast_forward(name: str, row: Row) -> np.ndarray:
    return np.asarray(jitted(FAST[name], to_device(row)))


def slow_forward(name: str, row: Row) -> np.ndarray:
    params = SLOW[name]
    if name == "backbone":
        return slow.forward(params, row)
    return tasks.TASKS[params["task"]["kind"]].predict(params["task"], slow.forward(params["backbone"], row))


def meaning(name: str) -> laws.Meaning:
    return (laws.backbone_of if name == "backbone" else laws.model_of)(SLOW[name])


@eqx.filter_jit
def gradient(model, patches, row, slot):
    return jax.grad(lambda patches: model(row._replace(patches=patches))[slot].sum())(patches)


def pixel_gradient(name: str, row: Row, slot: int) -> np.ndarray:
    """Of the output of a slot."""
    row = to_device(row)
    return np.asarray(gradient(FAST[name], row.patches, row, jnp.asarray(slot)))


def fast_sums(name: str, batch: Batch) -> tuple[float, int]:
    total, count, _ = fast_loss(FAST[name], on_device(TASKS[name], batch))
    return float(total), int(count)


def slow_sums(name: str, batch: Batch) -> tuple[float, int]:
    return slow_loss(SLOW[name], batch)


sides = pytest.mark.parametrize("forward", [slow_forward, fast_forward], ids=["reference", "backend"])
losses = pytest.mark.parametrize("loss", [slow_sums, fast_sums], ids=["reference", "backend"])


# outputs --------------------------------------------------------------------------------------------


@subjects
@sides
@given(packed=rows())
def test_packed_is_alone(forward, name, packed):
    laws.gives_each_image_its_meaning(partial(forward, name), meaning(name), packed)


@subjects
@sides
@given(packed=rows(), seed=seeds)
def test_order_does_not_matter(forward, name, packed, seed):
    order = np.random.default_rng(seed).permutation(len(packed.images)).tolist()
    assume(order)
    laws.does_not_see_order(partial(forward, name), packed, order)


@subjects
@sides
@given(packed=rows(), rubbish=st.sampled_from([np.nan, np.inf, -1e30, 1e6, 1.0]))
def test_padding_does_not_matter(forward, name, packed, rubbish):
    laws.ignores_padding(partial(forward, name), packed, rubbish)


@subjects
@sides
@given(packed=rows())
def test_empty_slots_are_finite(forward, name, packed):
    laws.empty_slots_are_finite(partial(forward, name), packed)


@subjects
@given(packed=rows(least=2))
def test_no_gradient_between_images(name, packed):
    laws.keeps_gradients_apart(partial(pixel_gradient, name), packed)


@given(packed=rows())
def test_nan_in_padding_leaves_gradients_finite(packed):
    """Of the parameters of the backbone; those of a loss are below."""
    loud, clean = (parameter_gradient(FAST["backbone"], row) for row in (with_nan(packed), to_device(packed.row)))
    are_the_same_and_finite(loud, clean)


def are_the_same_and_finite(tree, other) -> None:
    for leaf, want in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert np.isfinite(leaf).all()
        np.testing.assert_array_equal(leaf, want)


def with_nan(packed: Packed) -> DeviceRow:
    pad = packed.row.segment_ids == 0
    return to_device(packed.row._replace(patches=np.where(pad[:, None], np.nan, packed.row.patches)))


@subjects
def test_a_row_without_images(name):
    """Vectors are zeros; what a head makes of zeros is finite."""
    laws.empty_slots_are_finite(partial(fast_forward, name), Packed(empty_row(), []))
    if name == "backbone":
        for forward in (fast_forward, slow_forward):
            np.testing.assert_array_equal(forward(name, empty_row()), np.zeros((I, CONFIG.width)))


@subjects
@given(packed=st.tuples(rows(), rows(), rows()))
def test_a_batch_is_its_rows(name, packed):
    batch = DeviceRow(*(jnp.asarray(np.stack(leaf)) for leaf in zip(*(p.row for p in packed))))
    for outputs, p in zip(np.asarray(jitted(FAST[name], batch)), packed):
        laws.gives_each_image_its_meaning(lambda row, outputs=outputs: outputs, meaning(name), p)


def test_a_position_beyond_the_table_is_loud():
    image = tokens_of(np.random.default_rng(0), (1, CONFIG.posembed.size + 1))
    row = pack([image], [0], T, I)
    assert np.isnan(fast_forward("backbone", row)[0]).all()


# losses ---------------------------------------------------------------------------------------------


@every_task
@losses
@given(packed=rows(), seed=seeds)
def test_the_loss_of_a_row_is_the_sum_over_its_images(loss, name, packed, seed):
    laws.loss_is_the_sum_over_images(partial(loss, name), packed, targets_of(TASKS[name], packed.row, seed))


@every_task
@losses
@given(packed=rows(least=2), seed=seeds)
def test_the_loss_does_not_see_order(loss, name, packed, seed):
    order = np.random.default_rng(seed).permutation(len(packed.images)).tolist()
    targets = targets_of(TASKS[name], packed.row, seed)
    laws.loss_does_not_see_order(partial(loss, name), packed, targets, order)


@every_task
@given(packed=st.tuples(rows(), rows(), rows()), seed=seeds)
def test_the_loss_of_a_batch_is_the_sum_over_its_rows(name, packed, seed):
    batches = [Batch(p.row, targets_of(TASKS[name], p.row, seed + n)) for n, p in enumerate(packed)]
    total, count = fast_sums(name, stacked(batches))
    parts = [slow_sums(name, batch) for batch in batches]
    assert count == sum(n for _, n in parts)
    assert_close(total, sum(part for part, _ in parts), FLOAT64)


@subject_tasks
@given(packed=rows(), seed=seeds)
def test_padding_does_not_reach_the_gradient_of_the_loss(name, packed, seed):
    """NaN in padding changes no bit of the gradient of a parameter, nor of a pixel."""
    clean = on_device(TASKS[name], Batch(packed.row, targets_of(TASKS[name], packed.row, seed)))
    gradients = (mean_gradient(FAST[name], batch) for batch in (clean._replace(row=with_nan(packed)), clean))
    are_the_same_and_finite(*gradients)
