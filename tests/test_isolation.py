"""The central property: packing is not observable. For the reference and for the backend alike."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import navit_eqx
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference import model as slow
from tests.support import laws
from tests.support.strategies import CONFIG, I, Packed, empty_row, model, rows, seeds

FAST = model()
PARAMS = to_reference(FAST)
jitted = eqx.filter_jit(lambda model, row: model(row))
parameter_gradient = eqx.filter_jit(eqx.filter_grad(lambda model, row: (model(row) ** 2).sum()))
gradient = eqx.filter_jit(jax.grad(lambda patches, row, slot: FAST(row._replace(patches=patches))[slot].sum()))


def fast_forward(row):
    return np.asarray(jitted(FAST, to_device(row)))


def slow_forward(row):
    return slow.forward(PARAMS, row)


def pixel_gradient(row, slot):
    row = to_device(row)
    return np.asarray(gradient(row.patches, row, jnp.asarray(slot)))


sides = pytest.mark.parametrize("forward", [slow_forward, fast_forward], ids=["reference", "backend"])


@sides
@given(packed=rows())
def test_packed_is_alone(forward, packed):
    laws.gives_each_image_its_meaning(forward, PARAMS, packed)


@sides
@given(packed=rows(), seed=seeds)
def test_order_does_not_matter(forward, packed, seed):
    order = np.random.default_rng(seed).permutation(len(packed.images)).tolist()
    assume(order)
    laws.does_not_see_order(forward, packed, order)


@sides
@given(packed=rows(), rubbish=st.sampled_from([np.nan, np.inf, -1e30, 1e6, 1.0]))
def test_padding_does_not_matter(forward, packed, rubbish):
    laws.ignores_padding(forward, packed, rubbish)


@sides
@given(packed=rows())
def test_empty_slots_are_finite(forward, packed):
    laws.empty_slots_are_finite(forward, packed)


@given(packed=rows(least=2))
def test_no_gradient_between_images(packed):
    laws.keeps_gradients_apart(pixel_gradient, packed)


@given(packed=rows())
def test_nan_in_padding_leaves_gradients_finite(packed):
    pad = packed.row.segment_ids == 0
    rubbish = np.where(pad[:, None], np.nan, packed.row.patches)
    row = to_device(packed.row._replace(patches=rubbish))
    clean = to_device(packed.row)
    jax.tree.map(np.testing.assert_array_equal, parameter_gradient(FAST, row), parameter_gradient(FAST, clean))


def test_a_row_without_images():
    laws.empty_slots_are_finite(fast_forward, Packed(empty_row(), []))
    np.testing.assert_array_equal(slow.features(PARAMS, empty_row()), 0)
    fast = eqx.filter_jit(navit_eqx.NaViT.features)(FAST, to_device(empty_row()))
    np.testing.assert_array_equal(fast, np.zeros((I, CONFIG.width)))


@given(packed=st.tuples(rows(), rows(), rows()))
def test_a_batch_is_its_rows(packed):
    batch = navit_eqx.Row(*(jnp.asarray(np.stack(leaf)) for leaf in zip(*(p.row for p in packed))))
    for logits, p in zip(np.asarray(jitted(FAST, batch)), packed):
        laws.gives_each_image_its_meaning(lambda row, logits=logits: logits, PARAMS, p)


def test_a_position_beyond_the_table_is_loud():
    row = to_device(_far_row())
    assert np.isnan(np.asarray(FAST(row))[0]).all()


def _far_row():
    from reference.rows import pack
    from tests.support.strategies import T, tokens_of

    image = tokens_of(np.random.default_rng(0), (1, CONFIG.posembed.size + 1))
    return pack([image], [0], [0], T, I)
