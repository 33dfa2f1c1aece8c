"""Windows of merged images: a block lies in one window, and what a window holds is what it holds alone."""

from dataclasses import replace

import equinox as eqx
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings

import navit_eqx as navit
from data.sampling.merge import Merge
from harness.adaptive import may_merge
from navit_eqx.config import Local, Mean
from navit_eqx.errors import ConfigError
from navit_eqx.info import ModelInfo
from navit_eqx.preprocessing import Area, Preprocessing
from navit_eqx.preprocessing import Merge as MergeOptions
from navit_eqx.rows import to_device
from navit_eqx.tasks.model import Model
from navit_eqx.weights.bridge import to_reference
from reference import adaptive as slow
from reference.local import same_window
from reference.model import image_hidden_states
from reference.rows import Row
from tests.support import laws
from tests.support.strategies import CONFIG, TASK, Packed, backbone
from tests.support.tolerances import EXACT, assert_close
from tests.test_adaptive import LEVELS, budget, picture, rows_of_merged, tokens_of
from tests.test_resolve import config_of

WINDOW = (4, 4)  # a multiple of the largest block
CONFIGURED = replace(LEVELS, local=Local(WINDOW, whole=(2,)), pool=Mean())
run = eqx.filter_jit(lambda net, row: net(row))


def fast_forward(row: Row) -> np.ndarray:
    return np.asarray(run(backbone(0, CONFIGURED), to_device(row)))


def params_of(whole: bool) -> dict:
    """Parameters of the reference; with `whole`, the last block attends to all of the image."""
    params = to_reference(backbone(0, CONFIGURED))
    no_block = {"local": params["local"] | {"whole": (False, False)}}
    return params if whole else params | no_block


@given(packed=rows_of_merged())
@settings(max_examples=4)
def test_packed_is_alone_and_windows_keep_their_tokens_apart(packed: Packed):
    """On both sides, by the reference of one image; the places that share a window are those whose cells do."""
    alone = lambda image: slow.forward_merged(params_of(True), image)
    laws.gives_each_image_its_meaning(fast_forward, alone, packed)
    laws.gives_each_image_its_meaning(lambda row: slow.forward(params_of(True), row), alone, packed)
    for image in packed.images:
        level, y, x = image.coords.T
        first = np.stack([y, x], -1) + 0.5 - 2 ** level[:, None] / 2
        last = first + 2 ** level[:, None] - 1
        for cells in (first, last):
            np.testing.assert_array_equal(same_window(image.coords[:, 1:], WINDOW), same_window(cells, WINDOW))


def test_tokens_of_other_windows_change_nothing():
    """But for blocks that attend to the whole image: then all matters."""
    image = tokens_of(picture(0, (6, 6)), budget(3, (6, 6)))
    mine = (image.coords[:, 1:] < 4).all(-1)
    noise = np.random.default_rng(1).normal(size=image.patches.shape)
    other = image._replace(patches=np.where(mine[:, None], image.patches, noise))
    for whole in (False, True):
        one, two = (image_hidden_states(*slow.in_plane(params_of(whole), x))[-1][mine] for x in (image, other))
        if whole:
            assert np.abs(one - two).max() > 1e-3
        else:
            assert_close(one, two, EXACT)


def test_windows_that_cut_blocks_are_refused():
    """In training and evaluation, and at the front door."""
    for window, scales, fits in (((4, 8), 3, True), ((4, 6), 3, False), ((4, 6), 2, True)):
        config = config_of(merge=Merge(scales=scales))
        config = replace(config, model=replace(config.model, local=Local(window)))
        how = Preprocessing(Area(10), merge=MergeOptions(0.5, scales))
        info = ModelInfo((), Preprocessing(Area(10)))
        net = Model(replace(CONFIG, local=Local(window)), TASK, info, key=jr.key(0))
        images = [np.zeros((12, 12, 3), np.uint8)]
        if fits:
            may_merge(config, scales)
            navit.pack(images, net, preprocessing=how)
        else:
            with pytest.raises(ConfigError, match="multiples of 4"):
                may_merge(config, scales)
            with pytest.raises(ConfigError, match="multiples of 4"):
                navit.pack(images, net, preprocessing=how)
