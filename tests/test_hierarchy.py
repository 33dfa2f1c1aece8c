"""A hierarchy of stages in packed rows: order of tokens, merging, the model, on both sides."""

from dataclasses import replace
from functools import partial

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from navit_eqx import hierarchy as fast
from navit_eqx.config import Factorised, Mean, Rope, Stages
from navit_eqx.errors import ConfigError
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Segment
from navit_eqx.tasks.model import abstract_model
from navit_eqx.weights.bridge import to_reference
from reference import hierarchy as slow
from reference.patches import raster
from reference.rows import Row, Tokens, pack
from tests.support import laws
from tests.support.strategies import CONFIG, I, Packed, backbone, seeds, tokens_of
from tests.support.tolerances import EXACT, FLOAT64, assert_close

ROW = 48  # tokens of a row: a multiple of 16
BASE = replace(CONFIG, depth=3, posembed=Factorised(8), rope=Rope())
CONFIGS = {
    "mean": replace(BASE, stages=Stages((1, 2))),
    "concat": replace(BASE, stages=Stages((1, 1, 1), (16, 24, 32), "concat"), pool=Mean()),
    "max": replace(BASE, stages=Stages((2, 1), (16, 32), "max")),
}
MODELS = {name: backbone(config=config) for name, config in CONFIGS.items()}
PARAMS = {name: to_reference(model) for name, model in MODELS.items()}
jitted = eqx.filter_jit(lambda model, row: model(row))
kinds = pytest.mark.parametrize("name", ["mean", "concat", pytest.param("max", marks=pytest.mark.slow)])
small = settings(max_examples=5)


def merges_of(name: str) -> int:
    return CONFIGS[name].stages.merges  # pyright: ignore[reportOptionalMemberAccess]


def blocks_kept(rng: np.random.Generator, image: Tokens, merges: int) -> Tokens:
    """Some of the blocks of an image in the order of rows."""
    blocks = len(image.coords) // 4**merges
    kept = np.sort(rng.permutation(blocks)[: rng.integers(1, blocks + 1)])
    tokens = (kept[:, None] * 4**merges + np.arange(4**merges)).ravel()
    return image._replace(patches=image.patches[tokens], coords=image.coords[tokens])


@st.composite
def packed_rows(draw, merges: int, least: int = 1) -> Packed:
    """A row of images, some of which have dropped blocks; often with padding."""
    rng, side, images, room = np.random.default_rng(draw(seeds)), 2**merges, [], ROW
    grids = st.tuples(st.integers(1, 8 // side), st.integers(1, 8 // side))
    for blocks in draw(st.lists(grids, min_size=least, max_size=I)):
        whole = slow.in_blocks(tokens_of(rng, (blocks[0] * side, blocks[1] * side)), merges)
        image = blocks_kept(rng, whole, merges)
        if len(image.coords) <= room:
            images.append(image)
            room -= len(image.coords)
    while len(images) < least and room >= 4**merges:
        images.append(slow.in_blocks(tokens_of(rng, (side, side)), merges))
        room -= 4**merges
    return Packed(pack(images, range(len(images)), ROW, I), images)


def forward(name: str, row: Row) -> np.ndarray:
    return np.asarray(jitted(MODELS[name], to_device(row)))


# order of tokens ----------------------------------------------------------------------------------------


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), merges=st.integers(0, 3))
@small
def test_a_quad_is_four_tokens_in_a_row_at_every_level(rows, columns, merges):
    grid = np.array([rows, columns]) * 2**merges
    order = slow.block_order(grid, merges)
    np.testing.assert_array_equal(np.sort(order), np.arange(np.prod(grid)))
    np.testing.assert_array_equal(order, fast.block_order(grid.tolist(), merges))
    coords = raster(grid)[order]
    for _ in range(merges):
        quads = coords.reshape(-1, 4, 2)
        np.testing.assert_array_equal(quads - quads[:, :1], np.broadcast_to(raster((2, 2)), quads.shape))
        assert (quads[:, 0] % 2 == 0).all()
        coords = quads[:, 0] // 2
    np.testing.assert_array_equal(coords, raster((rows, columns)))


def test_no_merge_is_raster_order_and_a_rest_is_refused():
    np.testing.assert_array_equal(slow.block_order((3, 5), 0), np.arange(15))
    for grid in ((3, 4), (4, 6)):
        with pytest.raises(ValueError, match="its sides must be multiples of 4"):
            slow.block_order(grid, 2)


# merging ------------------------------------------------------------------------------------------------


