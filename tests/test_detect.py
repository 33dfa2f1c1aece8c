"""Detection: both sides agree, packing is not observable, boxes are matched within their image at the least cost."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from navit_eqx import boxes as fast_boxes
from navit_eqx.rows import Batch as DeviceBatch
from navit_eqx.rows import to_device
from navit_eqx.tasks import detect as fast
from navit_eqx.tasks.model import Model
from navit_eqx.weights.bridge import to_reference
from reference import boxes, model
from reference.patches import raster
from reference.rows import Batch, Row, pack
from reference.tasks import detect as slow
from tests.support import laws
from tests.support.detect import CLASSES, MOST, TASKS, boxes_of, detector, reference_of, slow_sums
from tests.support.rounding import call
from tests.support.strategies import CONFIG, I, Packed, T, empty_row, rows, seeds, tokens_of
from tests.support.tolerances import FINITE_DIFFERENCE, FLOAT32, FLOAT64, STEP, assert_close

PARAMS = {name: to_reference(detector(name)) for name in TASKS}
every_rule = pytest.mark.parametrize("name", TASKS)


@eqx.filter_jit
def sums(model, batch):
    return model.loss(batch, jr.key(0))


@eqx.filter_jit
def gradient(model, batch):
    return eqx.filter_grad(lambda model: model.loss(batch, jr.key(0))[0])(model)


def on_device(*batches: Batch) -> DeviceBatch:
    """A batch of rows as the backend reads it."""
    row, targets = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *batches)
    return DeviceBatch(to_device(row), fast.Targets(*targets))


def batch_of(packed: Packed, seed: int) -> Batch:
    return Batch(packed.row, boxes_of(packed.row, seed))


def detected(name: str, row: Row) -> np.ndarray:
    return np.asarray(call(detector(name), to_device(row)))


# both sides -----------------------------------------------------------------------------------------


@every_rule
@given(packed=st.tuples(rows(), rows()), seed=seeds)
@settings(max_examples=10)
def test_loss_and_detections_agree(name, packed, seed):
    """Of a batch of rows, also of rows without a box or an image."""
    batches = [batch_of(p, seed + n) for n, p in enumerate(packed)]
    total, count, extras = sums(detector(name), on_device(*batches))
    want = [slow_sums(PARAMS[name], batch) for batch in batches]
    assert int(count) == sum(n for _, n in want)
    assert_close(total, sum(part for part, _ in want), FLOAT64)
    assert 0 <= int(extras["matched_accuracy"]) <= int(count) and 0 <= float(extras["matched_iou"]) <= int(count)
    for batch in batches:
        tokens, _ = model.encode(PARAMS[name]["backbone"], batch.row)
        params = reference_of(PARAMS[name], CLASSES)
        assert_close(detected(name, batch.row), slow.predict(params, tokens, batch.row), FLOAT64)


@every_rule
@given(packed=rows(least=2), seed=seeds)
@settings(max_examples=5)
def test_gradient_is_that_of_the_numpy_model(name, packed, seed):
    """Along a random direction, against central differences: matching is fixed where costs change little."""
    rng = np.random.default_rng(seed)
    batch, module = batch_of(packed, seed), detector(name)
    arrays, static = eqx.partition(module, eqx.is_array)
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), arrays)
    found = eqx.filter(gradient(module, on_device(batch)), eqx.is_array)
    slope = sum(float((g * d).sum()) for g, d in zip(jax.tree.leaves(found), jax.tree.leaves(direction)))

    def at(step):
        shifted = jax.tree.map(lambda a, d: a + step * d, arrays, direction)
        return slow_sums(to_reference(eqx.combine(shifted, static)), batch)[0]

    size = float(np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(found))))
    assert abs((at(STEP) - at(-STEP)) / (2 * STEP) - slope) <= FINITE_DIFFERENCE * max(1.0, size)


# packing --------------------------------------------------------------------------------------------


def alone(packed: Packed, slot: int) -> Row:
    return pack([packed.images[slot]], [0], T, I)


@pytest.mark.parametrize("name", ["hungarian", "texts"])
@given(packed=rows())
@settings(max_examples=10)
def test_packed_is_alone(name, packed):
    """An image has the detections that it has alone in a row; an empty slot has none."""
    found = detected(name, packed.row)
    for slot in range(len(packed.images)):
        assert_close(found[slot], detected(name, alone(packed, slot))[0], FLOAT64)
    assert (found[len(packed.images) :, :, 5] == -1).all() and (found[len(packed.images) :, :, :5] == 0).all()


@given(packed=rows(), rubbish=st.sampled_from([np.nan, np.inf, 1e6]))
@settings(max_examples=10)
def test_padding_and_order_do_not_matter(packed, rubbish):
    laws.ignores_padding(partial(detected, "hungarian"), packed, rubbish)
    order = list(range(len(packed.images)))[::-1]
    assume(order)
    laws.does_not_see_order(partial(detected, "hungarian"), packed, order)


def test_nothing_in_padding_reaches_the_heads():
    """Attention may leave anything there."""
    row = pack([packed_image((3, 4))], [0], T, I)
    tokens, pad = np.random.default_rng(1).normal(size=(T, CONFIG.width)), (row.segment_ids == 0)[:, None]
    task = detector("hungarian").task
    proposals = lambda x: task.propose(jnp.asarray(np.where(pad, x, tokens)), to_device(row), task.class_head)
    for clean, spoiled in zip(proposals(0), proposals(np.nan), strict=True):
        np.testing.assert_array_equal(clean, spoiled)


@every_rule
@given(packed=rows(least=2), seed=seeds)
@settings(max_examples=10)
def test_the_loss_of_a_row_is_the_sum_over_its_images(name, packed, seed):
    """Nor does it matter in which order boxes stand."""
    batch = batch_of(packed, seed)
    total, count, _ = sums(detector(name), on_device(batch))
    parts = []
    for slot in range(len(packed.images)):
        ids = (batch.targets.box_segment_ids == slot + 1).astype(np.int32)
        parts.append(Batch(alone(packed, slot), batch.targets._replace(box_segment_ids=ids)))
    apart = [sums(detector(name), on_device(part))[:2] for part in parts]
    assert int(count) == sum(int(n) for _, n in apart)
    assert_close(total, sum(float(part) for part, _ in apart), FLOAT64)
    order = np.random.default_rng(seed).permutation(MOST)
    shuffled = batch._replace(targets=slow.Targets(*(leaf[order] for leaf in batch.targets)))
    assert_close(sums(detector(name), on_device(shuffled))[0], total, FLOAT64)


@every_rule
def test_nothing_to_find_is_finite(name):
    """A row without an image, and images without a box."""
    for row in (empty_row(), pack([packed_image((2, 3))], [0], T, I)):
        nothing = slow.Targets(np.zeros((MOST, 4)), np.zeros(MOST, np.int32), np.zeros(MOST, np.int32))
        total, count, _ = sums(detector(name), on_device(Batch(row, nothing)))
        assert np.isfinite(total) and int(count) == 0
        assert all(
            np.isfinite(g).all() for g in jax.tree.leaves(gradient(detector(name), on_device(Batch(row, nothing))))
        )


def packed_image(grid):
    return tokens_of(np.random.default_rng(0), grid)


# boxes ----------------------------------------------------------------------------------------------


@given(grid=st.tuples(st.integers(2, 40), st.integers(2, 40)))
def test_a_token_starts_from_its_own_cell(grid):
    """Cells tile the image: each holds the middle of its own token alone, with its own width and height."""
    coords = raster(grid)
    places = slow.cells(coords, np.tile(grid, (len(coords), 1)))
    edges = boxes.corners(places)
    assert_close(edges[:, :2], coords[:, ::-1] / np.array(grid[::-1]), FLOAT64)
    assert_close(edges[:, 2:], (coords[:, ::-1] + 1) / np.array(grid[::-1]), FLOAT64)
    assert_close(slow.sigmoid(slow.logit(places)), places, FLOAT64)
    fresh = slow.Proposals(np.zeros((len(coords), 1)), slow.sigmoid(slow.logit(places)))
    assert_close(fresh.boxes, places, FLOAT64)


def some_boxes(seed: int, count: int) -> np.ndarray:
    """Boxes anywhere, among them points, lines, and equal ones."""
    rng = np.random.default_rng(seed)
    found = np.concatenate([rng.random((count, 2)), rng.uniform(0.01, 1, (count, 2))], -1)
    found[rng.random(count) < 0.2, 2] = 0
    found[rng.random(count) < 0.2, 3] = 0
    return np.concatenate([found[: count // 2], found[rng.permutation(count)[: count - count // 2]]])


@given(seed=seeds)
def test_overlaps(seed):
    """GIoU is symmetric, in [−1, 1], at most IoU, equal to it where one box holds the other; both sides agree."""
    a, b = some_boxes(seed, 12), some_boxes(seed + 1, 12)
    found, least = boxes.iou(a[:, None], b[None]), boxes.giou(a[:, None], b[None])
    assert_close(least, boxes.giou(b[:, None], a[None]).T, FLOAT64)
    assert (least >= -1 - FLOAT64).all() and (least <= found + FLOAT64).all() and (found <= 1 + FLOAT64).all()
    inner = np.concatenate([a[:, :2], a[:, 2:] * 0.5], -1)
    assert_close(boxes.giou(a, inner), boxes.iou(a, inner), FLOAT64)
    for name in ("iou", "giou"):
        got = call(getattr(fast_boxes, name), jnp.asarray(a[:, None]), jnp.asarray(b[None]))
        assert_close(got, getattr(boxes, name)(a[:, None], b[None]), FLOAT64)


slope = jax.grad(lambda a, b: fast_boxes.giou(a, b).sum(), argnums=(0, 1))


@given(seed=seeds)
def test_degenerate_boxes_have_finite_gradients(seed):
    a, b = some_boxes(seed, 8), some_boxes(seed + 1, 8)
    b[:4] = a[:4]
    assert all(np.isfinite(leaf).all() for leaf in call(slope, jnp.asarray(a), jnp.asarray(b)))


def test_an_error_of_a_pixel_costs_the_same_on_both_axes():
    """On an image of 4 x 40 patches of 2 x 1 pixels: 8 high, 40 wide."""
    scale = slow.units(np.array([[4, 40]]), (2, 1), "longer side")[0]
    assert_close(scale * np.array([1 / 40, 1 / 8, 1 / 40, 1 / 8]), np.full(4, 1 / 40), FLOAT64)
    np.testing.assert_array_equal(slow.units(np.array([[4, 40]]), (2, 1), "image"), np.ones((1, 4)))


# matching -------------------------------------------------------------------------------------------


def costs_of(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A row of several images with their boxes: costs with many ties, segment ids of tokens and boxes."""
    rng = np.random.default_rng(seed)
    tokens = np.sort(rng.integers(0, 4, T))[::-1]
    tokens = np.where(tokens > 0, 4 - tokens, 0).astype(np.int32)
    places = rng.permutation(np.flatnonzero(tokens))[: rng.integers(0, MOST + 1)]
    ids = np.zeros(MOST, np.int32)
    ids[: len(places)] = tokens[places]
    return (
        rng.integers(-3, 4, (T, MOST)) + rng.integers(0, 2) * rng.normal(size=(T, MOST)),
        tokens,
        rng.permutation(ids),
    )


