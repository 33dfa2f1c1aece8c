"""Patches of several sizes within one image: partitions, tokens, and packed rows of them, on both sides."""

from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from navit_eqx import adaptive as fast
from navit_eqx.config import Factorised, Fourier, Levels, ModelConfig, NoPositions, Rope, Sinusoidal, Tubelets
from navit_eqx.errors import ConfigError
from navit_eqx.model import NaViT
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference import adaptive as slow
from reference.model import at_patch_size, forward_image
from reference.patches import patchify
from reference.resize import resize_image
from reference.rows import Row, pack
from tests.support import laws
from tests.support.laws import caught
from tests.support.strategies import CONFIG, PATCH, I, Packed, T, backbone, initialize, seeds
from tests.support.tolerances import EXACT, FLOAT64, assert_close

SCALES = 3
LEVELS = replace(CONFIG, levels=Levels(SCALES))
CENTERED = {  # positions that are read at the center of a block
    "fractional": replace(CONFIG, posembed=Factorised(6, "fractional")),
    "sinusoidal": replace(CONFIG, posembed=Sinusoidal(6, "fractional")),
    "fourier": replace(CONFIG, posembed=Fourier(6, "fractional")),
    "rope": replace(CONFIG, posembed=NoPositions(), rope=Rope(coordinate="centered")),
}
grids = st.tuples(st.integers(1, 9), st.integers(1, 9))
patches = st.tuples(st.integers(1, 3), st.integers(1, 3))
small = settings(max_examples=10)


def picture(seed, grid, patch=PATCH, top=256, channels=3):
    """Bytes; a small `top` makes many ties."""
    size = [n * p for n, p in zip(grid, patch)]
    return np.random.default_rng(seed).integers(0, top, (*size, channels)).astype(np.uint8)


def budget(seed, grid, scales=SCALES):
    """A number of quads that the grid has."""
    return int(np.random.default_rng(seed).integers(slow.most_quads(np.array(grid), scales) + 1))


def blocks_of(levels):
    """First cell and level of each block, by its definition: a cell at multiples of the size of its own level."""
    return [(y, x, s) for (y, x), s in np.ndenumerate(levels) if y % 2**s == x % 2**s == 0]


# partitions --------------------------------------------------------------------------------------------


def tiles(levels, scales) -> None:
    """Blocks stand at multiples of their size and cover every cell once; what is no whole block stays at level 0."""
    covered = np.zeros(levels.shape, int)
    for y, x, s in blocks_of(levels):
        assert 0 <= s < scales and y + 2**s <= levels.shape[0] and x + 2**s <= levels.shape[1]
        covered[y : y + 2**s, x : x + 2**s] += 1
        assert (levels[y : y + 2**s, x : x + 2**s] == s).all()
    assert (covered == 1).all()


@given(seed=seeds, grid=grids, patch=patches, scales=st.integers(2, 4), top=st.sampled_from([2, 5, 256]))
@small
def test_a_budget_makes_tiles_of_the_promised_number(seed, grid, patch, scales, top):
    """N = n_y n_x − 3 k; most_quads is reached, and one more is refused."""
    scores, most = slow.residual_scores(picture(seed, grid, patch, top), patch, scales), slow.most_quads
    highest = int(most(np.array(grid), scales))
    for quads in {0, budget(seed, grid, scales), highest}:
        levels = slow.cut_by_budget(scores, quads)
        tiles(levels, scales)
        assert len(blocks_of(levels)) == np.prod(grid) - 3 * quads
        np.testing.assert_array_equal(levels, fast.cut_by_budget(scores, quads))
    for side in (slow, fast):
        assert side.most_quads(np.array([grid, grid]), scales).tolist() == [highest] * 2
        for wrong in (-1, highest + 1):
            with pytest.raises(ValueError, match="quads cannot be merged"):
                side.cut_by_budget(scores, wrong)


