"""Rows of clips: which frames are read, what a row holds, and that moving digits do not give their label away."""

import pickle
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sampling.augment import Augment
from data.sources.moving_digits import FRAMES, SIDES, MovingDigits
from harness.resolve import resolve
from harness.run.loading import evaluation_rows, open_task, training_rows
from harness.video_presets import video_digits
from navit_eqx.errors import ConfigError
from reference.patches import unpatchify
from reference.rows import unpack
from reference.sampling.frames import frame_counts, frame_times, frames_at
from tests.support.laws import alone, caught
from tests.support.tolerances import EXACT, FLOAT16, assert_close

# frames -------------------------------------------------------------------------------------------------


@given(frames=st.integers(1, 60), data=st.data())
def test_every_frame_once_and_in_order(frames, data):
    np.testing.assert_array_equal(frames_at(frame_times(frames, frames), frames), np.arange(frames))
    count = data.draw(st.integers(1, frames))
    start, offset = data.draw(st.floats(0, 0.999)), data.draw(st.floats(0.01, 0.99))
    for stride in (None, 1, 2.5):
        times = frame_times(frames, count, stride, start, offset)
        read = frames_at(times, frames)
        assert (times >= 0).all() and (times < 1).all() and (np.diff(read) >= 1).all()
        if stride == 1:
            assert (np.diff(read) == 1).all()
    assert_close(np.diff(frame_times(frames, count, None, start, offset)), np.full(count - 1, 1 / count), 1e-9)


def test_frames_in_the_middle_are_read_in_evaluation():
    np.testing.assert_array_equal(frames_at(frame_times(12, 4), 12), [1, 4, 7, 10])
    np.testing.assert_array_equal(frames_at(frame_times(12, 4, 1), 12), [4, 5, 6, 7])
    np.testing.assert_array_equal(frames_at(frame_times(12, 4, 1, 0.0), 12), [0, 1, 2, 3])


def test_a_short_clip_gives_fewer_frames():
    wanted, frames = np.array([8, 8, 8, 8, 3, 1]), np.array([9, 7, 2, 1, 5, 5])
    assert frame_counts(wanted, frames, 2).tolist() == [8, 6, 2, 1, 2, 1]
    assert frame_counts(wanted, frames, 1).tolist() == [8, 7, 2, 1, 3, 1]


# rows ---------------------------------------------------------------------------------------------------


@lru_cache
def opened(**options):
    """A small configuration, its clips and its task."""
    config = video_digits()
    source = MovingDigits(train_images=600, val_images=40)
    config = replace(config, data=replace(config.data, source=source), steps=20)
    images = source.open("", "train", 1)
    prepared, task = open_task(config, images.manifest)
    law = replace(config.data.resolution, **options)
    config = replace(config, task=prepared.config, data=replace(config.data, resolution=law))
    return resolve(config, images.manifest, task)[0], images, task


def test_clips_of_all_durations_share_rows_without_padding():
    config, images, task = opened()
    rows = training_rows(config, images, task)
    _, plan, _ = rows.epochs.locate(0)
    assert plan.padding(config.data.packing.shape[0]) <= 0.005 and not plan.left_out
    assert {*plan.grids[plan.image_ids >= 0][:, 0].tolist()} == {4, 8, 12}
    shapes = {tuple(leaf.shape for leaf in rows[r]) for r in range(8)}
    assert len(shapes) == 1, "one compiled program"
    durations = [len({*rows[r].grids[:, 1].tolist()} - {0}) for r in range(8)]
    assert max(durations) > 1, "durations do not mix within a row"


def test_a_row_holds_what_each_clip_holds_alone():
    config, images, task = opened()
    rows = training_rows(config, images, task)
    epoch, plan, _ = rows.epochs.locate(0)
    row, again = rows[3], pickle.loads(pickle.dumps(rows))[3]
    for leaf, same in zip(row, again):
        np.testing.assert_array_equal(leaf, same)
    for slot, tokens in enumerate(unpack(row.patches, row.segment_ids)):
        clip, _ = rows.tokens(epoch, int(row.image_ids[slot]), plan.grids[3, slot], int(plan.kept[3, slot]), (8, 8))
        np.testing.assert_array_equal(tokens, clip.patches)
        np.testing.assert_array_equal(row.grids[slot], clip.grid)


def test_frames_differ_between_epochs():
    config, images, task = opened()
    rows = training_rows(config, images, task)
    index = int(images.manifest.sizes[:, 0].argmax())
    clips = [rows.tokens(epoch, index, np.array([4, 3, 3]), 9, (8, 8))[0].patches for epoch in range(4)]
    assert len({clip.tobytes() for clip in clips}) > 1


def test_evaluation_reads_every_clip_in_the_middle():
    """The frames of a clip at its own size, from the tokens of the shape of the kernel."""
    config, _, _ = opened()
    val = config.data.source.open("", "val", 1)
    batches, plan = evaluation_rows(config, val, config.data.resolution.at(1.0))
    seen = []
    for batch in batches:
        for r, slot in np.argwhere(batch.image_ids >= 0):
            tokens, index = alone(batch, r, slot), int(batch.image_ids[r, slot])
            own = tokens.coords[:, 0] == 0
            got = unpatchify(tokens.patches[own].astype(float), tokens.grid[1:].astype(int), (2, 8, 8))
            frames = int(val.manifest.sizes[index, 0])
            want = val.clip(index, frame_times(frames, min(12, frames), 1))
            assert_close(got, want / 127.5 - 1, FLOAT16)
            seen.append(index)
    assert sorted(seen) == list(range(40)) and not plan.left_out


