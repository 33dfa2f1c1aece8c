"""Merged patches that count as the patches they stand for: merging equal patches cannot be seen."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from navit_eqx.areas import AreaMask, weighted
from navit_eqx.attention import attend
from navit_eqx.config import AreaWeights, Detail, Levels, Local, Map, Mean, ModelConfig, NoPositions, NormedMean, Pallas
from navit_eqx.kernels import attention_mask
from navit_eqx.kernels.loop import loop_mask
from navit_eqx.masks import same_image
from navit_eqx.rows import Row, to_device
from navit_eqx.weights.bridge import to_reference
from reference import adaptive as slow
from reference.rows import pack
from tests.support import laws
from tests.support.laws import caught
from tests.support.strategies import CONFIG, PATCH, I, T, backbone, empty_row, seeds
from tests.support.tolerances import EXACT, FLOAT64, assert_close
from tests.test_adaptive import LEVELS, jitted, picture, rows_of_merged

NOWHERE = replace(
    CONFIG, posembed=NoPositions(), areas=AreaWeights()
)  # equal patches are equal tokens, wherever they stand
KINDS: dict[str, ModelConfig] = {
    "map": replace(NOWHERE, pool=Map()),
    "mean, registers": replace(NOWHERE, pool=Mean(), registers=2),
    "normed mean": replace(NOWHERE, pool=NormedMean()),
}
AREAS = replace(LEVELS, areas=AreaWeights(), local=Local((4, 4), whole=(2,)))  # with windows in one block
GRID = (4, 4)


@lru_cache
def params_of(config: ModelConfig) -> dict:
    return to_reference(backbone(0, config))


def mosaic(seed: int) -> np.ndarray:
    """An image whose blocks of 4 x 4 cells are flat, but for one of them."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.repeat(rng.integers(0, 256, (2, 1, 3)), 4 * PATCH[0], 0), 4 * PATCH[1], 1)
    image[: 4 * PATCH[0]] = picture(seed, GRID)
    return image.astype(np.uint8)


def in_blocks(image: np.ndarray, quads: int) -> Any:
    levels = slow.cut_by_budget(slow.residual_scores(image, PATCH, 3), quads)
    return slow.merged(image / 127.5 - 1, PATCH, levels, PATCH)


def is_merged_unseen(config: ModelConfig, seed: int, device: bool) -> None:
    """Flat parts, merged by any number of quads, give what they give unmerged."""
    image, found = mosaic(seed), []
    for quads in (0, 3, 5):  # the flat half of the image has 5
        tokens = in_blocks(image, quads)
        assert len(tokens.patches) == 32 - 3 * quads
        got = slow.forward_merged(params_of(config), tokens)
        if device:
            row = to_device(pack([tokens], [0], 32, 2))
            assert_close(jitted(backbone(0, config), row)[0], got, FLOAT64)
        found.append(got)
        assert_close(got, found[0], EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_equal_patches_is_not_seen(kind):
    is_merged_unseen(KINDS[kind], 0, kind != "normed mean")
    caught(is_merged_unseen, replace(KINDS[kind], areas=None), 0, False)


@given(packed=rows_of_merged(), seed=seeds)
@settings(max_examples=4)
def test_packed_is_alone(packed, seed):
    """On the device, with windows, any mixture of levels and patch sizes, and dropped tokens; and in the reference."""
    alone = lambda image: slow.forward_merged(params_of(AREAS), image)
    device = lambda row: np.asarray(jitted(backbone(0, AREAS), to_device(row)))
    laws.gives_each_image_its_meaning(device, alone, packed)
    laws.gives_each_image_its_meaning(lambda row: slow.forward(params_of(AREAS), row), alone, packed)
    laws.does_not_see_order(device, packed, np.random.default_rng(seed).permutation(len(packed.images)).tolist())


def test_rows_without_merging_are_read_by_the_plain_program():
    """There is no further channel, no vector of levels and no detail path: the same operations, one by one."""
    row = to_device(empty_row())
    with_areas = replace(CONFIG, areas=AreaWeights())
    with_all = replace(with_areas, levels=Levels(), detail=Detail())
    assert operations(CONFIG, row) == operations(with_areas, row) == operations(with_all, row)
    merged = row._replace(coords=jnp.zeros((T, 3), jnp.float32), grids=jnp.zeros((I, 3), jnp.float32))
    assert operations(CONFIG, merged) != operations(with_areas, merged)


def operations(config: ModelConfig, row: Row) -> list[str]:
    """Of the program of a model, with the shapes of what they give."""
    net = backbone(0, config)
    program = jax.make_jaxpr(lambda row: net(row))(row)
    return [f"{line.primitive} {[v.aval for v in line.outvars]}" for line in program.jaxpr.eqns]


@pytest.mark.parametrize("name", ["loop", "pallas"])
def test_every_backend_counts_areas(name):
    """Values and gradients, with the mask that a kernel reads in place of the dense one."""
    rng = np.random.default_rng(0)
    ids = jnp.asarray([[1] * 7 + [2] * 4 + [0] * 5], jnp.int32)
    levels = jnp.asarray(rng.integers(0, 3, ids.shape), jnp.float32)
    q, k, v, g = (jnp.asarray(rng.normal(size=(1, 2, 16, 8)), jnp.float64) for _ in range(4))
    masks = {"loop": loop_mask(ids, 2, 2), "pallas": attention_mask(Pallas(16), ids, 2)}

    def both(mask, *qkv):
        out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, AreaMask(mask, levels), 0.3), *qkv)
        return out, *pull(jnp.where((ids > 0)[:, None, :, None], g, 0))

    got, want = (eqx.filter_jit(both)(mask, q, k, v) for mask in (masks[name], same_image(ids)))
    for one, other in zip(got, want, strict=True):
        assert_close(one, other, FLOAT64)


def test_a_key_of_level_one_counts_four_times():
    """By hand, against four equal keys."""
    rng = np.random.default_rng(1)
    q, k, v = (jnp.asarray(rng.normal(size=(2, n, 4)), jnp.float64) for n in (3, 5, 5))
    whole = lambda n: jnp.ones((3, n), bool)
    order = np.array([0, *[1] * 4, 2, 3, *[4] * 16])
    got = eqx.filter_jit(lambda: attend(q, k, v, weighted(whole(5), jnp.asarray([0, 1, 0, 0, 2.0])), 0.5))()
    again = eqx.filter_jit(lambda: attend(q, k[:, order], v[:, order], whole(len(order)), 0.5))()
    assert_close(got, again, EXACT)


def test_equal_levels_change_nothing():
    """All of level 1: every key counts four times, which is once."""
    tokens = in_blocks(mosaic(2), 8)
    same = tokens._replace(coords=tokens.coords * np.array([0, 1, 1], np.float32) + np.array([1, 0, 0], np.float32))
    for params in (params_of(KINDS["map"]), params_of(KINDS["normed mean"])):
        once = {**params, "areas": False}
        assert_close(slow.forward_merged(params, same), slow.forward_merged(once, same), EXACT)
        caught(assert_close, slow.forward_merged(params, tokens), slow.forward_merged(once, tokens), 1e-3)
