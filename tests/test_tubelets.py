"""Clips: a still clip is the image, packed is alone, and both sides agree."""

from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from navit_eqx import tubelets as fast
from navit_eqx.config import Mean, ModelConfig, Rope, Tubelets
from navit_eqx.errors import ConfigError
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference import tubelets as slow
from reference.evaluation.cost import image_flops
from reference.model import forward_image
from reference.patches import patchify, unpatchify
from reference.resize import pi_matrix, pi_resize
from reference.rows import Row, pack
from tests.support import laws
from tests.support.laws import caught
from tests.support.strategies import CONFIG, PATCH, P, Packed, backbone, seeds
from tests.support.tolerances import EXACT, FLOAT64, assert_close

BASE = (2, *PATCH)
SHAPES = ((2, 2, 2), (1, 2, 2), (4, 4, 4))
STRIDES = ((2, 2, 2), (3, 2, 2), (4, 4, 4))
CLIPS = replace(CONFIG, patch=BASE, tubelets=Tubelets(SHAPES, STRIDES, 6))
T, I = 96, 4  # of rows of clips

spaces = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4)).map(lambda s: (s[0], 2 * s[1], 2 * s[2]))
shapes = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))


def pixels(seed, space, channels=3):
    return np.random.default_rng(seed).normal(size=(*space, channels))


def tokens_of(clip, config=CLIPS):
    return slow.tubelets(clip, config.patch, config.tubelet_shapes, config.tubelet_strides)


def params_of(config=CLIPS):
    return to_reference(backbone(0, config))


# cutting -----------------------------------------------------------------------------------------------


@given(seed=seeds, space=spaces)
@settings(max_examples=8)
def test_tubelets_of_the_kernel_are_patches_of_three_axes(seed, space):
    clip = pixels(seed, (2 * space[0], *space[1:]))
    tokens = slow.tubelets(clip, BASE, [BASE], [BASE])
    want = patchify(clip, BASE)
    assert_close(tokens.patches, want.patches, EXACT)
    np.testing.assert_array_equal(tokens.coords, np.pad(want.coords, ((0, 0), (1, 0))))
    np.testing.assert_array_equal(tokens.grid, [1, *want.grid])
    assert_close(unpatchify(tokens.patches, want.grid, BASE), clip, EXACT)


@given(seed=seeds, space=spaces, shape=shapes, stride=shapes)
@settings(max_examples=10)
def test_each_side_cuts_alike(seed, space, shape, stride):
    clip, size = pixels(seed, space), slow.capped(shape, space)
    assert size == fast.capped(shape, space) and all(0 < n <= length for n, length in zip(size, space))
    (blocks, corners), (others, places) = (side.cut(clip, size, stride) for side in (slow, fast))
    np.testing.assert_array_equal(blocks, others)
    np.testing.assert_array_equal(corners, places)
    for block, (f, y, x) in zip(blocks, corners):
        np.testing.assert_array_equal(block.reshape(*size, 3), clip[f : f + size[0], y : y + size[1], x : x + size[2]])
    for got, want in zip(*(side.tubelets(clip, BASE, [shape, BASE], [stride, BASE]) for side in (fast, slow))):
        assert_close(got, want, FLOAT64)


@given(space=spaces, shape=shapes, stride=shapes)
@settings(max_examples=10)
def test_counts_and_places(space, shape, stride):
    options = [shape, BASE], [stride, BASE]
    tokens = slow.tubelets(pixels(0, space), BASE, *options)
    for side in (slow, fast):
        assert side.token_counts(np.array([space, space]), *options).tolist() == [len(tokens.patches)] * 2
    low, high = tokens.coords[:, 1:] + 0.5, tokens.grid[1:] - tokens.coords[:, 1:] - 0.5
    assert (low > 0).all() and (high > 0).all()
    for length, size, step in zip(space, slow.capped(shape, space), stride):
        places = slow.starts(length, size, step)
        before, after = places[0], length - size - places[-1]
        assert 0 <= after - before <= 1, "the rest is not cut off on both sides"
        assert after < step


