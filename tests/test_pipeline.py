"""The stream of rows: random access, the same for any number of workers and hosts, and no image sees another."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.augment import crop_box, recolor
from data.errors import BadImage
from data.geometry import sample_geometry
from data.manifest import Manifest
from data.pipeline import HostShard, batches
from data.plan import Plan
from data.rows import PlannedRows
from data.sampling.augment import Augment
from data.sampling.dropping import Beta, Constant
from data.sources.decode import resize
from data.sources.digits import DigitStrips
from data.sources.source import Arrays
from data.stream import Epochs
from data.tasks import DataTask
from data.tasks.classify import Classify
from reference.patches import patchify
from reference.rows import Batch, Row
from tests.support import laws
from tests.support.strategies import seeds
from tests.support.stream import PATCH, I, T, images_in, plans_of, same, stream
from tests.support.tolerances import PIXEL

HARD = Augment(flip=True, crop=0.4, stretch=0.3, jitter=0.3)

rng = np.random.default_rng(0)
IMAGES = [rng.integers(0, 256, (*rng.integers(4, 40, 2), 3), np.uint8) for _ in range(30)]
LABELS = rng.integers(0, 5, len(IMAGES)).astype(np.int32)
ARRAYS = Arrays(IMAGES, LABELS, tuple("abcde"))
TASK = Classify()


@dataclass
class Spoilt:
    """Arrays of which some cannot be read."""

    bad: frozenset[int]
    manifest: Manifest = ARRAYS.manifest

    def image(self, index: int, shrink: int = 1) -> np.ndarray:
        if index in self.bad:
            raise BadImage("spoilt")
        return IMAGES[index]


PLANS = plans_of(ARRAYS, Constant(0.3))


def rows_of(source=ARRAYS, plans=PLANS, augment: Augment | None = HARD, seed: int = 7) -> PlannedRows:
    """The stream of the tests."""
    return stream(source, plans, augment, seed)


def labelled(rows: PlannedRows, index: int, task: DataTask = TASK) -> Batch:
    """A row with its targets."""
    return task.batches(rows)[index]


def all_same(a: list[Row], b: list[Row]) -> None:
    for x, y in zip(a, b, strict=True):
        same(x, y)


ROWS = [rows_of()[g] for g in range(len(rows_of()))]


def test_rows_hold_what_the_plan_says():
    assert len(PLANS[0].image_ids) > 3
    label_of = dict(enumerate(LABELS.tolist()))
    r = 0
    for plan in PLANS:
        for image_ids, grids, kept in zip(*plan[:3]):
            row, r = ROWS[r], r + 1
            laws.gives_slots_their_labels(labelled(rows_of(), r - 1), label_of)
            np.testing.assert_array_equal(row.image_ids, image_ids)
            np.testing.assert_array_equal(row.grids, grids)
            np.testing.assert_array_equal([(row.segment_ids == s + 1).sum() for s in range(I)], kept)
            assert row.patches.dtype == np.uint8 and row.patches.shape == (T, 3 * 4 * 4)
            assert not row.patches[row.segment_ids == 0].any()


@given(order=st.lists(st.integers(0, len(ROWS) - 1), max_size=12))
@example([len(ROWS) - 1, 0, len(ROWS) - 1])
def test_random_access_is_sequential_access(order):
    rows = rows_of()
    for g in order:
        same(rows[g], ROWS[g])


def test_an_epoch_is_planned_once_in_sequence_and_two_are_kept():
    asked = []
    epochs = Epochs(lambda block: asked.append(block) or PLANS[block])
    first = len(PLANS[0].image_ids)
    places = [epochs.locate(g) for g in range(len(ROWS))]
    assert asked == [0, 1, 2] and len(epochs.kept) == 2
    assert [places[g][0::2] for g in (0, first - 1, first)] == [(0, 0), (0, first - 1), (1, 0)]
    assert epochs.locate(0)[:2] == (0, PLANS[0]) and asked == [0, 1, 2, 0]


def test_blocks_follow_each_other_within_their_epoch():
    """Three blocks as an epoch and a half of two: the rows are where they were, the epoch is that of the block."""
    plain, blocks = Epochs(PLANS.__getitem__), Epochs(PLANS.__getitem__, 2)
    for g in range(len(ROWS)):
        (block, plan, r), (epoch, same_plan, same_r) = plain.locate(g), blocks.locate(g)
        assert epoch == block // 2 and same_plan is plan and same_r == r
    assert pickle.loads(pickle.dumps(blocks)).blocks == 2


def test_every_epoch_draws_its_own_pixels():
    """The same image is cropped and dropped anew: no two epochs show it alike."""
    a, b = ({k: v for row in rows for k, v in images_in(row).items()} for rows in epochs_of(ROWS)[:2])
    assert a.keys() == b.keys() == set(range(len(IMAGES)))
    assert not any(np.array_equal(a[i][0], b[i][0]) for i in a)


def epochs_of(rows: list[Row]) -> list[list[Row]]:
    ends = np.cumsum([len(plan.image_ids) for plan in PLANS])
    return [rows[start:end] for start, end in zip([0, *ends], ends)]


def test_threads_read_what_one_thread_reads():
    """Each in an order of its own, so that they ask for different epochs at once."""
    rows = rows_of()

    def read(seed: int) -> None:
        for g in np.random.default_rng(seed).permutation(len(ROWS)).tolist():
            same(rows[g], ROWS[g])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(4)))


def test_rows_travel_by_pickle():
    same(pickle.loads(pickle.dumps(rows_of()))[5], ROWS[5])


def batched(rows: list[Row], size: int) -> list[Row]:
    groups = [rows[k : k + size] for k in range(0, len(rows) - size + 1, size)]
    return [Row(*(np.stack(leaf) for leaf in zip(*group))) for group in groups]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_batches_are_rows_in_order_without_a_rest(size):
    all_same(list(batches(rows_of(), size)), batched(ROWS, size))


@pytest.mark.parametrize("start", [0, 1, 3, len(ROWS) // 2])
def test_to_start_at_a_batch_is_to_skip_those_before(start):
    all_same(list(batches(rows_of(), 2, start=start)), batched(ROWS, 2)[start:])


@pytest.mark.parametrize("hosts", [2, 4])
def test_the_batches_of_all_hosts_are_the_batches_of_one(hosts):
    shares = [list(batches(rows_of(), 4, start=1, host=h, hosts=hosts)) for h in range(hosts)]
    together = [Row(*map(np.concatenate, zip(*parts))) for parts in zip(*shares, strict=True)]
    all_same(together, batched(ROWS, 4)[1:])
    assert len(HostShard(rows_of(), 4, 0, hosts)) * hosts == len(ROWS) // 4 * 4


def test_hosts_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match="a batch of 4 rows cannot be shared by 3 hosts"):
        batches(rows_of(), 4, hosts=3)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_workers_make_the_stream_of_none(workers):
    found = batches(rows_of(), 2, start=1, workers=workers)
    try:
        all_same([next(found) for _ in range(5)], list(batches(rows_of(), 2, start=1))[:5])
    finally:
        found.close()


@pytest.mark.parametrize("fill", ["none", "rate", "resolution"])
def test_digit_strips_keep_their_labels(fill):
    strips = DigitStrips("train", 60, 0)
    rows = rows_of(strips, plans_of(strips, Beta(0.5, 0.9), fill=fill))
    label_of = dict(enumerate(strips.manifest.labels.tolist()))
    for g in range(len(rows)):
        laws.gives_slots_their_labels(labelled(rows, g), label_of)


@given(bad=st.frozensets(st.integers(0, len(IMAGES) - 1)))
@example(frozenset(range(len(IMAGES))))
def test_a_bad_image_leaves_an_empty_slot_and_its_neighbours_alone(bad):
    rows, label_of = rows_of(Spoilt(bad)), dict(enumerate(LABELS.tolist()))
    for g in range(len(PLANS[0].image_ids)):
        (row, targets), whole = labelled(rows, g), images_in(ROWS[g])
        laws.gives_slots_their_labels(Batch(row, targets), label_of)
        assert sorted(row.image_ids) == sorted(ROWS[g].image_ids)
        assert set(row.image_ids[(targets.labels < 0) & (row.image_ids >= 0)]) == whole.keys() & bad
        assert not row.grids[targets.labels < 0].any()
        left = images_in(row)
        assert left.keys() == whole.keys() - bad
        for i, tokens in left.items():
            for a, b in zip(tokens, whole[i]):
                np.testing.assert_array_equal(a, b)


def test_a_full_row_of_bad_images_is_padding_that_names_them():
    ids = np.arange(I, dtype=np.int32)[None]
    plan = Plan(ids, np.ones((1, I, 2), np.int32), np.ones((1, I), np.int32), np.full((1, I, 2), PATCH), ())
    row, targets = labelled(rows_of(Spoilt(frozenset(range(I))), [plan]), 0)
    assert row.image_ids.tolist() == list(range(I))
    assert (targets.labels == -1).all() and not row.segment_ids.any()
    assert not row.patches.any() and not row.grids.any()


@given(place=st.permutations(range(4)), augment=st.sampled_from([None, Augment(), HARD]))
def test_tokens_do_not_depend_on_row_or_neighbours(place, augment):
    ids = np.array([3, 11, 17, 29])
    grids = np.array([[2, 3], [3, 1], [2, 2], [1, 4]], np.int32)
    kept = np.array([4, 3, 2, 1], np.int32)

    def load(order: list[int], epoch: int = 1) -> dict:
        empty = I - len(order)
        return images_in(
            rows_of(augment=augment).load(
                epoch,
                np.pad(ids[order], (0, empty), constant_values=-1),
                np.pad(grids[order], [(0, empty), (0, 0)]),
                np.pad(kept[order], (0, empty)),
                np.full((I, 2), PATCH),
            )[0]
        )

    together = load(list(place))
    for k in range(4):
        (alone,) = load([k]).values()
        for a, b in zip(alone, together[int(ids[k])]):
            np.testing.assert_array_equal(a, b)


def test_dropped_tokens_are_those_of_the_whole_image():
    image, grid = IMAGES[3], np.array([3, 4], np.int32)
    rows = rows_of(augment=None)
    whole = patchify(resize(image, (3 * 4, 4 * 4)), PATCH)
    some = rows.tokens(0, 3, grid, 5, PATCH)[0]
    stay = some.coords @ [4, 1]
    assert len(set(stay)) == 5 and (np.diff(stay) > 0).all()
    np.testing.assert_array_equal(some.patches, whole.patches[stay])
    np.testing.assert_array_equal(rows.tokens(0, 3, grid, 12, PATCH)[0].patches, whole.patches)


@given(seed=seeds, crop=st.floats(0.01, 1), stretch=st.floats(0, 1))
def test_a_crop_stays_within_the_image_and_its_law(seed, crop, stretch):
    draw = np.random.default_rng(seed)
    height, width, y, x = draw.integers(1, 500, 4).tolist()
    left, top, right, bottom = crop_box(draw, (x, y, x + width, y + height), Augment(crop=crop, stretch=stretch))
    assert x <= left < right <= x + width and y <= top < bottom <= y + height
    share = (right - left) * (bottom - top) / (height * width)
    tilt = (right - left) / (bottom - top) * height / width
    assert share <= 1 + PIXEL and share >= crop / (1 + stretch) - PIXEL
    assert abs(np.log(tilt)) <= np.log1p(stretch) + PIXEL


def augmented(draw: np.random.Generator, image: np.ndarray, size: tuple[int, int], law: Augment) -> np.ndarray:
    """As rows show it."""
    geometry = sample_geometry(draw, (0, 0, image.shape[1], image.shape[0]), size, law)
    return recolor(draw, geometry.of_pixels(resize(image, geometry.upright, geometry.box)), law)


@given(
    seed=seeds,
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    law=st.builds(Augment, st.booleans(), st.floats(0.05, 1), st.floats(0, 0.5), st.sampled_from([0.0, 0.3, 1.0])),
)
def test_augmentation_keeps_the_size_and_repeats(seed, size, law):
    image = IMAGES[seed % len(IMAGES)]
    out, again = (augmented(np.random.default_rng(seed), image, size, law) for _ in range(2))
    assert out.shape == (*size, 3) and out.dtype == np.uint8
    np.testing.assert_array_equal(out, again)


@given(seed=seeds, size=st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_the_identity_changes_nothing_but_the_size(seed, size):
    image = IMAGES[seed % len(IMAGES)]
    plain = resize(image, size)
    np.testing.assert_array_equal(augmented(np.random.default_rng(seed), image, size, Augment()), plain)
    mirrored = augmented(np.random.default_rng(seed), image, size, Augment(flip=True))
    assert np.array_equal(mirrored, plain) or np.array_equal(mirrored, plain[:, ::-1])


def test_pixels_depend_on_seed_epoch_and_image_alone():
    def pixels(seed: int, epoch: int, image_id: int) -> np.ndarray:
        return rows_of(seed=seed).tokens(epoch, image_id, np.array([4, 4], np.int32), 16, PATCH)[0].patches

    np.testing.assert_array_equal(pixels(1, 2, 3), pixels(1, 2, 3))
    for other in [(0, 2, 3), (1, 1, 3), (1, 2, 4)]:
        assert not np.array_equal(pixels(1, 2, 3), pixels(*other))
