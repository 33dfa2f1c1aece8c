"""Images are resized as by JAX, Pillow and PyTorch."""

from itertools import product

import jax
import numpy as np
import pytest
from PIL import Image

from reference import resize as slow
from reference.resize import Interpolation
from tests.support.tolerances import EXACT, PILLOW, assert_close


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("method, antialias", [*product(["linear", "cubic"], [False, True])])
@pytest.mark.parametrize("old, new", [((6, 9), (11, 4)), ((11, 4), (6, 9))])
def test_images_are_resized_as_by_jax(old, new, method, antialias):
    x = numbers(0, *old, 2)
    got = slow.resize_image(x, new, Interpolation(method, antialias, "renormalize"))
    assert_close(got, jax.image.resize(x, (*new, 2), method, antialias=antialias), EXACT)


@pytest.mark.parametrize("method, peer", [("linear", Image.Resampling.BILINEAR), ("cubic", Image.Resampling.BICUBIC)])
def test_images_are_resized_as_by_pillow(method, peer):
    """Pillow always antialiases; it computes in float32."""
    x = numbers(0, 19, 24).astype(np.float32)
    for height, width in ((30, 31), (7, 9)):
        want = np.asarray(Image.fromarray(x).resize((width, height), peer))
        got = slow.resize_image(x[..., None], (height, width), Interpolation(method, True, "renormalize"))
        assert_close(got[..., 0], want, PILLOW)


@pytest.mark.parametrize("mode, antialias", [*product(["bilinear", "bicubic"], [False, True])])
def test_images_are_resized_as_by_torch(mode, antialias):
    """Its bicubic has a = −¾ and clamped edges, but with antialias a = −½ and renormalised ones."""
    torch = pytest.importorskip("torch")
    method = "linear" if mode == "bilinear" else "cubic" if antialias else "cubic75"
    how = Interpolation(method, antialias, "renormalize" if antialias else "clamp")
    for old, new in (((5, 7), (8, 12)), ((12, 16), (5, 7))):
        x = numbers(0, *old)
        want = torch.nn.functional.interpolate(torch.tensor(x)[None, None], new, mode=mode, antialias=antialias)
        assert_close(slow.resize_image(x[..., None], new, how)[..., 0], want[0, 0].numpy(), EXACT)