# kernels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_inflations(frames):
    w = np.random.default_rng(frames).normal(size=(P, 5))
    for name in ("central", "mean"):
        got = np.asarray(fast.INFLATIONS[name](jnp.asarray(w), frames))
        assert_close(got, slow.INFLATIONS[name](w, frames), EXACT)
        assert_close(got.reshape(frames, P, 5).sum(0), w, EXACT)
    assert_close(slow.mean(w, frames), pi_resize(w, (1, *PATCH), (frames, *PATCH)), EXACT)
    kept = slow.central(w, frames).reshape(frames, P, 5)
    assert np.flatnonzero(np.abs(kept).max((1, 2))).tolist() == [frames // 2]


def test_enlarged_kernels_in_time_sum_to_one():
    """So that the token of a still clip stays."""
    assert_close(pi_matrix(2, 4)[:, 1], [-0.15, 0.05, 0.45, 0.65], EXACT)
    for frames in range(2, 9):
        assert_close(pi_matrix(2, frames).sum(0), [1, 1], EXACT)
    assert_close(pi_matrix(2, 1), [[1, 1]], EXACT)


# what a clip means --------------------------------------------------------------------------------------

IMAGE = {pool: replace(CONFIG, pool=kind) for pool, kind in {"map": CONFIG.pool, "mean": Mean()}.items()}
IMAGE["rope"] = replace(CONFIG, rope=Rope())


def inflated(params, how, shapes=1):
    """A model of clips from one of images: time and shapes add nothing."""
    embedding, width = params["patch_embedding"], CONFIG.width
    time = {"table": np.zeros((6, width)), "shapes": np.zeros((shapes, width)), "coordinate": "absolute"}
    w = slow.INFLATIONS[how](embedding["w"], BASE[0])
    return {**params, "patch_embedding": {**embedding, "w": w}, "time": time}


@pytest.mark.parametrize("how", slow.INFLATIONS)
@pytest.mark.parametrize("name", IMAGE)
@given(seed=seeds, frames=st.integers(1, 9), longer=st.integers(2, 4))
@settings(max_examples=3)
def test_a_still_clip_is_the_image(name, how, seed, frames, longer):
    """Equal copies of a token share its weight in every softmax."""
    image, params = pixels(seed, (4, 6)), to_reference(backbone(0, IMAGE[name]))
    still = np.repeat(image[None], frames, axis=0)
    clip = slow.tubelets(still, BASE, [BASE, (longer, *PATCH)], [BASE, (1, *PATCH)])
    want = forward_image(params, patchify(image, PATCH))
    assert_close(slow.forward_clip(inflated(params, how, 2), clip), want, FLOAT64)


@pytest.mark.parametrize("how", slow.INFLATIONS)
def test_a_clip_of_one_frame_is_the_image(how):
    image, params = pixels(0, (4, 6)), to_reference(backbone())
    for shape in (BASE, (1, *PATCH)):
        clip = slow.tubelets(image[None], BASE, [shape], [shape])
        assert_close(
            slow.forward_clip(inflated(params, how), clip), forward_image(params, patchify(image, PATCH)), EXACT
        )


@given(seed=seeds, cells=st.integers(1, 6))
@settings(max_examples=3)
def test_reversed_time_is_a_reversed_table(seed, cells):
    params = params_of(replace(CLIPS, tubelets=Tubelets((BASE,), size=cells)))
    clip, time, embedding = pixels(seed, (2 * cells, 4, 2)), params["time"], params["patch_embedding"]
    w = embedding["w"].reshape(2, -1, CONFIG.width)[::-1].reshape(embedding["w"].shape)
    mirrored = params | {
        "time": time | {"table": time["table"][::-1]},
        "patch_embedding": embedding | {"w": w},
    }
    forward, backward = (slow.tubelets(frames, BASE, [BASE], [BASE]) for frames in (clip, clip[::-1]))
    want = slow.forward_clip(params, forward)
    assert_close(slow.forward_clip(mirrored, backward), want, FLOAT64)
    if cells > 1:  # played backwards, another vector
        caught(assert_close, slow.forward_clip(params, backward), want, FLOAT64)


# packed rows --------------------------------------------------------------------------------------------


@st.composite
def rows_of_clips(draw):
    """A row of clips of several lengths and sizes, some with dropped tokens."""
    rng, clips, room = np.random.default_rng(draw(seeds)), [], T
    for space in draw(st.lists(spaces, min_size=1, max_size=I)):
        tokens = tokens_of(rng.normal(size=(*space, 3)))
        stay = np.sort(rng.permutation(len(tokens.patches))[: draw(st.integers(1, len(tokens.patches)))])
        if len(stay) <= room:
            clips.append(tokens._replace(patches=tokens.patches[stay], coords=tokens.coords[stay]))
            room -= len(stay)
    return Packed(pack(clips, range(len(clips)), T, I), clips) if clips else draw(rows_of_clips())


jitted = eqx.filter_jit(lambda model, row: model(row))


def backend(row: Row) -> np.ndarray:
    return np.asarray(jitted(backbone(0, CLIPS), to_device(row)))


def reference(row: Row) -> np.ndarray:
    return slow.forward(params_of(), row)


@pytest.mark.parametrize("forward", [reference, backend])
@given(packed=rows_of_clips())
@settings(max_examples=5)
def test_packed_is_alone(forward, packed):
    params = params_of()
    laws.gives_each_image_its_meaning(forward, lambda clip: slow.forward_clip(params, clip), packed)
    pad = packed.row.segment_ids == 0
    loud = packed.row._replace(
        patches=np.where(pad[:, None], np.nan, packed.row.patches),
        coords=np.where(pad[:, None], np.float32(1e4), packed.row.coords),
    )
    np.testing.assert_array_equal(forward(loud)[: len(packed.images)], forward(packed.row)[: len(packed.images)])


def test_time_and_shape_are_seen():
    """Each coordinate changes the vector, and a time beyond the table is loud."""
    clip, params = tokens_of(pixels(0, (6, 4, 4))), params_of()
    want = slow.forward_clip(params, clip)
    for axis in range(4):
        moved = clip.coords.copy()
        moved[0, axis] += 1
        caught(assert_close, slow.forward_clip(params, clip._replace(coords=moved)), want, 1e-3)
    long = tokens_of(pixels(0, (14, 2, 2)))
    assert np.isnan(slow.forward_clip(params, long)).all()
    assert np.isnan(backend(pack([long], [0], T, I))[0]).all()


def test_a_kernel_of_clips_needs_three_sides():
    for options in ({"patch": (8, 8)}, {"patch": (2, 8, 8, 8)}):
        with pytest.raises(ConfigError, match="frames, height and width"):
            ModelConfig(**options, tubelets=Tubelets())
    with pytest.raises(ConfigError, match="three numbers for each"):
        Tubelets(((2, 8, 8),), ((2, 8, 8), (4, 8, 8)))
    alone = ModelConfig((2, 8, 8), tubelets=Tubelets())
    assert alone.tubelet_shapes == alone.tubelet_strides == ((2, 8, 8),)
    more = image_flops(10, **alone.sizes, classes=3) - image_flops(10, **replace(alone, tubelets=None).sizes, classes=3)
    assert more == 10 * 2 * (16 + 1) * alone.width
