"""Images as tokens, and back; sizes; dropping."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.patches import patchify, raster, unpatchify
from reference.sampling.dropping import kept_tokens
from reference.sampling.resolution import target_grid
from reference.sampling.token_selection import sample_at_random
from tests.support.strategies import seeds

axes = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=3)


@given(axes=axes, seed=seeds)
def test_unpatchify_inverts_patchify(axes, seed):
    """In one, two and three dimensions: text, image, video."""
    grid, patch_size = zip(*axes)
    image = np.random.default_rng(seed).normal(size=(*(g * p for g, p in axes), 3))
    tokens = patchify(image, patch_size)
    np.testing.assert_array_equal(tokens.grid, grid)
    np.testing.assert_array_equal(unpatchify(tokens.patches, tokens.grid, patch_size), image)


def test_a_patch_is_where_its_coordinates_say():
    image = np.arange(4 * 6 * 3).reshape(4, 6, 3)  # higher than wide would hide exchanged axes
    tokens = patchify(image, (2, 2))
    for patch, (y, x) in zip(tokens.patches, tokens.coords):
        np.testing.assert_array_equal(patch.reshape(2, 2, 3), image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2])
    np.testing.assert_array_equal(raster((2, 3)), [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]])


def test_patchify_refuses_broken_patches():
    with pytest.raises(ValueError, match=r"\(4, 5\) pixels cannot be cut into patches of \(2, 2\)"):
        patchify(np.zeros((4, 5, 3)), (2, 2))


@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    side=st.floats(8, 512),
    patch=st.sampled_from([4, 8, 14, 16]),
)
def test_target_grid_keeps_area_and_aspect(size, side, patch):
    sizes = np.array([size])
    grid = target_grid(sizes, np.array([side]), patch)[0]
    exact = side * np.array(size) / np.sqrt(size[0] * size[1]) / patch
    assert (grid >= 1).all()
    assert ((grid <= exact + 1e-6) | (grid == 1)).all()
    assert (grid > exact - 1 - 1e-6).all()


@given(n=st.integers(1, 40), patch=st.sampled_from([7, 8, 16]))
def test_a_side_of_n_patches_is_n_patches(n, patch):
    assert target_grid(np.array([[123, 123]]), np.array([float(n * patch)]), patch).tolist() == [[n, n]]


@given(tokens=st.integers(1, 500), rate=st.floats(0, 1))
def test_kept_tokens(tokens, rate):
    kept = int(kept_tokens(np.array([tokens]), np.array([rate]))[0])
    assert 1 <= kept <= tokens
    assert kept == tokens or rate > 0
    assert kept == 1 or kept <= tokens * (1 - rate) + 1e-6


@given(tokens=st.integers(1, 60), seed=seeds)
def test_sampled_tokens_are_a_sorted_subset(tokens, seed):
    rng = np.random.default_rng(seed)
    kept = int(rng.integers(1, tokens + 1))
    stay = sample_at_random(rng, tokens, kept)
    assert len(stay) == kept and (np.diff(stay) > 0).all() and 0 <= stay.min() and stay.max() < tokens
    np.testing.assert_array_equal(sample_at_random(rng, tokens, tokens), np.arange(tokens))


def test_every_token_is_as_likely_to_stay():
    rng = np.random.default_rng(0)
    counts = np.bincount(np.concatenate([sample_at_random(rng, 12, 4) for _ in range(6000)]), minlength=12)
    assert np.abs(counts - 2000).max() < 6 * np.sqrt(6000 * 1 / 3 * 2 / 3)
