"""Which teacher a run may have, and what is chosen for it."""

from dataclasses import replace

import numpy as np
import pytest

from data.plan import epoch_order, grids_of
from data.tasks import TASKS
from data.tasks.distill import teacher_row_tokens
from harness import resolve
from harness.digit_presets import large_digits
from harness.presets import digits_flexi
from harness.run import resume
from harness.run.folder import write_config
from harness.run.loading import open_task
from navit_eqx import ModelInfo, load_model, save_model
from navit_eqx.errors import ConfigError
from navit_eqx.tasks.config import Classify, Distill
from tests.support.strategies import CONFIG, model

SHAPE = replace(CONFIG, patch=(8, 8), posembed=replace(CONFIG.posembed, size=24), dtype="float32")


@pytest.fixture
def run(tmp_path):
    """A flexible run on digits with a small saved teacher."""
    config = digits_flexi()
    config = replace(config, data=replace(config.data, source=replace(config.data.source, train_images=500)))
    manifest = config.data.source.open("", "train").manifest
    save_model(tmp_path, model(config=SHAPE, task=Classify(classes=10)), ModelInfo(manifest.classes))
    return replace(config, task=Distill(str(tmp_path))), manifest


def opened(config, manifest):
    """The configuration with nothing left open, the notes, and both sides of the task."""
    prepared, data_task = open_task(config, manifest)
    resolved, notes = resolve.resolve(replace(config, task=prepared.config), manifest, data_task)
    return resolved, notes, prepared, data_task


def test_what_is_open_in_a_distillation_is_chosen(run):
    config, manifest = run
    resolved, notes, prepared, data_task = opened(config, manifest)
    images = epoch_order(len(manifest), config.seed, 0)
    grids = grids_of(resolved.data.resolution, manifest.sizes[images], config.seed, 0, 0, SHAPE.patch)
    assert resolved.task.row_tokens >= grids.prod(-1).max()
    assert len(resolved.task.digest) == 64 and resolved.task.classes == 10
    assert any("task.row_tokens = " in note for note in notes)
    budget = data_task.budget
    assert (budget.patch, budget.longest_side) == (SHAPE.patch, SHAPE.posembed.longest_side)
    assert budget.row_tokens == resolved.task.row_tokens
    assert data_task.pixels.mean == SHAPE.mean and data_task.pixels.std == SHAPE.std
    assert prepared.config.digest == load_model(config.task.teacher).info.digest


def test_other_tasks_have_no_budget(run):
    config, manifest = run
    for task in TASKS.keys() - {"Distill", "Detect"}:
        assert TASKS[task].budget is None
    assert open_task(replace(config, task=Classify()), manifest)[1].budget is None


class Lengths:
    """Of images of these lengths for the student, in rows of 416 tokens."""

    kept = np.array([8, 20, 33, 60])
    rows, devices, manifest = 4, 1, None
    row_tokens, row_images = 416, 48
    patch, sizes = CONFIG.patch, CONFIG.sizes | {"classes": 10}

    def tokens_in(self, patch):
        return self.kept, int(self.kept.max())


def test_a_teacher_that_sees_as_much_gets_rows_as_long():
    """Shorter ones would cost more of the student's, longer ones more of its own; and the longest image fits."""
    tokens = Lengths.kept
    choose = lambda tokens, longest: teacher_row_tokens(Lengths(), tokens, longest, Lengths.sizes)
    assert choose(tokens, 60) == 416
    assert choose(tokens // 2, 30) < 416
    assert choose(tokens, 1000) == 1024


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda task: Distill(), "task.teacher is not set"),
        (lambda task: replace(task, teacher="/nowhere"), "there is no folder /nowhere"),
        (lambda task: replace(task, digest="0" * 64), "task.digest asks for 000000000000"),
        (lambda task: replace(task, classes=9), "task.classes=9, but the data have 10"),
    ],
)
def test_teachers_that_are_refused(run, change, words):
    config, manifest = run
    with pytest.raises(ConfigError, match=words):
        open_task(replace(config, task=change(config.task)), manifest)


def test_a_teacher_of_other_classes_is_refused(run, tmp_path):
    config, manifest = run
    classes = (*manifest.classes[1:], manifest.classes[0])
    save_model(tmp_path, model(config=SHAPE, task=Classify(classes=10)), ModelInfo(classes))
    with pytest.raises(ConfigError, match=r"knows 10 classes, first \('1',\).* in the same order"):
        open_task(config, manifest)


def test_a_continued_run_keeps_its_teacher(run, tmp_path):
    """It may lie elsewhere; it may not be another one, nor may the labels take its place."""
    config, manifest = run
    config = opened(config, manifest)[0]
    write_config(tmp_path, config, "digits-flexi")
    resume.reconcile(tmp_path, replace(config, task=replace(config.task, teacher="moved")))
    with pytest.raises(ConfigError, match="task.digest"):
        resume.reconcile(tmp_path, replace(config, task=replace(config.task, digest="f" * 64), override=True))
    with pytest.raises(ConfigError, match="task"):
        resume.reconcile(tmp_path, replace(config, task=Classify(classes=10), override=True))
    assert large_digits().task == Classify()
