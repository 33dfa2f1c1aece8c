"""A model with patches of several sizes in one row, each mapped to its own."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference import resize as slow
from reference.model import at_patch_size, forward, forward_image
from reference.patches import normalize, patchify, raster
from reference.resize import FLEXIVIT
from reference.rows import Tokens, pack
from tests.support.laws import caught
from tests.support.strategies import PATCH, I, T, backbone
from tests.support.tolerances import BYTES, FLOAT64, HALF, assert_close

FAST = backbone()
PARAMS = to_reference(FAST)
BASE = PATCH
SIZES = [(2, 2), (3, 3), (1, 2), (4, 3)]


def at_size(size, how=FLEXIVIT):
    """The model with its kernel resized."""
    return at_patch_size(PARAMS, BASE, size, how)


def photographs(seed):
    """One image for each patch size, as pixels."""
    rng = np.random.default_rng(seed)
    return [patchify(rng.integers(0, 256, (2 * h, 3 * w, 3)).astype(np.uint8), (h, w)) for h, w in SIZES]


def test_the_model_at_its_own_size_is_unchanged():
    np.testing.assert_array_equal(at_size(BASE)["patch_embedding"]["w"], PARAMS["patch_embedding"]["w"])
    rng = np.random.default_rng(0)
    image = Tokens(rng.normal(size=(6, 12)), raster((2, 3)), np.array([2, 3], np.int32))
    mapped = image._replace(patches=slow.adjoint_patches(image.patches, BASE, BASE))
    np.testing.assert_array_equal(forward_image(PARAMS, mapped), forward_image(PARAMS, image))


def test_patches_of_all_sizes_share_a_row():
    """Each image gets what the model with its kernel resized to that image's patches gives it alone."""
    images = photographs(0)
    mapped = [
        image._replace(patches=slow.adjoint_patches(normalize(image.patches), BASE, size))
        for image, size in zip(images, SIZES)
    ]
    row = pack(mapped, range(len(SIZES)), T, I)
    want = [forward_image(at_size(size), image) for image, size in zip(images, SIZES)]
    assert_close(forward(PARAMS, row)[: len(SIZES)], want, FLOAT64)
    got = eqx.filter_jit(lambda f, row: f(row))(FAST, to_device(row))
    assert_close(np.asarray(got)[: len(SIZES)], want, FLOAT64)


def test_two_bytes_a_number_are_enough():
    """Vectors from float16 patches are close; from bfloat16 less so; from bytes far off."""
    images = photographs(0)
    stored = [slow.base_patches(normalize(image.patches), BASE, size) for image, size in zip(images, SIZES)]
    assert all(patches.dtype == np.float16 for patches in stored)

    def vectors(kept):
        return np.array([forward_image(PARAMS, i._replace(patches=kept(p))) for i, p in zip(images, stored)])

    want = [forward_image(at_size(size), image) for image, size in zip(images, SIZES)]
    assert_close(vectors(lambda p: p), want, HALF)
    caught(assert_close, vectors(lambda p: np.asarray(p.astype(jnp.bfloat16), float)), want, HALF)
    caught(assert_close, vectors(lambda p: np.clip(np.rint((p + 1.0) * 127.5), 0, 255).astype(np.uint8)), want, BYTES)