@given(seed=seeds, grid=grids, more=st.integers(0, 20))
@small
def test_partitions_are_nested(seed, grid, more):
    """More quads, or higher thresholds, never split a block."""
    rng, scores = np.random.default_rng(seed), slow.residual_scores(picture(seed, grid, top=5), PATCH, 4)
    few = budget(seed, grid, 4)
    many = min(few + more, int(slow.most_quads(np.array(grid), 4)))
    lower = [float(np.quantile(s, rng.random())) if s.size else 0 for s in scores[1:]]
    higher = [t + abs(rng.normal()) * more for t in lower]
    for finer, coarser in (
        [slow.cut_by_budget(scores, n) for n in (few, many)],
        [slow.cut_by_threshold(scores, t) for t in (lower, higher)],
    ):
        tiles(finer, 4)
        assert (finer <= coarser).all()


@given(seed=seeds, grid=st.tuples(st.integers(4, 8), st.integers(4, 8)))
@small
def test_each_merge_adds_least_to_the_score(seed, grid):
    """Of the quads that can be merged, by what their block has more than its four parts; for any scores."""
    rng = np.random.default_rng(seed)
    scores = [rng.random((grid[0] >> s, grid[1] >> s)) for s in range(SCALES)]
    cells = lambda levels, s, y, x: levels[y << s : (y + 1) << s, x << s : (x + 1) << s]

    def total(levels):
        return sum(
            scores[s][y, x] for s in range(SCALES) for y, x in np.ndindex(scores[s].shape)
            if (cells(levels, s, y, x) == s).all()
        )  # fmt: skip

    def least(levels):
        return min(
            scores[s][y, x] - scores[s - 1][2 * y : 2 * y + 2, 2 * x : 2 * x + 2].sum()
            for s in range(1, SCALES) for y, x in np.ndindex(scores[s].shape)
            if (cells(levels, s, y, x) == s - 1).all()
        )  # fmt: skip

    found = [slow.cut_by_budget(scores, n) for n in range(int(slow.most_quads(np.array(grid), SCALES)) + 1)]
    for before, after in zip(found, found[1:]):
        assert_close(total(after) - total(before), least(before), FLOAT64)


def cut_by_hand(scores, thresholds):
    """Coarsest first, block by block."""
    levels = np.full(scores[0].shape, -1)
    for s in (2, 1):
        for y, x in np.ndindex(scores[s].shape):
            here = (slice(y * 2**s, (y + 1) * 2**s), slice(x * 2**s, (x + 1) * 2**s))
            if scores[s][y, x] < thresholds[s - 1] and (levels[here] == -1).all():
                levels[here] = s
    return np.maximum(levels, 0)


