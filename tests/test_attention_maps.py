"""Maps of attention: what is drawn is what the model computes, and where it is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navit_eqx.config import Tubelets
from navit_eqx.weights.bridge import to_reference
from reference import attention
from reference.evaluation.attention_maps import (
    attention_distance,
    attention_map,
    clip_attention,
    clip_map,
    image_attention,
    pool_shares,
    rollout,
    tokens_read,
)
from reference.model import image_hidden_states
from reference.patches import patchify
from reference.rows import Tokens
from reference.tubelets import capped, cut, tubelets
from tests.support.laws import caught
from tests.support.strategies import CONFIG, PATCH, backbone, seeds, tokens_of
from tests.support.tolerances import FLOAT64, assert_close

PARAMS = to_reference(backbone())
L = len(PARAMS["encoder"]["blocks"]["attention"]["q"])


def stochastic(seed: int, *shape: int) -> np.ndarray:
    """Random weights with sums of 1."""
    weights = np.random.default_rng(seed).random(shape) ** 4
    return weights / weights.sum(-1, keepdims=True)


@given(seed=seeds)
def test_weights_are_those_that_mix_values(seed):
    """Σ weights · v · o is what attention gives, whatever the mask; each token reads a whole."""
    rng = np.random.default_rng(seed)
    params = PARAMS["pool"]["attention"]
    x = rng.normal(size=(5, params["q"].shape[0]))
    weights = attention.attention_weights(params, x, x, None)
    assert_close(weights.sum(-1), np.ones(weights.shape[:-1]), FLOAT64)
    mixed = np.einsum("hts,shk,hkd->td", weights, attention.project(params, "v", x), params["o"])
    assert_close(mixed, attention.attention(params, x, x, None), FLOAT64)


def test_weights_of_an_image_are_those_of_its_layers():
    image = tokens_of(np.random.default_rng(0), (3, 2))
    weights, shares = image_attention(PARAMS, image)
    assert weights.shape[0] == L == len(image_hidden_states(PARAMS, image)) - 1
    assert_close(weights.sum(-1), np.ones(weights.shape[:-1]), FLOAT64)
    assert_close(shares.sum(), 1.0, FLOAT64)
    other = Tokens(image.patches[::-1], image.coords[::-1], image.grid)
    assert_close(attention_map(*image_attention(PARAMS, other), other), attention_map(weights, shares, image), FLOAT64)


@pytest.mark.parametrize("kind, want", [("TokenPool", [0, 0, 0, 1]), ("MeanPool", [1 / 3] * 3 + [0])])
def test_shares_of_pools_without_a_probe(kind, want):
    np.testing.assert_allclose(pool_shares({"kind": kind}, np.zeros((4, 8)), 3), want)


def keeps_shares(rollout) -> None:
    """Rows of a product of stochastic matrices are shares; the first layer stands to the right."""
    weights = stochastic(0, 3, 2, 4, 4)
    found = rollout(weights)
    assert_close(found.sum(-1), np.ones(4), FLOAT64)
    a, b, c = ((layer.mean(0) + np.eye(4)) / 2 for layer in weights)
    assert_close(found, c @ b @ a, FLOAT64)


def test_rollout():
    keeps_shares(rollout)
    caught(keeps_shares, lambda weights: rollout(weights[::-1]))
    caught(keeps_shares, lambda weights: np.linalg.multi_dot(weights.mean(1)[::-1]))


@given(seed=seeds, grid=st.tuples(st.integers(1, 4), st.integers(1, 4)), registers=st.integers(0, 2))
def test_a_map_shows_each_patch_at_its_place(seed, grid, registers):
    """Attention that passes nothing on: the map is the shares; dropped patches read 0."""
    rng = np.random.default_rng(seed)
    image = tokens_of(rng, grid, keep=max(1, grid[0] * grid[1] - 1))
    count = len(image.coords) + registers
    shares = stochastic(seed, count)
    found = attention_map(np.broadcast_to(np.eye(count), (2, 1, count, count)), shares, image)
    assert found.shape == grid
    for place, share in zip(image.coords, shares):
        assert_close(found[tuple(place)], share, FLOAT64)
    assert_close(found.sum(), shares[: len(image.coords)].sum(), FLOAT64)


@given(seed=seeds, registers=st.integers(0, 2))
def test_distance_is_in_pixels_between_patches(seed, registers):
    """By its definition, patch by patch; registers have no place, and take no part."""
    image, patch = tokens_of(np.random.default_rng(seed), (2, 3)), (4, 10)
    weights = stochastic(seed, 2, 6 + registers, 6 + registers)
    for head, got in zip(weights, attention_distance(weights, image.coords, patch)):
        mean = []
        for t, (y, x) in enumerate(image.coords):
            far = [np.hypot(4 * (y - b), 10 * (x - a)) for b, a in image.coords]
            mean.append(np.average(far, weights=head[t, :6]))
        assert_close(got, np.mean(mean), FLOAT64)


def test_attention_to_itself_reaches_nowhere():
    coords = np.array([(0, 0), (0, 1), (1, 0)])
    assert attention_distance(np.eye(3)[None], coords, (8, 8)).tolist() == [0.0]
    one_right = np.eye(3)[[1, 0, 0]][None]
    assert_close(attention_distance(one_right, coords, (8, 5)), np.array([(5 + 5 + 8) / 3]), FLOAT64)


@given(tokens=st.integers(1, 9))
def test_equal_weights_read_every_token(tokens):
    assert_close(tokens_read(np.full((2, 3, tokens), 1 / tokens)), np.full(2, float(tokens)), FLOAT64)
    assert_close(tokens_read(np.eye(tokens)[None]), np.ones(1), FLOAT64)


# clips --------------------------------------------------------------------------------------------------

BASE, SHAPES = (2, 2, 3), ((2, 2, 3), (1, 4, 3), (4, 2, 6))
spaces = st.tuples(st.integers(1, 6), st.integers(2, 7), st.integers(3, 8))


def clip_of(seed: int, space: tuple[int, ...], shapes=SHAPES) -> tuple[Tokens, np.ndarray]:
    """A clip in tubelets of these shapes, and a share for each."""
    clip = tubelets(np.random.default_rng(seed).normal(size=(*space, 1)), BASE, shapes, shapes)
    return clip, stochastic(seed, len(clip.coords))


def spreads_shares(clip_map, seed: int, space: tuple[int, ...]) -> None:
    """Where attention passes nothing on, the shares of the tubelets over each pixel, each over its own pixels."""
    clip, shares = clip_of(seed, space)
    count = len(shares)
    found = clip_map(np.broadcast_to(np.eye(count), (2, 1, count, count)), shares, clip, BASE, SHAPES)
    want, token = np.zeros(space), 0
    for shape in SHAPES:
        size = capped(shape, space)
        for corner in cut(np.zeros((*space, 1)), size, shape)[1]:
            inside = np.s_[tuple(slice(c, c + n) for c, n in zip(corner, size))]
            want[inside] += shares[token] / np.prod(size)
            token += 1
    assert token == count
    assert_close(found, want, FLOAT64)


@given(seed=seeds, space=spaces)
def test_a_map_of_a_clip_spreads_shares_over_pixels(seed, space):
    spreads_shares(clip_map, seed, space)


def test_tubelets_at_another_place_are_caught():
    late = lambda weights, shares, clip, *rest: clip_map(weights, np.roll(shares, 1), clip, *rest)
    caught(spreads_shares, late, 0, (4, 4, 6))


def test_attention_of_a_still_clip_of_one_frame_is_that_of_the_image():
    image = np.random.default_rng(0).normal(size=(6, 4, 3))
    params = to_reference(
        backbone(0, replace(CONFIG, patch=(1, *PATCH), tubelets=Tubelets(((1, *PATCH),), ((1, *PATCH),), 6)))
    )
    still = {
        **params,
        "time": {**params["time"], "table": 0 * params["time"]["table"], "shapes": 0 * params["time"]["shapes"]},
    }
    clip = tubelets(image[None], (1, *PATCH), [(1, *PATCH)], [(1, *PATCH)])
    want = image_attention(still, patchify(image, PATCH))
    for got, expected in zip(clip_attention(still, clip), want):
        assert_close(got, expected, FLOAT64)
