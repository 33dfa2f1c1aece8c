"""Similarity of tokens and layers between patch sizes."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evaluation.studies.similarity import layer_similarities
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference.evaluation import similarity
from reference.layers import norm
from reference.masks import slot_tokens
from reference.model import forward, image_hidden_states
from reference.pooling import map_pool
from reference.rows import pack
from tests.support.laws import caught
from tests.support.strategies import CONFIG, I, Packed, T, backbone, seeds, tokens_of
from tests.support.strategies import rows as packed_rows
from tests.support.tolerances import FLOAT64, GRADIENT64, assert_close

FAST = backbone()
PARAMS = to_reference(FAST)


@given(seed=seeds, scale=st.floats(0.01, 100))
def test_cka_sees_no_rotation_scale_or_shift(seed, scale):
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=(12, 5)), draw.normal(size=(12, 8))
    turn = np.linalg.qr(draw.normal(size=(5, 5)))[0]
    assert abs(similarity.linear_cka(x, scale * x @ turn + 3) - 1) < GRADIENT64
    assert abs(similarity.linear_cka(x, y) - similarity.linear_cka(scale * x @ turn - 1, y)) < GRADIENT64
    assert 0 <= similarity.linear_cka(x, y) < 1
    assert similarity.linear_cka(x, y) == pytest.approx(similarity.linear_cka(y, x))


def test_cka_of_unrelated_features_is_small():
    draw = np.random.default_rng(0)
    assert similarity.linear_cka(draw.normal(size=(2000, 4)), draw.normal(size=(2000, 4))) < 0.02


def test_tokens_are_most_like_themselves():
    x = np.random.default_rng(0).normal(size=(9, 6))
    order = np.random.default_rng(1).permutation(9)
    table = similarity.token_similarity(x, 3 * x[order])
    np.testing.assert_array_equal(table.argmax(-1), np.argsort(order))
    assert_close(table.max(-1), np.ones(9), FLOAT64)


@given(
    seed=seeds,
    grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    common=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_tokens_on_another_grid_lie_at_their_places(seed, grid, common):
    tokens = np.random.default_rng(seed).normal(size=(*grid, 3))
    assert_close(similarity.on_grid(tokens, grid), tokens.reshape(-1, 3), FLOAT64)
    assert_close(similarity.on_grid(np.ones_like(tokens), common), np.ones((common[0] * common[1], 3)), FLOAT64)
    turned = similarity.on_grid(tokens.swapaxes(0, 1), common[::-1]).reshape(common[1], common[0], 3)
    assert_close(turned.swapaxes(0, 1).reshape(-1, 3), similarity.on_grid(tokens, common), FLOAT64)
    places = np.broadcast_to((np.arange(8)[:, None, None] + 0.5) / 8, (8, 8, 1))
    (top,), (bottom,) = similarity.on_grid(places, (2, 1))
    assert 0.2 < top < 0.3 and 0.7 < bottom < 0.8


@jax.jit
def layers_of(row):
    return FAST.hidden_states(row)


@given(packed=packed_rows())
def test_layers_of_a_packed_row_are_those_of_each_image_alone(packed):
    found = np.asarray(layers_of(to_device(packed.row)))
    assert len(found) == CONFIG.depth + 1
    for slot, image in enumerate(packed.images):
        here = packed.row.segment_ids == slot + 1
        assert_close(found[:, here], image_hidden_states(PARAMS, image), FLOAT64)


def ends_in_the_output(layers, packed) -> None:
    """The last layer through the last norm and the pool is what the head gets."""
    last = norm(PARAMS["encoder"]["norm"], layers[-1])
    slots = slot_tokens(packed.row.segment_ids, I)
    vectors = map_pool(PARAMS["pool"], last, slots, np.zeros((I, 0, CONFIG.width)))
    count = len(packed.images)
    assert_close(vectors[:count], forward(PARAMS, packed.row)[:count], FLOAT64)


def test_the_last_layer_is_the_output():
    """And no other one is."""
    images = [tokens_of(np.random.default_rng(0), grid) for grid in ((2, 3), (3, 4))]
    packed = Packed(pack(images, [0, 1], T, I), images)
    found = np.asarray(layers_of(to_device(packed.row)))
    ends_in_the_output(found, packed)
    caught(ends_in_the_output, found[:-1], packed)
    caught(ends_in_the_output, np.roll(found, 1, axis=1), packed)


def test_places_are_compared_place_by_place():
    """A size with itself is alike; with its tokens moved by a place it is the same nowhere."""
    tokens = {i: np.random.default_rng(i).normal(size=(3, 6, 8)) for i in range(20)}
    moved = {i: np.roll(x, 1, axis=1) for i, x in tokens.items()}
    for layer in layer_similarities(tokens, tokens, sorted(tokens)):
        assert layer["cka"] == pytest.approx(1) and layer["same_place"] == 1
    for layer in layer_similarities(tokens, moved, sorted(tokens)):
        assert layer["cka"] < 0.5 and layer["same_place"] == 0
