"""The detail path: the parts of merged patches in their rows, and what they add to a token, on both sides."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import navit_eqx as navit
from data.adaptive import PlannedBlocks
from data.plan import NOTHING, EpochPlans
from data.rows import Pixels
from data.sampling.dropping import Constant
from data.sampling.merge import Merge, Merged
from data.sampling.packing import Packing
from data.sampling.resolution import Sides
from data.sources.source import Arrays
from data.stream import Epochs
from harness.adaptive import merging
from navit_eqx import detail as fast
from navit_eqx import preprocessing
from navit_eqx.config import AreaWeights, Detail, Flexi, Levels
from navit_eqx.errors import ConfigError
from navit_eqx.images import unpack_tokens
from navit_eqx.info import ModelInfo
from navit_eqx.preprocessing import Area, Preprocessing
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference import adaptive as slow
from reference import detail as parts_of
from reference.resize import FLEXIVIT
from reference.rows import Row, pack
from tests.support import laws
from tests.support.laws import caught
from tests.support.strategies import (
    CLASSES,
    CONFIG,
    PATCH,
    TASK,
    I,
    P,
    Packed,
    T,
    backbone,
    random_model,
    seeds,
)  # fmt: skip
from tests.support.tolerances import EXACT, FLOAT64, assert_close
from tests.test_adaptive import SCALES, budget, grids, jitted, patches, picture, small
from tests.test_resolve import config_of, images_for

DETAIL = replace(CONFIG, levels=Levels(SCALES), detail=Detail(SCALES), areas=AreaWeights())
ROOM = 3  # places a token in these tests; any image of at most 6 x 6 patches has enough


def params_of(config=DETAIL) -> dict:
    return to_reference(backbone(0, config))


def with_detail(image, quads, patch=PATCH, room=ROOM):
    """An image in blocks, with their parts."""
    levels, pixels = slow.cut_by_budget(slow.residual_scores(image, patch, SCALES), quads), image / 127.5 - 1
    tokens = slow.merged(pixels, patch, levels, PATCH)
    return tokens._replace(patches=parts_of.with_parts(tokens.patches, pixels, patch, levels, PATCH, room))


# the parts --------------------------------------------------------------------------------------------------


@given(
    seed=seeds, grid=st.tuples(st.integers(1, 16), st.integers(1, 16)), rate=st.floats(0, 1), scales=st.integers(2, 5)
)
@settings(max_examples=30)
def test_places_are_enough_for_any_image(seed, grid, rate, scales):
    """Whatever is merged: the merged blocks have at most m T cells; a place less would not do for some image."""
    rng = np.random.default_rng(seed)
    scores = [np.cumsum(rng.random((grid[0] >> s, grid[1] >> s)), 0) for s in range(scales)]
    quads = int(Merge(rate, scales=scales).quads(rng, np.array([grid]))[0])
    levels, room = slow.cut_by_budget(scores, quads), parts_of.places(rate, scales)
    assert (levels > 0).sum() <= room * (np.prod(grid) - 3 * quads)
    assert fast.places(rate, scales) == room


def test_places_are_few():
    """None where nothing is merged; no more than cells a token: 4^(S − 1) where all is one block."""
    assert [parts_of.places(rate, 3) for rate in (0.0, 0.25, 0.45, 0.5, 1.0)] == [0, 1, 1, 2, 16]


@given(seed=seeds, grid=grids, patch=patches, base=patches)
@small
def test_both_sides_keep_the_same_parts(seed, grid, patch, base):
    """Of each merged block its cells, quad by quad; mapped to the kernel; zeros in places that are left."""
    image = picture(seed, grid, patch) / 127.5 - 1
    levels = slow.cut_by_budget(slow.residual_scores(image, patch, SCALES), budget(seed, grid))
    tokens = slow.merged(image, patch, levels, base).patches
    got, want = (side.with_parts(tokens, image, patch, levels, base, 16) for side in (fast, parts_of))
    assert_close(got, want, FLOAT64)
    parts = want[:, tokens.shape[1] :].reshape(-1, tokens.shape[1])
    count = int((levels > 0).sum())
    assert not parts[count:].any()
    if patch == base and count:
        y, x, s = next((y, x, s) for (y, x), s in np.ndenumerate(levels) if s)
        order = [(0, 0), (0, 1), (1, 0), (1, 1)]
        cells = [(2 * a + c, 2 * b + d) for a, b in order for c, d in order] if s == 2 else order
        for part, (row, column) in zip(parts, cells):
            here = (y + row) * patch[0], (x + column) * patch[1]
            block = image[here[0] : here[0] + patch[0], here[1] : here[1] + patch[1]]
            np.testing.assert_array_equal(part, block.ravel())


# what they add ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2])
def test_the_path_is_one_linear_kernel(level):
    """Of all pixels of a patch: E join … join out, with a bias; on the device too."""
    params = params_of()
    (e, join, out), width = (params["patch_embedding"], *(params["detail"][n] for n in ("join", "out"))), CONFIG.width
    corner = np.split(join["w"], 4)
    kernels, bias = [np.eye(width)], np.zeros(width)
    for _ in range(level):
        kernels = [small @ of for of in corner for small in kernels]
    kernels = [e["w"] @ k @ out["w"] for k in kernels]
    bias = e["b"]
    for _ in range(level):
        bias = np.tile(bias, 4) @ join["w"] + join["b"]
    bias = bias @ out["w"] + out["b"]
    parts = np.random.default_rng(level).normal(size=(4**level, P))
    want = sum(part @ kernel for part, kernel in zip(parts, kernels)) + bias
    row = np.concatenate([np.zeros(P), parts.ravel()])[None]
    assert_close(parts_of.detail(params, row, np.array([level]), np.array([1]))[0], want, FLOAT64)
    net = backbone(0, DETAIL)
    assert net.detail is not None
    vectors = parts @ e["w"] + e["b"]
    got = eqx.filter_jit(net.detail)(jnp.asarray(vectors), jnp.asarray([float(level)]), jnp.asarray([1], jnp.int32))
    assert_close(got[0], want, FLOAT64)


@st.composite
def rows_with_parts(draw) -> Packed:
    """A row of images with any mixture of levels and patch sizes, and their parts."""
    rng, images, room = np.random.default_rng(draw(seeds)), [], T
    for grid in draw(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=I)):
        patch, number = draw(patches), int(rng.integers(2**32))
        quads = min(budget(number, grid), int(np.prod(grid)) * 3 // 16)
        tokens = with_detail(picture(number, grid, patch), quads, patch)
        if len(tokens.patches) <= room:
            images.append(tokens)
            room -= len(tokens.patches)
    return Packed(pack(images, range(len(images)), T, I), images) if images else draw(rows_with_parts())


def device(row: Row) -> np.ndarray:
    return np.asarray(jitted(backbone(0, DETAIL), to_device(row)))


@given(packed=rows_with_parts(), seed=seeds)
@settings(max_examples=4)
def test_packed_is_alone(packed, seed):
    alone = lambda image: slow.forward_merged(params_of(), image)
    laws.gives_each_image_its_meaning(device, alone, packed)
    laws.gives_each_image_its_meaning(lambda row: slow.forward(params_of(), row), alone, packed)
    order = np.random.default_rng(seed).permutation(len(packed.images))  # of images: parts follow the order of tokens
    shuffled = device(pack([packed.images[i] for i in order], order.tolist(), T, I))
    assert_close(shuffled[: len(order)], device(packed.row)[order], FLOAT64)
    pad = packed.row.segment_ids == 0
    loud = packed.row._replace(patches=np.where(pad[:, None], np.nan, packed.row.patches))
    np.testing.assert_array_equal(device(loud), device(packed.row))


def test_parts_are_seen_where_the_reduced_patch_is_the_same():
    """Two images with the same means of boxes: without the detail path they are one."""
    image = np.full((4, 4, 3), 60, np.uint8)
    other = image.copy()
    other[::2, ::2], other[1::2, 1::2] = 50, 70  # within each box of 2 x 2 pixels
    tokens = [slow.merged(x / 127.5 - 1, PATCH, np.ones((2, 2), int), PATCH, "area") for x in (image, other)]
    assert_close(tokens[0].patches, tokens[1].patches, EXACT)
    rows = [
        t._replace(patches=parts_of.with_parts(t.patches, x / 127.5 - 1, PATCH, np.ones((2, 2), int), PATCH, 4))
        for t, x in zip(tokens, (image, other))
    ]
    one, two = (slow.forward_merged(params_of(), row) for row in rows)
    caught(assert_close, one, two, 1e-3)


@eqx.filter_jit
@eqx.filter_grad
def gradient(path: fast.Detail, parts, levels, ids) -> jax.Array:
    return ((1 + path(parts, levels, ids)) ** 2).sum()


def test_the_path_adds_nothing_at_first_and_learns():
    """Outputs are equal; at the first step the map at the end has a gradient, the maps before it have none."""
    fresh = eqx.filter_jit(lambda: fast.Detail(DETAIL, key=jax.random.key(0)))()
    fresh = jax.tree.map(lambda x: x.astype(jnp.float64), fresh)
    assert np.asarray(fresh.join.w).any()
    net, row = backbone(0, DETAIL), to_device(pack([with_detail(picture(0, (4, 4)), 3)], [0], T, I))
    born = eqx.tree_at(lambda m: m.detail, net, fresh)
    without = eqx.tree_at(lambda m: m.detail, net, None)
    np.testing.assert_array_equal(jitted(born, row), jitted(without, row._replace(patches=row.patches[:, :P])))
    vectors = jnp.asarray(np.random.default_rng(0).normal(size=(T * ROOM, CONFIG.width)))
    found = gradient(fresh, vectors, row.coords[:, 0], row.segment_ids)
    assert np.abs(found.out.w).max() > 0 and np.abs(found.out.b).max() > 0
    assert not np.asarray(found.join.w).any() and not np.asarray(found.join.b).any()


# rows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["pi", "area"])
def test_training_and_the_front_door_store_the_same_parts(rule):
    """As many as there are merged cells, bytes of the picture or mapped; `navit.pack` has the same."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((24, 30), (30, 24), (20, 26))]
    source, merge, patch = Arrays(images, np.zeros(3, int), ("a",)), Merge(0.6, rule=rule), (4, 4)
    law, packing = Merged(Sides(24, 24), merge), Packing(80, 4)
    plans = EpochPlans(source, {
        "seed": 0, "patch_size": patch, "resolution": law, "dropping": NOTHING, "packing": packing, "longest_side": 99,
    })  # fmt: skip
    pixels = Pixels(patch, interpolation=FLEXIVIT if rule == "pi" else None, detail=True)
    rows = PlannedBlocks(source, Epochs(plans), 10**6, pixels, 80, 0, None, merge=merge)
    assert rows.room == 2 and rows[0].patches.shape == (80, 48 * 3)
    config = replace(DETAIL, patch=patch, dtype="float32", areas=None)
    how = Preprocessing(Area(24), row_tokens=80, merge=preprocessing.Merge(0.6, 3, rule))
    model = random_model(config, TASK, ModelInfo(("a",) * CLASSES, how))
    batch = navit.pack(images, model, preprocessing=how)
    with pytest.raises(ConfigError, match=r"merge\.scales=4, and model\.levels has 3"):
        navit.pack(images, model, preprocessing=replace(how, merge=preprocessing.Merge(0.6, 4, rule)))
    got = unpack_tokens(batch, batch.patches)
    planned = law.grids(np.random.default_rng(0), source.manifest.sizes, patch)
    for i, (grid, count) in enumerate(zip(planned, law.token_counts(planned).tolist())):
        want, _ = rows.tokens(0, i, grid, count, patch)
        assert got[i].dtype == want.patches.dtype == (np.float16 if rule == "pi" else np.uint8)
        assert_close(got[i].astype(float), want.patches.astype(float), 1e-3 if rule == "pi" else 0.0)
        cells = int((4 ** want.coords[:, 0].astype(int))[want.coords[:, 0] > 0].sum())
        parts = want.patches[:, 48:].reshape(-1, 48)
        assert parts[:cells].any(1).all() and not parts[cells:].any()
    assert rows.nothing(np.array(patch)).patches.shape == (0, 48 * 3)
    plain = rows.blocks(np.zeros((8, 8, 3), np.uint8), patch, 0)
    assert plain.patches.shape == (4, 48 * 3) and not plain.patches[:, 48:].any()


def test_what_does_not_go_with_it_is_refused():
    data: Any = {"merge": Merge(scales=4)}
    with pytest.raises(ConfigError, match=r"model\.detail has 3"):
        merging(*of(data))
    with pytest.raises(ConfigError, match=r"parts of all merged patches.*--data\.dropping\.rate 0"):
        merging(*of({"merge": Merge(), "dropping": Constant(0.5)}))
    with pytest.raises(ConfigError, match=r"model\.detail .*model\.flexi"):
        replace(DETAIL, flexi=Flexi((4, 8)))
    row = pack([with_detail(picture(0, (4, 4)), 1)], [0], T, I)
    with pytest.raises(ValueError, match=f"multiples of {P}"):
        backbone(0, DETAIL)(to_device(row._replace(patches=row.patches[:, : P + 1])))


def of(data: Any) -> tuple[Any, Any]:
    config = config_of(**data)
    config = replace(config, model=replace(config.model, detail=Detail(3), flexi=None))
    return config, images_for(config)
