"""Merged tokens: blocks are found wherever their tokens stand, both sides agree, neighbors are not seen."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import navit_eqx as navit
from navit_eqx import merging as fast
from navit_eqx.errors import ConfigError
from navit_eqx.tasks.config import Embed, Merger
from navit_eqx.weights.bridge import to_reference
from reference import merging
from tests.support import golden
from tests.support.golden import FOLDER
from tests.support.laws import caught
from tests.support.strategies import backbone, rows, seeds
from tests.support.tolerances import EXACT, FLOAT64, assert_close

WIDTH = 3
MERGERS = {
    "tokens": fast.Merger("layer", 1e-6, WIDTH, 5, 4, 2, whole=False, key=jr.key(0)),
    "blocks": fast.Merger("rms", 1e-2, WIDTH, 5, 4, 3, whole=True, key=jr.key(1)),
    "no norm": fast.Merger("none", 1e-6, WIDTH, 5, 4, 2, whole=False, key=jr.key(2)),
}
call = eqx.filter_jit(lambda merger, *args: merger(*args))


@pytest.mark.parametrize("name", MERGERS)
@settings(max_examples=5)
@given(packed=rows(), seed=seeds)
def test_both_sides_merge_the_same(name, packed, seed):
    """Rows with padding and dropped tokens, in any order of their tokens."""
    rng, row, merger = np.random.default_rng(seed), packed.row, MERGERS[name]
    order = rng.permutation(len(row.segment_ids))
    x, places, ids = rng.normal(size=(len(order), WIDTH)), row.coords[order], row.segment_ids[order]
    want = merging.merger(to_reference(merger), x, places, ids)
    assert_close(call(merger, *map(jnp.asarray, (x, places, ids))), want, FLOAT64)


def blocks_are_those_of_the_image(x, coords, ids, grid, block) -> None:
    """Alone and complete, the tokens of blocks are a reshape."""
    rows, columns = grid
    got = merging.block_tokens(x, coords, ids, block)[merging.corners(coords, ids, block)]
    want = x.reshape(rows // block, block, columns // block, block, -1).transpose(0, 2, 1, 3, 4)
    np.testing.assert_array_equal(got, want.reshape(len(got), -1))


@given(blocks=st.tuples(st.integers(1, 3), st.integers(1, 3)), block=st.integers(1, 3), seed=seeds)
def test_a_block_is_its_tokens_row_by_row(blocks, block, seed):
    grid = blocks[0] * block, blocks[1] * block
    coords = np.indices(grid).reshape(2, -1).T
    x = np.random.default_rng(seed).normal(size=(len(coords), WIDTH))
    blocks_are_those_of_the_image(x, coords, np.ones(len(x), int), grid, block)


def test_blocks_by_columns_are_caught():
    coords, x = np.indices((4, 4)).reshape(2, -1).T, np.arange(16.0)[:, None]
    blocks_are_those_of_the_image(x, coords, np.ones(16, int), (4, 4), 2)
    caught(blocks_are_those_of_the_image, x, coords[:, ::-1], np.ones(16, int), (4, 4), 2)


@settings(max_examples=5)
@given(packed=rows(least=2), seed=seeds)
def test_an_image_merges_the_same_alone(packed, seed):
    """Whatever its neighbors hold; a token of a block that was dropped counts as zeros."""
    row, params = packed.row, to_reference(MERGERS["tokens"])
    x = np.random.default_rng(seed).normal(size=(len(row.segment_ids), WIDTH))
    packed_tokens = merging.merger(params, x, row.coords, row.segment_ids)
    for slot in range(1, len(packed.images) + 1):
        mine = row.segment_ids == slot
        alone = merging.merger(params, x[mine], row.coords[mine], np.ones(mine.sum(), int))
        assert_close(packed_tokens[mine], alone, EXACT)


def test_merged_tokens_of_images_of_any_size():
    """In their order, in the shape of the image; the output of an image is their mean."""
    model = golden.loaded("qwen3_vl")
    pictures = [golden.picture(size) for size in ((13, 21), (40, 9), (8, 8))]
    found = navit.merged(model, pictures)
    assert [x.shape for x in found] == [(2, 4, 3, 8), (7, 1, 3, 8), (3, 3, 3, 8)]
    batch = navit.pack(pictures, model)
    outputs = navit.unpack(batch, navit.forward(model, batch))
    for x, output in zip(found, outputs, strict=True):
        assert_close(x[..., 0, :].mean((0, 1)), output, FLOAT64)
    assert_close(navit.merged(model, pictures[1:2])[0], found[1], FLOAT64)


def test_a_model_without_a_merger_says_so():
    for name, words in (("dinov2", "has no merger: navit.features"), ("vit", "task Classify has no merger")):
        with pytest.raises(ConfigError, match=words):
            navit.merged(navit.load(FOLDER / name), [golden.picture((8, 8))])


def test_wrong_configurations_are_refused():
    with pytest.raises(ConfigError, match="leave one of them out"):
        Embed(3, Merger(4))
    task = navit.Model(backbone().config, Embed(merger=Merger(4, taps=(1, 9))), key=jr.key(0))
    with pytest.raises(ConfigError, match=r"taps=\(1, 9\): the encoder has 2 blocks"):
        task.task.merged(task.backbone, golden.packed(golden.GRIDS))
