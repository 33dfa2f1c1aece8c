"""Images as tokens, and back; sizes; dropping; patches of any shape and number of channels in a model."""

from dataclasses import replace
from math import prod

import equinox as eqx
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from navit_eqx import model as fast_model
from navit_eqx.config import Factorised, Flexi, ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference.model import at_patch_size, forward
from reference.patches import patchify, raster, unpatchify
from reference.rows import pack
from reference.sampling.dropping import kept_tokens
from reference.sampling.resolution import target_grid
from reference.sampling.token_selection import sample_at_random
from tests.support import laws
from tests.support.laws import caught
from tests.support.strategies import CONFIG, I, Packed, T, backbone, seeds, tokens_of
from tests.support.tolerances import FLOAT32, FLOAT64, PIXEL, assert_close

axes = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=3)


@given(axes=axes, seed=seeds)
def test_unpatchify_inverts_patchify(axes, seed):
    """In one, two and three dimensions: text, image, video; any number of channels."""
    grid, patch_size = zip(*axes)
    image = np.random.default_rng(seed).normal(size=(*(g * p for g, p in axes), 1 + seed % 6))
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
    patch=st.sampled_from([(4, 4), (8, 8), (14, 14), (16, 16), (8, 12)]),
)
def test_target_grid_keeps_area_and_aspect(size, side, patch):
    sizes = np.array([size])
    grid = target_grid(sizes, np.array([side]), patch)[0]
    exact = side * np.array(size) / np.sqrt(size[0] * size[1]) / np.array(patch)
    assert (grid >= 1).all()
    assert ((grid <= exact + PIXEL) | (grid == 1)).all()
    assert (grid > exact - 1 - PIXEL).all()


@given(n=st.integers(1, 40), patch=st.sampled_from([7, 8, 16]))
def test_a_side_of_n_patches_is_n_patches(n, patch):
    assert target_grid(np.array([[123, 123]]), np.array([float(n * patch)]), (patch, patch)).tolist() == [[n, n]]


@given(tokens=st.integers(1, 500), rate=st.floats(0, 1))
def test_kept_tokens(tokens, rate):
    kept = int(kept_tokens(np.array([tokens]), np.array([rate]))[0])
    assert 1 <= kept <= tokens
    assert kept == tokens or rate > 0
    assert kept == 1 or kept <= tokens * (1 - rate) + PIXEL


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


# patches are a shape ------------------------------------------------------------------------------------

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPES = {
    "grey": {"patch": (2, 3), "channels": 1, "mean": (0.2,), "std": (0.3,)},
    "RGB": {"patch": (2, 3), "mean": IMAGENET[0], "std": IMAGENET[1]},
    "RGBA": {"patch": (3, 2), "channels": 4, "mean": (0.5,), "std": (0.1, 0.2, 0.3, 0.4)},
    "six bands": {"patch": (2, 3), "channels": 6, "mean": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), "std": (0.5,)},
    "video": {"patch": (2, 2, 3), "mean": IMAGENET[0], "posembed": Factorised(6, axes=3)},
}
CONFIGS = {name: replace(CONFIG, **fields) for name, fields in SHAPES.items()}
shapes = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
jitted = eqx.filter_jit(lambda model, row: model(row))


def row_of(config: ModelConfig, seed: int) -> Packed:
    """Two images of random tokens, one of them without some, and padding."""
    rng = np.random.default_rng(seed)
    more = (2,) * (len(config.patch) - 2)
    images = [tokens_of(rng, (*more, 2, 3), patch_dim=config.patch_dim)]
    images += [tokens_of(rng, (*more, 3, 2), keep=4, patch_dim=config.patch_dim)]
    return Packed(pack(images, [0, 1], T, I), images)