@pytest.mark.parametrize("on, dtype", [("device", float), ("host", float), ("device", np.float32)])
@given(seed=seeds)
@settings(max_examples=15)
def test_boxes_are_matched_within_their_image_at_the_least_cost(on, dtype, seed):
    cost, tokens, ids = costs_of(seed)
    cost = cost.astype(dtype).astype(float)
    matched = np.asarray(call(fast.hungarian, jnp.asarray(cost, dtype), jnp.asarray(tokens), jnp.asarray(ids), on))
    there = ids > 0
    assert (matched[~there] == -1).all() and len({*matched[there].tolist()}) == there.sum()
    np.testing.assert_array_equal(tokens[matched[there]], ids[there])
    least = 0.0
    for image in range(1, 4):
        part = cost[np.ix_(tokens == image, ids == image)]
        least += part[linear_sum_assignment(part)].sum()
    limit = FLOAT64 if dtype is float else FLOAT32
    assert abs(cost[matched[there], np.flatnonzero(there)].sum() - least) <= limit * max(1, abs(least))
    want = slow.hungarian(cost, tokens, ids)
    assert abs(cost[want[there], np.flatnonzero(there)].sum() - least) <= FLOAT64 * max(1, abs(least))


@given(seed=seeds, wrong=st.sampled_from([np.nan, np.inf, -np.inf, 1e30]))
def test_a_cost_that_is_not_finite_is_the_dearest(seed, wrong):
    """The search ends, every box has a token of its own image, and no such pair is chosen where another is left."""
    cost, tokens, ids = costs_of(seed)
    spoiled = np.where(np.random.default_rng(seed).random(cost.shape) < 0.2, wrong, cost)
    matched = np.asarray(call(fast.hungarian, jnp.asarray(spoiled), jnp.asarray(tokens), jnp.asarray(ids), "device"))
    there = ids > 0
    np.testing.assert_array_equal(tokens[matched[there]], ids[there])
    known = np.where(np.isfinite(spoiled), np.clip(spoiled, -1e3, 1e3), 1e3)
    want = slow.hungarian(known, tokens, ids)
    columns = np.flatnonzero(there)
    assert_close(known[matched[there], columns].sum(), known[want[there], columns].sum(), 1e-9)


