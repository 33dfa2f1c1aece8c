"""Which teacher a run may have, and what is chosen for it."""

from dataclasses import replace

import numpy as np
import pytest

from data.errors import DataError
from data.sampling.packing import Packing
from harness import resolve as choose
from harness.presets import digits, digits_flexi
from harness.run import resume
from harness.run.folder import write_config
from harness.run.teacher import open_teacher
from navit_eqx import save_model
from navit_eqx.errors import ConfigError
from navit_eqx.tasks.config import Distill, Softmax
from tests.support.strategies import CONFIG, filled
from tests.test_distill import VIEW, taught_by


@pytest.fixture
def run(tmp_path):
    """A flexible run on digits with a small saved teacher."""
    shape = replace(CONFIG, patch_size=8, classes=10, posembed=replace(CONFIG.posembed, size=24), dtype="float32")
    config = digits_flexi()
    config = replace(config, data=replace(config.data, source=replace(config.data.source, train_images=500)))
    manifest = config.data.source.open("", "train").manifest
    save_model(tmp_path, filled(shape, 0, "float32"), shape, {"classes": list(manifest.classes)})
    return replace(config, loss=Distill(str(tmp_path))), manifest, shape


def test_what_is_open_in_a_lesson_is_chosen(run):
    config, manifest, shape = run
    teacher = open_teacher(config.loss, manifest)
    resolved, notes = choose.resolve(config, manifest, teacher)
    longest = (
        taught_by(VIEW._replace(patch_size=8), 0, resolution=config.data.resolution, sizes=manifest.sizes)[1]
        .prod(-1)
        .max()
    )
    assert resolved.loss.row_tokens >= longest and len(resolved.loss.digest) == 64
    assert any("loss.row_tokens = " in note for note in notes)
    assert teacher.view(resolved.loss) == (8, resolved.loss.row_tokens, shape.posembed.longest_side)
    assert open_teacher(Softmax(), manifest) is None


def test_a_teacher_that_sees_as_much_gets_rows_as_long():
    """Shorter ones would cost more of the student's, longer ones more of its own; and the longest image fits."""
    lengths, packing = np.array([8, 20, 33, 60]), Packing(416, 48)
    assert choose.teacher_row(lengths, lengths, 60, packing, CONFIG, CONFIG) == 416
    assert choose.teacher_row(lengths, lengths // 2, 30, packing, CONFIG, CONFIG) < 416
    assert choose.teacher_row(lengths, lengths, 1000, packing, CONFIG, CONFIG) == 1024


@pytest.mark.parametrize(
    "change, error, words",
    [
        (lambda loss: Distill(), ConfigError, "loss.teacher is not set"),
        (lambda loss: replace(loss, teacher="/nowhere"), ConfigError, "no config.json in /nowhere"),
        (lambda loss: replace(loss, digest="0" * 64), ConfigError, "loss.digest asks for 000000000000"),
    ],
)
def test_teachers_that_are_refused(run, change, error, words):
    config, manifest, _ = run
    with pytest.raises(error, match=words):
        open_teacher(change(config.loss), manifest)


def test_a_teacher_of_other_classes_is_refused(run, tmp_path):
    config, manifest, shape = run
    save_model(tmp_path, filled(shape, 0, "float32"), shape, {"classes": [*manifest.classes[1:], manifest.classes[0]]})
    with pytest.raises(DataError, match=r"knows 10 classes, first \('1',\).* in the same order"):
        open_teacher(config.loss, manifest)


def test_a_continued_run_keeps_its_teacher(run, tmp_path):
    """It may lie elsewhere; it may not be another one, nor may the labels take its place."""
    config, manifest, shape = run
    config, _ = choose.resolve(config, manifest, open_teacher(config.loss, manifest))
    write_config(tmp_path, config, "digits-flexi")
    resume.reconcile(tmp_path, replace(config, loss=replace(config.loss, teacher="moved")))
    with pytest.raises(ConfigError, match="loss.digest"):
        resume.reconcile(tmp_path, replace(config, loss=replace(config.loss, digest="f" * 64), override=True))
    with pytest.raises(ConfigError, match="loss.digest"):
        resume.reconcile(tmp_path, replace(config, loss=Softmax(), override=True))
    assert digits().loss == Softmax()