@given(packed=packed_rows(2), seed=seeds)
@small
def test_merging_a_row_is_merging_its_images(packed, seed):
    """pool(pack(images)) = pack(pool(images)), at every level, for values of tokens and for rows."""
    rng, row, images = np.random.default_rng(seed), packed.row, packed.images
    for _ in range(2):
        values = rng.normal(size=(len(row.segment_ids), 3))
        merged = values.reshape(-1, 4, 3).mean(1)
        coarse = slow.coarser(row)
        for slot in range(1, 1 + len(images)):
            here, there = row.segment_ids == slot, coarse.segment_ids == slot
            quads = slow.quads_of(row.coords[here])
            np.testing.assert_array_equal(coarse.coords[there], [row.coords[here][q[0]] // 2 for q in quads])
            assert_close(merged[there], np.stack([values[here][q].mean(0) for q in quads]), EXACT)
        device = fast.coarser(to_device(row))
        for got, want in zip(device, coarse, strict=True):
            np.testing.assert_array_equal(got, want)
        row = coarse


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_four_equal_tokens_merge_to_one_of_them(pool):
    x = np.repeat(np.random.default_rng(0).normal(size=(6, 16)), 4, 0)
    merge = fast.QuadMerge(CONFIG, CONFIG, pool, key=jr.key(0))
    assert_close(np.asarray(merge(jnp.asarray(x))), x[::4], EXACT)
    assert_close(slow.quad_merge(to_reference(merge), x), x[::4], EXACT)


# the model ----------------------------------------------------------------------------------------------


@kinds
@given(data=st.data())
@small
def test_packed_is_alone(name, data):
    """A packed row gives each image what it gets alone, on both sides."""
    packed = data.draw(packed_rows(merges_of(name)))
    meaning = partial(slow.forward_image, PARAMS[name])
    laws.gives_each_image_its_meaning(partial(forward, name), meaning, packed)
    laws.gives_each_image_its_meaning(partial(slow.forward, PARAMS[name]), meaning, packed)


@kinds
@given(data=st.data())
@small
def test_padding_and_order_change_nothing(name, data):
    packed = data.draw(packed_rows(merges_of(name)))
    laws.ignores_padding(partial(forward, name), packed, np.nan)
    laws.empty_slots_are_finite(partial(forward, name), packed)
    order = np.random.default_rng(len(packed.images)).permutation(len(packed.images)).tolist()
    turned = pack([packed.images[k] for k in order], order, ROW, I)
    assert_close(forward(name, turned)[: len(order)], forward(name, packed.row)[order], FLOAT64)


@kinds
def test_images_share_no_gradient(name):
    rng, merges = np.random.default_rng(0), merges_of(name)
    images = [slow.in_blocks(tokens_of(rng, (4, n)), merges) for n in (4, 8)]
    row = to_device(pack(images, range(2), ROW, I))

    @eqx.filter_jit
    def gradient(patches, slot):
        return eqx.filter_grad(lambda p: MODELS[name](row._replace(patches=p))[slot].sum())(patches)

    laws.keeps_gradients_apart(
        lambda _, slot: np.asarray(gradient(row.patches, slot)), Packed(Row(*map(np.asarray, row)), images)
    )


@kinds
def test_a_row_in_another_order_is_not_merged(name):
    """The reference refuses it, the model gives NaN."""
    image = tokens_of(np.random.default_rng(0), (4, 4))
    row = pack([image], [0], ROW, I)
    assert np.isnan(forward(name, row)[0]).all()
    with pytest.raises(ValueError, match="store tokens in the order"):
        slow.forward(PARAMS[name], row)


def test_the_last_stage_alone_ends_with_a_norm():
    link, norms = PARAMS["concat"]["encoder"], []
    while link:
        norms.append(link["stage"]["norm"])
        link = link["rest"]
    assert [norm is None for norm in norms] == [True, True, False]


def test_gates_of_stochastic_depth_go_to_their_stages():
    name, rng = "concat", np.random.default_rng(1)
    images = [slow.in_blocks(tokens_of(rng, grid), 2) for grid in ((4, 4), (4, 8))]
    gates = rng.uniform(0, 2, size=(3, I))
    row = pack(images, range(2), ROW, I)
    got = np.asarray(eqx.filter_jit(MODELS[name])(to_device(row), jnp.asarray(gates)))
    assert_close(got, slow.forward(PARAMS[name], row, gates), FLOAT64)
    for slot, image in enumerate(images):
        assert_close(got[slot], slow.forward_image(PARAMS[name], image, gates[:, slot : slot + 1]), FLOAT64)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"depth": 4}, "must add up to model.depth=4"),
        ({"registers": 1}, "model.stages merge .* model.registers"),
        ({"stages": Stages((1, 2), (24, 48))}, "must begin with model.width=16"),
        ({"stages": Stages((1, 2), (16, 20))}, "whole numbers of heads"),
        ({"patch": (2, 2, 2)}, "model.stages merge .* clips"),
    ],
)
def test_options_that_do_not_go_with_stages_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        replace(CONFIGS["mean"], **change)


def test_a_task_that_asks_every_patch_is_refused():
    with pytest.raises(ConfigError, match="Segment asks every patch"):
        abstract_model(CONFIGS["mean"], Segment(patch=(2, 2), classes=3))
