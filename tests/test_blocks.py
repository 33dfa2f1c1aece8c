"""Epochs in blocks: rows are found whichever blocks have any, and who continues a run plans none before its own."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

import data.plan
from data.checksums import checked_line
from data.errors import DataError
from data.plan import NOTHING, Plan, epoch_order, plan_epoch
from data.sampling.packing import Packing
from data.sampling.patch_size import PerStep
from data.sampling.resolution import Native
from data.sources.digits import Digits
from data.stream import BlockCounts, Epochs
from data.tasks import DataTask
from data.tasks.classify import Classify
from data.tasks.distill import Distill
from harness.digit_presets import large_digits
from harness.run.loading import training_rows

PATCH = 8, 8
BASE = large_digits()
TINY = replace(BASE, rows=2, steps=12, data=replace(BASE.data, source=Digits(60, 10)))
SIZES = {"patch_dim": 48, "width": 64, "depth": 2, "mlp_width": 128, "classes": 10}
DISTILL = Distill(patch=(4, 4), longest_side=64, row_tokens=400, sizes=SIZES, mean=(0.5,), std=(0.5,))


def plan(sizes: np.ndarray, block: int = 0, blocks: int = 1, **changes) -> Plan:
    laws = dict(patch_size=PATCH, resolution=Native(), dropping=NOTHING, packing=Packing(12, 3, fill="resolution"))
    return plan_epoch(sizes, seed=0, epoch=0, longest_side=64, block=block, blocks=blocks, **{**laws, **changes})


PLANS = [plan(np.full((count, 2), 16, np.int32)) for count in (7, 4, 9, 2)]
EMPTY = PLANS[0]._replace(**{name: getattr(PLANS[0], name)[:0] for name in Plan._fields[:4]}, left_out=((7, "big"),))
COUNTS = [len(each.image_ids) for each in PLANS]


def places(epochs: Epochs, count: int) -> list[tuple[int, int, int]]:
    """Epoch, number of the plan and row in it, of each row."""
    found = [epochs.locate(g) for g in range(count)]
    return [(epoch, [at is each for each in PLANS].index(True), r) for epoch, at, r in found]


def test_a_block_without_rows_is_passed_over():
    """The rows are those of the other blocks; an epoch without any is an error, again and again."""
    two, rows = Epochs([EMPTY, PLANS[0], PLANS[1], EMPTY, EMPTY, EMPTY, PLANS[2]].__getitem__, 2), sum(COUNTS[:2])
    assert places(two, rows) == [(k, k, r) for k in range(2) for r in range(COUNTS[k])]
    for _ in range(2):
        with pytest.raises(DataError, match="none of the images of epoch 2 fits a row; the last: big"):
            two.locate(rows)


@pytest.mark.parametrize("law", [PATCH, PerStep((8, 16))], ids=["one size", "a size for each step"])
def test_of_several_blocks_one_may_hold_no_image_that_fits(law):
    """The images of the first block are too large; by themselves they are an error."""
    sizes, first = np.full((8, 2), 16, np.int32), epoch_order(8, 0, 0)[:4]
    sizes[first] = 1000
    for block, held in enumerate((0, 4)):
        part = plan(sizes, block, 2, patch_size=law, step_rows=2)
        assert (part.image_ids >= 0).sum() == held and len(part.left_out) == 4 - held
    with pytest.raises(DataError, match="none of 4 images fits a row"):
        plan(sizes[first], patch_size=law, step_rows=2)


# who continues ----------------------------------------------------------------------------------------


def counted(counts: BlockCounts | None) -> tuple[Epochs, list[int]]:
    """Epochs of one block, and the blocks that were planned."""
    asked = []
    return Epochs(lambda block: asked.append(block) or PLANS[block], counts=counts), asked


@pytest.fixture
def counts(tmp_path):
    """Written by a run that came to its end."""
    counts = BlockCounts(tmp_path / "blocks.jsonl", "this")
    epochs, asked = counted(counts)
    epochs.locate(sum(COUNTS) - 1)
    assert asked == [0, 1, 2, 3]
    return counts


def test_each_row_is_where_it_was(counts):
    last, (epochs, asked) = sum(COUNTS) - 1, counted(counts)
    epochs.locate(last)
    assert asked == [3], "blocks before that of the row were planned"
    assert places(epochs, last + 1) == places(counted(None)[0], last + 1)
    assert pickle.loads(pickle.dumps(Epochs(PLANS.__getitem__, 1, counts))).known == dict(enumerate(COUNTS))


def test_counts_of_other_plans_say_nothing(counts):
    epochs, asked = counted(replace(counts, key="other"))
    epochs.locate(sum(COUNTS) - 1)
    assert asked == [0, 1, 2, 3] and counts.rows() == dict(enumerate(COUNTS))


def test_lines_that_are_not_whole_are_passed_over(counts):
    """As a process leaves them that was killed while it wrote; the block is counted again."""
    lines = counts.path.read_text().splitlines(True)
    counts.path.write_text(lines[0] + lines[1][:-3] + lines[2] + lines[3][:-4])
    assert counts.rows() == {0: COUNTS[0]}
    epochs, asked = counted(counts)
    epochs.locate(sum(COUNTS) - 1)
    assert asked == [1, 2, 3]


def test_counts_that_cannot_be_written_cost_nothing_else(tmp_path):
    epochs, asked = counted(BlockCounts(tmp_path / "nowhere" / "blocks.jsonl", "this"))
    assert places(epochs, sum(COUNTS)) and asked == [0, 1, 2, 3]


def test_a_count_that_is_wrong_is_noticed(counts):
    counts.path.write_text("".join(checked_line(["this", block, rows + 1]) for block, rows in enumerate(COUNTS)))
    with pytest.raises(DataError, match="blocks.jsonl: block 0 has 3 rows, not 4: remove this file"):
        counted(counts)[0].locate(0)


@pytest.mark.parametrize("task", [Classify(), DISTILL], ids=["alone", "with a teacher"])
def test_a_continued_run_plans_its_own_block_alone(monkeypatch, tmp_path, task: DataTask):
    """The same rows from any step on; another seed counts for itself."""
    monkeypatch.setattr(data.plan, "BLOCK", 16)
    asked: list[tuple[int, int]] = []
    record = lambda *sizes, **at: asked.append((at["epoch"], at["block"])) or plan_epoch(*sizes, **at)
    monkeypatch.setattr(data.plan, "plan_epoch", record)
    source = TINY.data.source.open("", "train")

    def begin(config=TINY):
        asked.clear()
        return task.batches(training_rows(config, source, task, tmp_path / "blocks.jsonl"))

    rows, last = begin(), TINY.rows * TINY.steps - 1
    whole = [rows[g] for g in range(last + 1)]
    blocks = [*dict.fromkeys(asked)]
    assert len(blocks) > 4
    again = begin()
    np.testing.assert_equal(again[last], whole[last])
    assert asked == blocks[-1:]
    np.testing.assert_equal([again[g] for g in range(last)], whole[:-1])
    begin(replace(TINY, seed=1))[last]
    assert len(asked) > 4