def test_more_boxes_than_tokens():
    """The plan sets such an image aside; here none is matched across images, and the reference refuses."""
    tokens = np.repeat([1, 2, 0], [3, 15, 6]).astype(np.int32)
    ids = np.repeat([1, 2], [5, 7]).astype(np.int32)
    cost = np.random.default_rng(0).normal(size=(T, MOST))
    matched = np.asarray(call(fast.hungarian, jnp.asarray(cost), jnp.asarray(tokens), jnp.asarray(ids), "device"))
    assert (matched[:5] >= 0).sum() == 3 and (matched[5:] >= 0).all()
    assert all(tokens[t] == i for t, i in zip(matched, ids) if t >= 0)
    with pytest.raises(ValueError, match="slot 0 has 5 boxes and 3 tokens"):
        slow.hungarian(cost, tokens, ids)
    with pytest.raises(ValueError, match="task.boxes=12 exceeds the 8 tokens"):
        fast.hungarian(jnp.asarray(cost[:8]), jnp.asarray(tokens[:8]), jnp.asarray(ids))


@given(packed=rows(least=1), seed=seeds)
def test_centre_takes_the_nearest_free_token(packed, seed):
    """The smallest box has the nearest token of its image, no token has two boxes, and the order is free."""
    row, targets = packed.row, boxes_of(packed.row, seed)
    grids = np.maximum(row.grids[np.maximum(row.segment_ids, 1) - 1], 1)
    places, scale = slow.cells(row.coords, grids), np.ones((MOST, 4))
    want = slow.centre(places, targets, scale, row.segment_ids)
    got = call(
        fast.centre,
        *map(jnp.asarray, (places,)),
        fast.Targets(*map(jnp.asarray, targets)),
        jnp.asarray(scale),
        jnp.asarray(row.segment_ids),
    )
    np.testing.assert_array_equal(got, want)
    there = np.flatnonzero(targets.box_segment_ids)
    assert (want[targets.box_segment_ids == 0] == -1).all() and len({*want[there].tolist()}) == len(there)
    np.testing.assert_array_equal(row.segment_ids[want[there]], targets.box_segment_ids[there])
    if len(there):
        first = there[targets.boxes[there, 2:].prod(-1).argmin()]
        mine = row.segment_ids == targets.box_segment_ids[first]
        distance = np.hypot(*(places[:, :2] - targets.boxes[first, :2]).T)
        assert distance[want[first]] <= distance[mine].min() + FLOAT64