@given(seed=seeds, grid=grids)
@small
def test_thresholds(seed, grid):
    """Strictly below; the number of tokens is on the lattice of the budgets; minus infinity merges nothing."""
    scores = slow.residual_scores(picture(seed, grid, top=3), PATCH, SCALES)
    tau = [float(s.ravel()[len(s.ravel()) // 2]) if s.size else 0.0 for s in scores[1:]]  # scores themselves: ties
    levels = slow.cut_by_threshold(scores, tau)
    np.testing.assert_array_equal(levels, cut_by_hand(scores, tau))
    assert (np.prod(grid) - len(blocks_of(levels))) % 3 == 0
    assert not slow.cut_by_threshold(scores, [-np.inf] * 2).any()
    flat = slow.residual_scores(np.zeros_like(picture(0, grid)), PATCH, SCALES)
    assert not slow.cut_by_threshold(flat, [0.0, 0.0]).any()


@given(seed=seeds, rows=st.integers(1, 2), columns=st.integers(1, 2))
@small
def test_a_mirrored_or_turned_image_has_a_mirrored_or_turned_partition(seed, rows, columns):
    """Where the grid is divisible, and no two blocks cost the same."""
    grid = 4 * rows, 4 * columns
    image = np.random.default_rng(seed).permutation(np.prod(grid) * 12).reshape(2 * grid[0], 2 * grid[1], 3)
    cut = lambda x: slow.cut_by_budget(slow.residual_scores(x, PATCH, SCALES), budget(seed, grid))
    for change in (np.fliplr, np.flipud, np.rot90):
        np.testing.assert_array_equal(cut(change(image)), change(cut(image)))


# scores ------------------------------------------------------------------------------------------------


def reduced_error(block, s):
    """Squared error of means of 2^s x 2^s pixels, pixel by pixel."""
    error = 0.0
    for y, x in np.ndindex(block.shape[0] >> s, block.shape[1] >> s):
        box = block[y << s : (y + 1) << s, x << s : (x + 1) << s].astype(float)
        error += ((box - box.mean((0, 1))) ** 2).sum()
    return error


def entropy(block):
    gray = block @ np.array([0.2989, 0.587, 0.114])
    _, counts = np.unique(np.floor(gray * 2), return_counts=True)
    p = counts / counts.sum()
    return -(p * np.log2(p)).sum()


@given(seed=seeds, grid=grids, patch=patches, top=st.sampled_from([4, 256]))
@small
def test_scores_are_those_of_each_block(seed, grid, patch, top):
    image = picture(seed, grid, patch, top)
    for s, (residual, mirror, bits) in enumerate(
        zip(*(f(image, patch, SCALES) for f in (slow.residual_scores, fast.residual_scores, slow.entropy_scores)))
    ):
        assert residual.shape == bits.shape == (grid[0] >> s, grid[1] >> s)
        np.testing.assert_array_equal(residual, mirror)  # of bytes, exactly
        for y, x in np.ndindex(residual.shape):
            height, width = patch[0] << s, patch[1] << s
            here = image[y * height : (y + 1) * height, x * width : (x + 1) * width]
            assert abs(residual[y, x] - reduced_error(here, s)) <= EXACT * (1 + (here.astype(float) ** 2).sum())
            assert abs(bits[y, x] - entropy(here)) <= FLOAT64
            assert -EXACT <= bits[y, x] <= np.log2(height * width) + EXACT


@given(seed=seeds, grid=grids)
@small
def test_a_block_scores_at_least_its_parts(seed, grid):
    """Residuals: no merge has a negative cost. Entropy: the mean of the parts, or up to 2 bits more."""
    image = picture(seed, grid)
    residual, bits = (f(image, PATCH, 4) for f in (slow.residual_scores, slow.entropy_scores))
    assert not residual[0].any()
    for fine, coarse in zip(residual, residual[1:]):
        assert (coarse >= slow.block_sums(fine, (2, 2))).all()
    for fine, coarse in zip(bits, bits[1:]):
        mean = slow.block_sums(fine, (2, 2)) / 4
        assert ((mean - FLOAT64 <= coarse) & (coarse <= mean + 2 + FLOAT64)).all()


# tokens ------------------------------------------------------------------------------------------------


def tokens_of(image, quads, rule="pi", patch=PATCH):
    levels = slow.cut_by_budget(slow.residual_scores(image, patch, SCALES), quads)
    return slow.merged(image / 127.5 - 1, patch, levels, PATCH, rule)


@pytest.mark.parametrize("rule", slow.REDUCE)
@given(seed=seeds, grid=grids, base=patches)
@small
def test_both_sides_make_the_same_tokens(rule, seed, grid, base):
    image, patch = picture(seed, grid) / 127.5 - 1, PATCH
    levels = slow.cut_by_budget(slow.residual_scores(image, patch, SCALES), budget(seed, grid))
    tokens = slow.merged(image, patch, levels, base, rule)
    got, coords, shape = fast.merged(image, patch, levels, base, rule)
    assert_close(got, tokens.patches, FLOAT64)
    np.testing.assert_array_equal(coords, tokens.coords)
    np.testing.assert_array_equal(shape, tokens.grid)
    centers = [(s, y + 2**s / 2 - 0.5, x + 2**s / 2 - 0.5) for y, x, s in blocks_of(levels)]
    np.testing.assert_array_equal(tokens.coords, centers)


@pytest.mark.parametrize("rule", slow.REDUCE)
def test_nothing_merged_is_the_image_in_patches(rule):
    """To the bit; a model without levels, and one with them, reads what it read."""
    image = picture(0, (4, 5))
    tokens, plain = tokens_of(image, 0, rule), patchify(image / 127.5 - 1, PATCH)
    np.testing.assert_array_equal(tokens.patches, plain.patches)
    np.testing.assert_array_equal(tokens.coords[:, 1:], plain.coords)
    for config in (CONFIG, LEVELS):
        params = to_reference(backbone(0, config))
        np.testing.assert_array_equal(slow.forward_merged(params, tokens), forward_image(params, plain))
        merged, alone = (jitted(backbone(0, config), to_device(pack([x], [0], T, I))) for x in (tokens, plain))
        np.testing.assert_array_equal(merged, alone)


@pytest.mark.parametrize("name", CENTERED)
@given(seed=seeds, rows=st.integers(1, 3), columns=st.integers(1, 3), level=st.integers(1, 2))
@settings(max_examples=3)
def test_blocks_of_one_level_are_patches_of_that_size(name, seed, rows, columns, level):
    """With the rule `pi`: the same function as FlexiViT at 2^s times the patch."""
    grid, params = (rows << level, columns << level), to_reference(backbone(0, CENTERED[name]))
    image, size = picture(seed, grid) / 127.5 - 1, [2**level * side for side in PATCH]
    got = slow.forward_merged(params, slow.merged(image, PATCH, np.full(grid, level), PATCH))
    assert_close(got, forward_image(at_patch_size(params, PATCH, size), patchify(image, size)), FLOAT64)


@given(seed=seeds, rows=st.integers(1, 3), columns=st.integers(1, 3), level=st.integers(1, 2))
@small
def test_an_enlarged_image_in_large_blocks_is_the_small_image(seed, rows, columns, level):
    """Block by block enlarged; `pi` is the left inverse, means of boxes are not."""
    image = picture(seed, (rows, columns)) / 127.5 - 1
    want, size = patchify(image, PATCH).patches, [2**level * side for side in PATCH]
    large = np.concatenate(
        [
            np.concatenate([resize_image(part, size) for part in np.split(band, columns, 1)], 1)
            for band in np.split(image, rows, 0)
        ]
    )
    levels = np.full((rows << level, columns << level), level)
    assert_close(slow.merged(large, PATCH, levels, PATCH).patches, want, FLOAT64)
    caught(assert_close, slow.merged(large, PATCH, levels, PATCH, "area").patches, want, FLOAT64)


@pytest.mark.parametrize("rule", slow.REDUCE)
def test_a_flat_block_is_the_same_at_every_level(rule):
    levels = np.array([[2, 2, 2, 2, 1, 1], [2, 2, 2, 2, 1, 1], [2, 2, 2, 2, 0, 0], [2, 2, 2, 2, 0, 0]])
    flat = np.broadcast_to(np.array([0.3, -0.7, 0.1]), (8, 12, 3))
    patches = slow.merged(flat, PATCH, levels, PATCH, rule).patches
    assert_close(patches, np.broadcast_to(flat[:2, :2].ravel(), patches.shape), EXACT)


@given(seed=seeds, grid=grids)
@small
def test_values_of_tokens_fill_the_grid_and_come_back(seed, grid):
    """x[owner], then the mean over the cells of each token; each token owns 4^level cells."""
    levels = slow.cut_by_budget(slow.residual_scores(picture(seed, grid), PATCH, SCALES), budget(seed, grid))
    owner, first = slow.owner_map(levels), blocks_of(levels)
    x = np.random.default_rng(seed).normal(size=len(first))
    cells = np.bincount(owner.ravel())
    np.testing.assert_array_equal(cells, [4**s for _, _, s in first])
    assert_close(np.bincount(owner.ravel(), x[owner].ravel()) / cells, x, EXACT)
    assert [owner[y, x] for y, x, _ in first] == list(range(len(first)))


# packed rows --------------------------------------------------------------------------------------------


@st.composite
def rows_of_merged(draw):
    """A row of images with any mixture of levels and of patch sizes, some with dropped tokens."""
    rng, images, room = np.random.default_rng(draw(seeds)), [], T
    for grid in draw(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=I)):
        image, patch = int(rng.integers(2**32)), draw(patches)
        tokens = tokens_of(picture(image, grid, patch), budget(int(rng.integers(2**32)), grid), patch=patch)
        stay = np.sort(rng.permutation(len(tokens.patches))[: draw(st.integers(1, len(tokens.patches)))])
        if len(stay) <= room:
            images.append(tokens._replace(patches=tokens.patches[stay], coords=tokens.coords[stay]))
            room -= len(stay)
    return Packed(pack(images, range(len(images)), T, I), images) if images else draw(rows_of_merged())


jitted = eqx.filter_jit(lambda model, row: model(row))


def backend(row: Row) -> np.ndarray:
    return np.asarray(jitted(backbone(0, LEVELS), to_device(row)))


def params_of(config: ModelConfig = LEVELS) -> dict:
    return to_reference(backbone(0, config))


def reference(row: Row) -> np.ndarray:
    return slow.forward(params_of(), row)


@pytest.mark.parametrize("forward", [reference, backend])
@given(packed=rows_of_merged(), seed=seeds)
@settings(max_examples=5)
def test_packed_is_alone(forward, packed, seed):
    laws.gives_each_image_its_meaning(forward, partial(slow.forward_merged, params_of()), packed)
    order = np.random.default_rng(seed).permutation(len(packed.images)).tolist()
    laws.does_not_see_order(forward, packed, order)
    pad = packed.row.segment_ids == 0
    loud = packed.row._replace(
        patches=np.where(pad[:, None], np.nan, packed.row.patches),
        coords=np.where(pad[:, None], np.float32(1e4), packed.row.coords),
    )
    np.testing.assert_array_equal(forward(loud)[: len(packed.images)], forward(packed.row)[: len(packed.images)])


def test_level_and_place_are_seen():
    tokens, params = tokens_of(picture(0, (4, 4)), 3), params_of()
    want = slow.forward_merged(params, tokens)
    for axis in range(3):
        moved = tokens.coords.copy()
        moved[0, axis] += 1
        caught(assert_close, slow.forward_merged(params, tokens._replace(coords=moved)), want, 1e-3)


@eqx.filter_jit
@eqx.filter_grad
def gradient(model: NaViT, row) -> jax.Array:
    return (model(row) ** 2).sum()


def test_vectors_of_levels_are_zero_at_first_and_learn():
    config = replace(LEVELS, dtype="float32")
    fresh, row = initialize(config, 0), to_device(pack([tokens_of(picture(0, (4, 4)), 4)], [0], T, I))
    assert fresh.levels is not None and fresh.levels.vectors.shape == (SCALES - 1, CONFIG.width)
    without = eqx.tree_at(lambda m: m.levels, fresh, None)
    np.testing.assert_array_equal(jitted(fresh, row), jitted(without, row))
    assert np.abs(gradient(fresh, row).levels.vectors[0]).max() > 0


def test_levels_are_of_images():
    wrongs: Any = ({"patch": (1,)}, {"patch": (2, 8, 8), "tubelets": Tubelets()})
    for wrong in wrongs:
        with pytest.raises(ConfigError, match=r"model\.levels"):
            ModelConfig(**wrong, levels=Levels())
    with pytest.raises(ConfigError, match=r"model\.levels"):
        Levels(1)