@shapes
@given(seed=seeds)
@settings(max_examples=5)
def test_patches_of_any_shape_and_channels(config, seed):
    """Both sides agree, and a packed image is what it is alone."""
    model, packed = backbone(config=config), row_of(config, seed)
    params = to_reference(model)
    run = lambda row: np.asarray(jitted(model, to_device(row)))
    assert_close(run(packed.row), forward(params, packed.row), FLOAT64)
    laws.gives_each_image_its_meaning(run, laws.backbone_of(params), packed)
    laws.does_not_see_order(run, packed, [1, 0])
    laws.ignores_padding(run, packed, np.nan)


@shapes
def test_pixels_of_any_shape_and_channels(config):
    """From bytes on, normalized channel by channel."""
    rng = np.random.default_rng(0)
    grid = (2,) * len(config.patch)
    pixels = rng.integers(0, 256, (*(g * p for g, p in zip(grid, config.patch)), config.channels), np.uint8)
    row, model = pack([patchify(pixels, config.patch)], [0], T, I), backbone(config=config)
    got, params = np.asarray(jitted(model, to_device(row))), to_reference(model)
    assert_close(got, forward(params, row), FLOAT32)
    normal = (pixels / 255 - np.array(config.mean)) / np.array(config.std)
    alone = pack([patchify(normal, config.patch)], [0], T, I)
    assert_close(forward(params, row), forward(params, alone), FLOAT64)


def test_channels_first_are_caught(monkeypatch):
    """A patch whose mean and deviation go by pixel instead of by channel."""

    def by_pixel(patches, mean, std):
        scale, shift = (np.repeat(x, patches.shape[-1] // len(mean)) for x in (std, mean))
        return (patches.astype("float32") / 255 - shift[None].astype("float32")) / scale[None].astype("float32")

    model, rng = backbone(config=CONFIGS["RGB"]), np.random.default_rng(0)
    row = pack([patchify(rng.integers(0, 256, (4, 6, 3), np.uint8), (2, 3))], [0], T, I)
    agrees = lambda run: assert_close(run(to_device(row)), forward(to_reference(model), row), FLOAT32)
    agrees(jax.jit(lambda row: model(row)))
    monkeypatch.setattr(fast_model, "normalize", by_pixel)
    caught(agrees, jax.jit(lambda row: model(row)))


# any size of a flexible model ---------------------------------------------------------------------------

FLEXIBLE = replace(CONFIG, patch=(2, 3), channels=4, flexi=Flexi((2, 3, 4)))


@pytest.mark.parametrize("size", FLEXIBLE.patches, ids=str)
def test_the_embedding_at_each_size_is_that_of_the_reference(size):
    model = backbone(config=FLEXIBLE)
    got = model.patch_embedding_at(4 * prod(size))
    want = at_patch_size(to_reference(model), FLEXIBLE.patch, size)["patch_embedding"]
    assert_close(got.w, want["w"], FLOAT64)
    assert_close(got.b, want["b"], FLOAT64)


@pytest.mark.parametrize("patch_dim", [1, 4 * 5, 4 * 25, 3 * 6])
def test_a_size_that_the_model_does_not_read_is_refused(patch_dim):
    """Also that of its own patch in other channels."""
    with pytest.raises(ValueError, match=rf"patches of {patch_dim} numbers; this model reads 4 channels"):
        backbone(config=FLEXIBLE).patch_embedding_at(patch_dim)
    row = row_of(FLEXIBLE, 0).row
    other = to_device(row._replace(patches=np.zeros((T, patch_dim))))
    with pytest.raises(ValueError, match=f"patches of {patch_dim} numbers"):
        eqx.filter_eval_shape(backbone(config=FLEXIBLE), other)


@pytest.mark.parametrize("patch, sizes", [((2, 8), (4,)), ((1, 9), (2, 3))])
def test_sizes_that_a_row_cannot_tell_apart_are_refused(patch, sizes):
    """2 x 8 and 4 x 4 both have 16 numbers a channel."""
    with pytest.raises(ConfigError, match="have as many numbers"):
        ModelConfig(patch, flexi=Flexi(sizes))
