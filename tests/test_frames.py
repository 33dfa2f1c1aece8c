"""Frames as groups of attention: each is what it is alone, beside blocks that attend to the whole clip."""

from dataclasses import replace

import equinox as eqx
import numpy as np
import pytest
from hypothesis import given, settings

from navit_eqx.config import Local, Mean, Tubelets
from navit_eqx.errors import ConfigError
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference import tubelets as slow
from reference.local import same_window
from reference.model import image_hidden_states
from reference.rows import Row, Tokens, pack
from tests.support import laws
from tests.support.laws import caught
from tests.support.strategies import CONFIG, PATCH, Packed, backbone, seeds
from tests.support.tolerances import EXACT, assert_close

BASE, WINDOW = (2, *PATCH), (2, 2)
SHAPES = (BASE, (2, 4, 4))
CLIPS = replace(
    CONFIG, patch=BASE, depth=3, tubelets=Tubelets(SHAPES, size=6), pool=Mean(), local=Local(WINDOW, (2,), (1,))
)
ALL, NONE = (True,) * 3, (False,) * 3
run = eqx.filter_jit(lambda model, row: model(row))


def params_of(**groups: tuple[bool, ...]) -> dict:
    """Parameters of the model, with other groups of its blocks."""
    params = to_reference(backbone(0, CLIPS))
    return params | {"local": params["local"] | groups}


def clip_of(seed: int, frames: int) -> Tokens:
    return slow.tubelets(np.random.default_rng(seed).normal(size=(frames, 4, 6, 3)), BASE, SHAPES, SHAPES)


def states(params: dict, clip: Tokens) -> np.ndarray:
    """Tokens after the last block."""
    grids = np.broadcast_to(clip.grid, clip.coords.shape)
    return image_hidden_states(*slow.in_space(params, clip, grids))[-1]


def only(clip: Tokens, mine: np.ndarray) -> Tokens:
    return clip._replace(patches=clip.patches[mine], coords=clip.coords[mine])


def each_frame_is_alone(params: dict, clip: Tokens) -> None:
    """Tokens of a frame are those of a clip that has no other."""
    for time in np.unique(clip.coords[:, 1]):
        mine = clip.coords[:, 1] == time
        assert_close(states(params, clip)[mine], states(params, only(clip, mine)), EXACT)


@given(seed=seeds)
@settings(max_examples=3)
def test_each_frame_is_alone(seed):
    """Where all blocks attend to frames, or to windows of them; a block that attends to the clip is noticed."""
    clip = clip_of(seed, 7)
    assert len(np.unique(clip.coords[:, 1])) == 3
    each_frame_is_alone(params_of(whole=NONE, frame=ALL), clip)
    windows = params_of(whole=NONE, frame=NONE)
    each_frame_is_alone(windows, clip)
    near = same_window(clip.coords[:, 2:], WINDOW)[0] & (clip.coords[:, 1] == clip.coords[0, 1])
    assert_close(states(windows, clip)[near], states(windows, only(clip, near)), EXACT)
    caught(each_frame_is_alone, params_of(whole=(False, True, False), frame=(True, False, True)), clip)
    caught(each_frame_is_alone, params_of(whole=ALL, frame=NONE), clip)


def test_a_clip_of_one_frame_has_no_other():
    """Then blocks of frames are those of the whole clip."""
    clip = clip_of(0, 2)
    assert_close(states(params_of(whole=NONE, frame=ALL), clip), states(params_of(whole=ALL, frame=NONE), clip), EXACT)


def backend(row: Row) -> np.ndarray:
    return np.asarray(run(backbone(0, CLIPS), to_device(row)))


@given(seed=seeds)
@settings(max_examples=3)
def test_packed_is_alone(seed):
    """On both sides: frames of two clips at one time are apart."""
    clips = [clip_of(seed + n, frames) for n, frames in enumerate((5, 2, 4))]
    packed = Packed(pack(clips, range(3), 64, 4), clips)
    for forward in (backend, lambda row: slow.forward(params_of(), row)):
        laws.gives_each_image_its_meaning(forward, lambda clip: slow.forward_clip(params_of(), clip), packed)


def test_what_has_no_frames_is_refused():
    for fields, words in (
        (dict(patch=PATCH, tubelets=None), "frame=.*images, which have no frames"),
        (dict(tubelets=Tubelets((BASE, (4, 4, 4)))), "shapes and strides of .2, 4. frames"),
        (dict(tubelets=Tubelets((BASE,), ((1, *PATCH),))), "shapes and strides of .1, 2. frames"),
        (dict(local=Local(frame=(4,))), "frame=.4,. names blocks"),
        (dict(local=Local(whole=(1, 2), frame=(2,))), r"blocks \[2\] stand in whole and in frame"),
    ):
        with pytest.raises(ConfigError, match=words):
            replace(CLIPS, **fields)
