"""A class for every pixel of merged images: a token is read at each of its cells, and pixels count, not tokens."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import navit_eqx as navit
from data.adaptive import PlannedBlocks
from data.counts import of_source
from data.errors import DataError
from data.evaluation_plan import plan_evaluation
from data.plan import EpochPlans, plan_epoch
from data.rows import Pixels, PlannedRows
from data.sampling.augment import Augment
from data.sampling.dropping import Constant
from data.sampling.merge import Merge, MergeByThreshold, law_of
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.stream import Epochs
from data.tasks.segment import Segment, SegmentedRows
from navit_eqx.info import ModelInfo
from navit_eqx.preprocessing import Area, Preprocessing
from navit_eqx.preprocessing import Merge as MergeOptions
from navit_eqx.rows import Batch, to_device
from navit_eqx.tasks import segment as fast
from reference.adaptive import cut_by_budget, in_plane, most_quads, owner_map, residual_scores
from reference.rows import Row, Tokens
from reference.tasks import segment as slow
from tests.support.segment import CLASSES, DECODERS, PATCH, TASKS, Painted, encoded, painted, params_of, segmenter
from tests.support.strategies import CONFIG, I, random_model, seeds
from tests.support.tasks import fast_loss
from tests.support.tolerances import FLOAT64, assert_close
from tests.test_adaptive import rows_of_merged

decoders = pytest.mark.parametrize("decoder", DECODERS)
few, U, SIDE = settings(max_examples=3), 36 * I, (4, 4)


# cells --------------------------------------------------------------------------------------------------


def levels_of(seed: int, grid: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scores = residual_scores(rng.integers(0, 9, (*grid, 1)), (1, 1), 3)
    return cut_by_budget(scores, int(rng.integers(most_quads(np.array(grid), 3) + 1)))


def blocks_of(levels: np.ndarray) -> np.ndarray:
    """Coords (level, y, x) of the tokens of a partition."""
    first = [(y, x, s) for (y, x), s in np.ndenumerate(levels) if y % 2**s == x % 2**s == 0]
    return np.array([(s, y + 2**s / 2 - 0.5, x + 2**s / 2 - 0.5) for y, x, s in first], np.float32)


@given(seed=seeds, grid=st.tuples(st.integers(1, 9), st.integers(1, 9)), shuffled=st.booleans())
@settings(max_examples=10)
def test_cells_know_their_token(seed, grid, shuffled):
    """As `owner_map` says, in any order of the tokens; each cell once; padding last."""
    levels = levels_of(seed, grid)
    coords, count = blocks_of(levels), grid[0] * grid[1]
    order = np.random.default_rng(seed).permutation(len(coords)) if shuffled else np.arange(len(coords))
    cells = slow.cells_of(coords[order], np.ones(len(coords), int), count + 3)
    owner = np.full(grid, -1)
    owner[tuple(cells.coords[:count].T)] = order[cells.owner[:count]]
    np.testing.assert_array_equal(owner, owner_map(levels))
    assert (cells.segment_ids == [1] * count + [0] * 3).all()
    level, place = cells.part[:count, 0], cells.part[:count, 1:]
    np.testing.assert_array_equal(level, levels[tuple(cells.coords[:count].T)])
    np.testing.assert_array_equal(place, cells.coords[:count] % 2 ** level[:, None])
    with pytest.raises(ValueError, match="room for"):
        slow.cells_of(coords, np.ones(len(coords), int), count - 1)


@given(grid=st.tuples(st.integers(1, 40), st.integers(1, 40)), rate=st.floats(0, 1), scales=st.integers(2, 4))
@settings(max_examples=20)
def test_a_row_has_room_for_the_cells_of_its_tokens(grid, rate, scales):
    """Whatever the image; without merging there are as many cells as tokens."""
    quads = int(rate * most_quads(np.array(grid), scales) + 1e-9)
    assert grid[0] * grid[1] <= slow.most_cells(grid[0] * grid[1] - 3 * quads, rate, scales)
    assert slow.most_cells(grid[0], 0.0, scales) == grid[0]


# losses -------------------------------------------------------------------------------------------------


def targets_of(row: Row, seed: int) -> slow.CellTargets:
    """Random labels, a third of the pixels without."""
    rng, cells = np.random.default_rng(seed), slow.cells_of(row.coords, row.segment_ids, U)
    labels = rng.integers(0, CLASSES, (U, *PATCH)).astype(np.uint8)
    labels[rng.random(labels.shape) < 1 / 3] = slow.IGNORE
    labels[cells.segment_ids == 0] = slow.IGNORE
    around = slow.neighbors(cells.coords, cells.segment_ids, row.grids[:, 1:].astype(int))
    return slow.CellTargets(labels, around, cells.owner, cells.part)


def plain(row: Row) -> Row:
    """The row as a model without levels reads it."""
    _, (patches, coords, grids) = in_plane({"patch_embedding": None}, Tokens(row.patches, row.coords, row.grids))
    return row._replace(patches=patches, coords=coords, grids=grids)


@eqx.filter_jit
def fast_outputs(model: Any, row: Row, targets: Any) -> Any:
    """Outputs of the cells of a row."""
    return model.task.cell_outputs(model(row), targets.owner, targets.part)


def on_device(row: Row, targets: slow.CellTargets) -> Batch:
    return Batch(to_device(row), fast.Targets(*map(jnp.asarray, targets)))


@decoders
@given(packed=rows_of_merged(), seed=seeds)
@few
def test_both_sides_agree_and_packed_is_alone(decoder, packed, seed):
    """Outputs of cells, loss and count of a row; those of a row are the sums of the images alone."""
    params, row = params_of(decoder), packed.row
    targets, x = targets_of(row, seed), encoded(params, plain(row))
    batch = on_device(row, targets)
    outputs = slow.cell_outputs(params["task"], slow.predict(params["task"], x), targets.owner, targets.part)
    real = targets.labels.min((1, 2)) < slow.IGNORE
    assert_close(np.asarray(fast_outputs(segmenter(decoder), *batch))[real], outputs[real], FLOAT64)
    want, count = slow.loss(params["task"], x, targets)
    total, number, _ = fast_loss(segmenter(decoder), batch)
    assert int(number) == count
    assert_close(float(total), want, FLOAT64)
    parts = []
    for slot in range(len(packed.images)):
        away = (row.segment_ids != slot + 1)[targets.owner]
        parts.append(
            slow.loss(params["task"], x, targets._replace(labels=np.where(away[:, None, None], 255, targets.labels)))
        )
    assert_close(sum(p for p, _ in parts), want, FLOAT64)
    assert sum(n for _, n in parts) == count


@decoders
def test_a_block_has_the_class_of_its_owner(decoder):
    """At the pixels of a photograph: all of a block, or, with a class for each pixel of a token, as it was read."""
    rng, levels, (p, q) = np.random.default_rng(0), np.array([[2] * 4 + [1] * 2] * 4), PATCH
    levels[2:, 4:] = 0
    coords = blocks_of(levels)
    outputs = rng.normal(size=(len(coords), CLASSES * (p * q if decoder == "pixels" else 1)))
    params, grid = {"decoder": decoder, "patch": PATCH}, [3, 4, 6]
    size = (4 * p, 6 * q) if decoder == "pixels" else (4, 6)
    got = slow.native_logits(params, outputs, coords, grid, size)
    assert_close(segmenter(decoder).task.native_logits(outputs, coords, grid, size), got, FLOAT64)
    for output, (s, y, x) in zip(outputs, coords):
        side = 2 ** int(s)
        top, left = (int(n + 0.5 - side / 2) for n in (y, x))
        own = output.reshape(p, q, -1) if decoder == "pixels" else output.reshape(1, 1, -1)
        a, b = own.shape[:2]
        block = got[top * a : (top + side) * a, left * b : (left + side) * b]
        np.testing.assert_array_equal(block, own.repeat(side, 0).repeat(side, 1))
    larger = slow.native_logits(params, outputs, coords, grid, (37, 23))
    assert_close(segmenter(decoder).task.native_logits(outputs, coords, grid, (37, 23)), larger, FLOAT64)


# rows ---------------------------------------------------------------------------------------------------


def rows_of(
    source: Painted, merge: Merge | MergeByThreshold | None, augment: Augment | None = None, seed: int = 0
) -> PlannedRows:
    """All rows of an epoch at native size."""
    how: dict[str, Any] = dict(patch_size=SIDE, packing=Packing(25, 6), longest_side=99)
    law = of_source(law_of(Native(1, 1), merge), source, SIDE)
    if isinstance(merge, MergeByThreshold):
        plan = plan_evaluation(source.manifest.sizes, resolution=law, **how)
    else:
        how |= dict(seed=seed, epoch=0, dropping=Constant(0.0))
        plan = plan_epoch(source.manifest.sizes, resolution=law, **how)
    kind = PlannedRows if merge is None else partial(PlannedBlocks, merge=merge)
    return kind(source, Epochs(lambda place: plan), len(plan.image_ids), Pixels(SIDE), 25, seed, augment)


MERGE, TURNED, FLAT = Merge(0.7, rule="area"), Augment(flip=True, quarter_turns=True), MergeByThreshold((9.0, 9.0))


@pytest.mark.parametrize("merge, augment", [(MERGE, None), (MERGE, TURNED), (FLAT, None)])
def test_labels_are_those_of_the_pixels(merge, augment):
    """Where the first channel is the mask, the cells of a row hold all pixels of its images, merged or not."""
    source = painted(3, 9, 4)
    rows = rows_of(source, merge, augment)
    for index in range(0, len(rows), 2):
        row, targets = SegmentedRows(rows, SIDE)[index]
        assert len(targets.labels) == slow.most_cells(25, merge.highest, 3)
        for slot in range(int(row.segment_ids.max())):
            here = (row.segment_ids[targets.owner] == slot + 1) & (targets.labels.min((1, 2)) < slow.IGNORE)
            rows_, columns = row.grids[slot, 1:].astype(int)
            assert here.sum() == rows_ * columns  # pixels count, not tokens
            mask = source.mask(int(row.image_ids[slot]))
            np.testing.assert_array_equal(np.sort(targets.labels[here].ravel()), np.sort(mask.ravel()))


@lru_cache
def unmerged() -> tuple[Any, Any]:
    source = painted(5, 6, 4)
    return [SegmentedRows(rows_of(source, m), SIDE)[0] for m in (None, Merge(1e-6, rule="area"))]


@decoders
def test_nothing_merged_is_what_it_was(decoder):
    """To the bit: labels, neighbors, outputs and loss."""
    (row, want), (merged, got) = unmerged()
    np.testing.assert_array_equal(got.labels, want.labels)
    real = row.segment_ids > 0
    np.testing.assert_array_equal(got.neighbors[real], want.neighbors[real])
    np.testing.assert_array_equal(got.owner[real], np.flatnonzero(real))
    assert len(got.owner) == len(row.segment_ids) and not got.part.any()
    task: Any = segmenter(decoder).task
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(len(real), task.head.w.shape[-1])))
    labels = got.labels[:, : PATCH[0], : PATCH[1]]
    one = task.pixel_loss(outputs, fast.Targets(jnp.asarray(labels), jnp.asarray(want.neighbors)))
    where = map(jnp.asarray, (labels, want.neighbors, got.owner, got.part))
    other = task.pixel_loss(outputs, fast.Targets(*where))
    assert [float(x) for x in one[:2]] == [float(x) for x in other[:2]]


# front door, refusals -----------------------------------------------------------------------------------


def test_masks_of_merged_images_have_the_size_of_the_photograph():
    """`navit.segment` and the data side, which read the same rows."""
    info = ModelInfo(tuple("abcd"), Preprocessing(Area(10), merge=MergeOptions(0.5)))
    model = random_model(replace(CONFIG, dtype="float32"), TASKS["pixels"], info)
    images = [np.random.default_rng(i).integers(0, 256, (20 + i, 31, 3)).astype(np.uint8) for i in range(2)]
    masks = [m for m in navit.segment(model, images) if m is not None]
    assert [m.shape for m in masks] == [(20, 31), (21, 31)]
    batch = navit.pack(images, model)
    values, batch = np.asarray(navit.forward(model, batch)), Row(*map(np.asarray, batch))
    data_task = Segment(decoder="pixels", patch=PATCH)
    found = data_task.masks(batch, values, painted_like(images).manifest)
    for i, mask in enumerate(masks):
        np.testing.assert_array_equal(found[i], mask)


def painted_like(images: list[np.ndarray]) -> Painted:
    return Painted(images, tuple(str(i) for i in range(256)))


def test_dropped_tokens_have_no_cells():
    sampling = {"resolution": law_of(Native(1, 1), Merge(0.5)), "dropping": Constant(0.3)}
    with pytest.raises(DataError, match="leaves some out"):
        Segment(decoder="pixels", patch=SIDE).plans(EpochPlans(painted(0, 2, 4), sampling), 1)


def test_a_mirrored_block_is_caught(monkeypatch):
    right = slow.cell_outputs
    monkeypatch.setattr(slow, "cell_outputs", lambda p, o, owner, part: right(p, o, owner, part * [1, 1, 0]))
    with pytest.raises(AssertionError):
        test_a_block_has_the_class_of_its_owner("pixels")
