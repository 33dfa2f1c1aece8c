"""How a task is added: three parts, and a line in each table."""

import ast
from dataclasses import replace
from pathlib import Path

import jax.random as jr
import numpy as np
import pytest

import train
from data.sources.digits import Digits
from harness.digit_presets import large_digits
from harness.embedded import check_frozen
from navit_eqx.errors import ConfigError
from navit_eqx.rows import Batch as DeviceBatch
from navit_eqx.rows import to_device
from navit_eqx.tasks import TASKS
from navit_eqx.tasks.config_detect import ByText, PerClass
from navit_eqx.training.config import Backbone
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


HARNESS = Path(__file__).parent.parent / "harness"
TABLES = ("config.py", "presets.py")  # what a run may be made of


def tasks_in(code: str) -> set[str]:
    """The tasks and heads that code names, as words of its own or in a string."""
    names = {kind.__name__ for kind in (*TASKS, ByText, PerClass)}
    words = ("id", "attr", "name", "value")
    return {
        w for node in ast.walk(ast.parse(code)) for w in (getattr(node, word, None) for word in words) if w in names
    }


def test_the_harness_knows_no_task_by_name():
    """What is special about a task is an attribute of it. A study may be for one task alone."""
    pages = [path for path in HARNESS.rglob("*.py") if not path.name.endswith(TABLES) and path.parent.name != "studies"]
    assert len(pages) > 40
    assert {str(path): found for path in pages if (found := tasks_in(path.read_text()))} == {}
    for code in ("from navit_eqx.tasks.config import Contrast", "isinstance(head, ByText)", "name in ('Classify',)"):
        assert tasks_in(code)


def test_a_new_task_is_asked_what_it_can_do(toy, monkeypatch):
    """Without a word of its own it reads tokens, has no stages, and starts anew from another head."""
    config = replace(large_digits(), task=toy)
    config = replace(config, optim=replace(config.optim, frozen=Backbone()))
    with pytest.raises(ConfigError, match="the task MeanColor reads more"):
        check_frozen(config)
    monkeypatch.setattr(toy_task.MeanColor, "pooled", True, raising=False)
    check_frozen(config)
    module = model(task=toy)
    saved = to_reference(module)["task"]
    assert module.task.started_from(saved, saved, same_classes=False) is None
    assert module.task.started_from(saved, saved, same_classes=True) is saved
    assert module.task.started_from(saved | {"more": 0}, saved, same_classes=True) is None
    assert not (toy.named_by_texts or toy.held_out or module.task.prompts(("a",)))
    assert toy.started_from(lambda: pytest.fail("a saved task is read that nothing is taken from"), "a run") == (
        toy,
        [],
    )