def test_all_frames_of_a_clip_change_alike():
    """A still clip stays still, whatever is changed."""
    config, images, task = opened()
    config = replace(config, data=replace(config.data, augment=Augment(True, 0.3, 0.3, 0.2, 0.4)))
    rows = training_rows(config, images, task)
    index = int(images.manifest.sizes[:, 0].argmax())
    rows.source = replace_clip(images, lambda clip: np.repeat(clip[:1], len(clip), 0))
    clip = rows.clip(np.random.default_rng(0), index, 8, (32, 24))
    assert clip.shape == (8, 32, 24, 1) and (clip == clip[:1]).all()
    assert not np.array_equal(clip, rows.clip(np.random.default_rng(1), index, 8, (32, 24)))


def replace_clip(source, change):
    """A source whose clips are changed."""

    class Changed:
        manifest, image = source.manifest, source.image

        def clip(self, index, times):
            return change(source.clip(index, times))

    return Changed()


def test_shuffled_frames_are_the_same_frames():
    config, images, task = opened()
    mixed = training_rows(opened(order="shuffled")[0], images, task)
    right = training_rows(config, images, task)
    rng = lambda: np.random.default_rng(3)
    a, b = (rows.clip(rng(), 5, 4, (24, 24)) for rows in (right, mixed))
    assert not np.array_equal(a, b)
    assert {frame.tobytes() for frame in a} == {frame.tobytes() for frame in b}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: replace(c, model=replace(c.model, tubelets=None, patch=(8, 8))), "has clips: --model.patch"),
        (lambda c: replace(c, data=replace(c.data, resolution=c.data.resolution.sampling)), "--data.resolution clips"),
        (lambda c: with_law(c, frames=(30,)), "time ends at 2 x model.tubelets.size"),
    ],
)
def test_options_that_do_not_fit_clips_are_explained(change, message):
    config, images, task = opened()
    with pytest.raises(ConfigError, match=message):
        resolve(change(config), images.manifest, task)


def with_law(config, **options):
    return replace(config, data=replace(config.data, resolution=replace(config.data.resolution, **options)))


# moving digits ------------------------------------------------------------------------------------------


def test_a_clip_is_the_same_for_any_count_and_in_any_process():
    few, many = (MovingDigits(train_images=n).open("", "train") for n in (30, 300))
    np.testing.assert_array_equal(few.manifest.sizes, many.manifest.sizes[:30])
    again = pickle.loads(pickle.dumps(many))
    for index in (0, 29):
        times = np.linspace(0, 0.99, 4)
        np.testing.assert_array_equal(few.clip(index, times), again.clip(index, times))
    assert {*few.manifest.sizes[:, 0]} <= {*FRAMES} and {*few.manifest.sizes[:, 1:].ravel()} <= {*SIDES}


def moves_with_its_label(source) -> None:
    """From frame to frame, the first digit moves along the direction of its label."""
    for index in range(40):
        angle = source.manifest.labels[index] * np.pi / 4
        step = source.paths(index).velocity[0]
        assert_close(step / np.linalg.norm(step), [np.sin(angle), np.cos(angle)], EXACT)


def test_labels_are_directions():
    source = MovingDigits(train_images=40).open("", "train")
    moves_with_its_label(source)
    wrong = MovingDigits(task="digit", train_images=40).open("", "train")
    caught(moves_with_its_label, wrong)
    # To the right: the whole canvas rolls, where there is one digit.
    index = next(i for i in range(40) if source.manifest.labels[i] == 0 and not source.others[i])
    frames = int(source.manifest.sizes[index, 0])
    clip = source.clip(index, frame_times(frames, frames))[..., 0]
    shifts = [next(s for s in range(5) if np.array_equal(np.roll(a, s, 1), b)) for a, b in zip(clip, clip[1:])]
    assert 1 <= np.mean(shifts) <= 3


def tells_nothing(values: np.ndarray, labels: np.ndarray, classes: int) -> None:
    """Σ (observed − expected)² / expected of a table of values and labels is what chance gives (5 standard errors)."""
    _, place = np.unique(values, return_inverse=True)
    table = np.zeros((place.max() + 1, classes))
    np.add.at(table, (place.ravel(), labels), 1)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    free = (table.shape[0] - 1) * (classes - 1)
    statistic = ((table - expected) ** 2 / expected).sum()
    assert abs(statistic - free) < 5 * np.sqrt(2 * free), f"{statistic:.0f}, expected {free}"


def test_neither_size_nor_place_tells_the_direction():
    """The leak controls at their root: frames, sides, digits, and the place in a frame."""
    source = MovingDigits(train_images=2000).open("", "train")
    labels, sizes = source.manifest.labels, source.manifest.sizes
    first = np.stack([source.paths(i).first[0] for i in range(2000)])
    middle = first + sizes[:, :1] / 2 * np.stack([source.paths(i).velocity[0] for i in range(2000)]) / sizes[:, 1:]
    for values in (*sizes.T, source.others, *(4 * first).astype(int).T, *(4 * (middle % 1)).astype(int).T):
        tells_nothing(values, labels, 8)
    caught(tells_nothing, labels // 2, labels, 8)


def test_training_and_validation_share_no_glyph():
    train, val = (MovingDigits().open("", split) for split in ("train", "val"))
    assert not {*train.pool} & {*val.pool}
