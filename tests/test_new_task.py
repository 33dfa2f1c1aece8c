"""How a task is added: three parts, and a line in each table."""

from dataclasses import replace

import jax.random as jr
import numpy as np
import pytest

import train
from data.sources.digits import Digits
from harness.digit_presets import large_digits
from navit_eqx.rows import Batch as DeviceBatch
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference import model as slow_model
from reference import tasks as slow_tasks
from reference.rows import pack
from tests.support import laws, toy_task
from tests.support.strategies import I, Packed, T, model, tokens_of
from tests.support.tolerances import FLOAT64, assert_close


@pytest.fixture
def toy(monkeypatch):
    toy_task.register(monkeypatch)
    return toy_task.Config(Digits(200, 40))


def test_a_new_task_agrees_on_both_sides(toy):
    """Packed is alone, and the loss is that of the reference."""
    module = model(task=toy)
    params = to_reference(module)
    rng = np.random.default_rng(0)
    images = [tokens_of(rng, (2, 3)), tokens_of(rng, (3, 3), keep=5)]
    row = pack(images, [0, 1], T, I)
    laws.gives_each_image_its_meaning(
        lambda row: np.asarray(module(to_device(row))), laws.model_of(params), Packed(row, images)
    )
    targets = toy_task.Targets(rng.random((I, 3)))
    features = slow_model.forward(params["backbone"], row)
    used = row.grids[:, 0] > 0
    want, count = slow_tasks.TASKS["MeanColor"].loss(params["task"], features, targets, used)
    got, images, _ = module.task.loss(module.backbone, DeviceBatch(to_device(row), targets), jr.key(0))
    assert int(images) == count == 2
    assert_close(got, want, FLOAT64)


def test_a_task_that_is_in_no_table_is_refused(toy, monkeypatch, tmp_path):
    """It is the table that makes a task known: not that its class exists."""
    import navit_eqx.tasks

    monkeypatch.delitem(navit_eqx.tasks.TASKS, toy_task.Config)
    with pytest.raises(KeyError, match="MeanColor"):
        train.train(replace(large_digits(), task=toy, out=str(tmp_path), rows=8), "digits")