# detections -----------------------------------------------------------------------------------------


def test_a_token_may_be_found_with_several_classes():
    """The best of all tokens and classes, not the best class of the best tokens; fewer than K are filled up."""
    logits = np.array([[3.0, 2.0], [1.0, -1.0], [9.0, 9.0]])
    proposals = slow.Proposals(logits, np.arange(12.0).reshape(3, 4))
    found = slow.detections(proposals, np.array([2, 2, 0]), 2, 5)
    assert found[1, :, 5].tolist() == [0, 1, 0, 1, -1] and found[1, :, 0].tolist() == [0, 0, 4, 4, 0]
    assert_close(found[1, :4, 4], slow.sigmoid(np.array([3.0, 2.0, 1.0, -1.0])), FLOAT64)
    assert (found[0, :, 5] == -1).all()
    got = call(fast.detections, fast.Proposals(*map(jnp.asarray, proposals)), jnp.asarray([2, 2, 0]), 2, 5)
    assert_close(got, found, FLOAT64)


def test_a_fresh_model_finds_nothing_with_confidence():
    """All probabilities are 0.01 and every box is a cell."""
    fresh = Model(CONFIG, TASKS["hungarian"], key=jr.key(0))
    row = pack([packed_image((2, 3))], [0], T, I)
    found = np.asarray(call(fresh, to_device(row)))[0]
    assert_close(found[:, 4], np.full(len(found), fast.PRIOR), 1e-6)
    assert_close(found[:, 2:4], np.tile([1 / 3, 1 / 2], (len(found), 1)), 1e-6)
    assert CLASSES == fresh.task.class_head.w.shape[1]
