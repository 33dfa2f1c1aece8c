"""Windows of an image: one that holds it is no window, others keep their tokens apart, also at the rim."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from navit_eqx.config import Local, Loop, Mean
from navit_eqx.errors import ConfigError
from navit_eqx.training.attention_choice import refusal
from navit_eqx.weights.bridge import to_reference
from reference import local, model
from reference.evaluation.attention_maps import image_attention
from tests.support.laws import caught
from tests.support.strategies import CONFIG, SIDE, T, backbone, seeds, tokens_of
from tests.support.strategies import grids as some_grids
from tests.support.tolerances import EXACT, assert_close

WINDOW = (2, 3)
BASE = to_reference(backbone(config=replace(CONFIG, pool=Mean())))
few = settings(max_examples=5)


def windows(window=WINDOW, whole=(False, False)) -> dict:
    """Parameters of the model with windows."""
    return BASE | {"local": {"kind": "LayerMasks", "window": window, "whole": whole, "frame": (False, False)}}


def alone_in_its_window(params: dict, image, seed: int) -> None:
    """What the tokens of other windows hold does not change a token; that of its own does."""
    place = image.coords // np.array(WINDOW)
    mine = (place == place[-1]).all(-1)
    other = np.random.default_rng(seed).normal(size=image.patches.shape)
    tokens = lambda patches: model.image_hidden_states(params, image._replace(patches=patches))[-1][mine]
    here = tokens(image.patches)
    assert_close(tokens(np.where(mine[:, None], image.patches, other)), here, EXACT)
    assert np.abs(tokens(np.where(mine[:, None], other, image.patches)) - here).max() > 1e-3


@few
@given(grid=some_grids, seed=seeds)
def test_windows_keep_their_tokens_apart(grid, seed):
    """The last window of an image, which is smaller where the grid is no multiple."""
    alone_in_its_window(windows(), tokens_of(np.random.default_rng(seed), grid), seed + 1)


def test_a_block_that_sees_all_is_caught():
    image = tokens_of(np.random.default_rng(0), (3, 4))
    alone_in_its_window(windows(), image, 1)
    caught(alone_in_its_window, windows(whole=(False, True)), image, 1)
    caught(alone_in_its_window, BASE, image, 1)


@few
@given(grid=some_grids, seed=seeds)
def test_one_window_is_none(grid, seed):
    """A window that holds the image, or blocks that all attend to it."""
    image = tokens_of(np.random.default_rng(seed), grid)
    want = model.forward_image(BASE, image)
    for params in (windows((SIDE, SIDE)), windows(whole=(True, True))):
        assert_close(model.forward_image(params, image), want, EXACT)


def test_windows_begin_at_the_top_left():
    coords = np.array([[0, 0], [1, 2], [2, 0], [0, 3], [3, 5]])
    want = [[0, 0, 1, 2, 3][i] == [0, 0, 1, 2, 3][j] for i in range(5) for j in range(5)]
    np.testing.assert_array_equal(local.same_window(coords, WINDOW), np.reshape(want, (5, 5)))


def test_attention_maps_know_windows():
    """No weight beyond a window, in blocks that have some."""
    image = tokens_of(np.random.default_rng(0), (3, 4))
    weights, _ = image_attention(windows(whole=(False, True)), image)
    across = ~local.same_window(image.coords, WINDOW)
    assert (weights[0][:, across] == 0).all() and (weights[1][:, across] > 0).all()


def test_what_has_no_windows_is_refused():
    for fields, words in (
        (dict(registers=1), "model.local needs .* model.registers"),
        (dict(attention=Loop()), "model.local needs .* model.attention=Loop"),
        (dict(depth=1), "depth=1 does not have"),
    ):
        with pytest.raises(ConfigError, match=words):
            replace(CONFIG, **{"local": Local(WINDOW, (2,)), **fields})
    assert "model.attention=Loop: choose" in (refusal(Loop(), replace(CONFIG, local=Local(WINDOW)), T, 3) or "")
