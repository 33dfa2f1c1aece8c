"""Cost formulas against what is really there."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cost import image_cost, row_cost
from navit_eqx import NaViT, Row
from navit_eqx.config import Factorised, Fourier, Joint, ModelConfig, Sinusoidal, b, l, s, ti
from reference.evaluation.cost import (
    efficiency,
    image_flops,
    parameters,
    position_parameters,
    row_flops,
    state_bytes,
    step_bytes,
)

SIZES = {"patch_dim": 768, "width": 96, "depth": 3, "mlp_width": 256, "classes": 50}
SHAPE = ModelConfig(16, width=96, depth=3, heads=3, mlp_width=256, classes=50, posembed=Factorised(20))


POSITIONS = {
    "sum": Factorised(20),
    "product": Factorised(20, combine="product"),
    "stack": Factorised(20, "fractional", combine="stack"),
    "joint": Joint(20),
    "sinusoidal": Sinusoidal(),
    "fourier": Fourier(),
}


@pytest.mark.parametrize("kind", POSITIONS)
def test_parameters_are_counted(kind):
    shape = dataclasses.replace(SHAPE, posembed=POSITIONS[kind])
    model = eqx.filter_eval_shape(NaViT, shape, key=jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(model))
    assert count == parameters(**SIZES, heads=3, positions=position_parameters(width=96, size=20)[kind])


def test_presets_have_their_known_sizes():
    """Millions of parameters of the standard variants, as published for 1,000 classes; the pool adds its own."""
    for make, published in ((ti, 5.7), (s, 22.1), (b, 86.6), (l, 304.3)):
        c = make()
        count = parameters(
            patch_dim=c.patch_dim, width=c.width, depth=c.depth, heads=c.heads,
            mlp_width=c.mlp_width, classes=1000, positions=0,
        )  # fmt: skip
        pool = 12 * c.width**2
        assert abs((count - pool) / 1e6 - published) < 0.02 * published


def test_costs_at_a_configured_shape():
    assert image_cost(SHAPE, 64) == row_cost(SHAPE, 64, 1) == image_flops(64, **SIZES)
    assert row_cost(SHAPE, 400, 8) == row_flops([64], 400, 8, **SIZES)[1]


def test_flops_are_those_that_xla_counts():
    """One image that fills its row, against the compiler's count of the whole forward pass."""
    tokens, slots = 128, 1
    row = Row(
        jnp.zeros((tokens, 768)), jnp.zeros((tokens, 2), jnp.int32), jnp.ones(tokens, jnp.int32),
        jnp.full((slots, 2), 8), *[jnp.zeros(slots, jnp.int32)] * 3, jnp.zeros(slots),
    )  # fmt: skip
    # Unrolled, since XLA counts the body of a loop once.
    model = NaViT(dataclasses.replace(SHAPE, unroll=SHAPE.depth), key=jax.random.key(0))
    counted = jax.jit(lambda row: model(row)).lower(row).compile().cost_analysis()["flops"]
    formula = image_flops(tokens, **SIZES)
    assert formula < counted < 1.15 * formula  # XLA counts norms, softmax and positions too


@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=6))
def test_a_row_needs_what_its_images_need(lengths):
    needed, spent = row_flops(lengths, 400, 8, **SIZES)
    assert needed == sum(image_flops(n, **SIZES) for n in lengths)
    assert spent >= needed
    assert row_flops([64], 64, 1, **SIZES) == (image_flops(64, **SIZES),) * 2
    assert np.isclose(image_flops(64.0, **SIZES), image_flops(64, **SIZES))


@given(st.integers(1, 10**9), st.integers(1, 1024))
def test_what_a_step_sends(numbers, devices):
    """Nothing alone; at most twice the gradient, or thrice where parameters are split, which divides their memory."""
    whole, split = step_bytes(numbers, devices), step_bytes(numbers, devices, split=True)
    assert (whole > 0) == (devices > 1) and whole < 8 * numbers and np.isclose(split, 1.5 * whole)
    assert np.isclose(state_bytes(numbers, devices, split=True) * devices, state_bytes(numbers, devices))


@given(st.floats(1e-6, 1e3), st.floats(0, 1e3))
def test_efficiency_is_a_share(compute, communication):
    waits, overlaps = efficiency(compute, communication)
    assert 0 < waits <= overlaps <= 1 and (overlaps == 1) == (communication <= compute)
