"""What a run writes is what it did: one small run, of a task of its own, read again from its folder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import pytest

import navit_eqx as navit
import train
from data.sources.digits import Digits
from data.tasks import TASKS
from harness.config import Config
from harness.digit_presets import large_digits
from harness.evaluation import predictions
from harness.run import loading, training
from navit_eqx import ModelInfo, save_model
from navit_eqx.config import Factorised
from navit_eqx.tasks.model import abstract_model
from navit_eqx.training.config import AdamW
from tests.support import toy_task
from tests.support.html import is_whole
from tests.support.strategies import CONFIG, filled
from tests.support.tolerances import FLOAT32, assert_close

TOY = toy_task.Config(Digits(200, 40))
VALIDATED_AT = 6


class Run(NamedTuple):
    """The folder of a run, its configuration, and what it held in memory: states as saved, models as evaluated."""

    folder: Path
    config: Config
    states: dict[int, Any]
    evaluated: dict[int, Any]


@pytest.fixture(scope="module")
def registered():
    with pytest.MonkeyPatch.context() as monkeypatch:
        toy_task.register(monkeypatch)
        yield monkeypatch


@pytest.fixture(scope="module")
def run(registered, tmp_path_factory) -> Run:
    """Twenty steps with a moving average, saved and validated on the way."""
    base, out = large_digits(), tmp_path_factory.mktemp("runs")
    config = replace(
        base,
        model=replace(CONFIG, patch=(8, 8), depth=1, posembed=Factorised(40), dtype="float32"),
        data=replace(base.data, source=TOY.images, eval_resolutions=(0.8,), val_resolution=1.0),
        optim=replace(base.optim, rule=AdamW(), lr=1e-2, ema=0.9),
        task=TOY, rows=8, steps=20, log_every=5, save_every=VALIDATED_AT, eval_every=VALIDATED_AT,
        out=str(out), name="toy", start=str(out / "start"),
    )  # fmt: skip
    save_model(out / "start", filled(abstract_model(config.model, TOY), 5, "float32"), ModelInfo())
    states, evaluated = {}, {}

    class Recorded(train.Checkpointer):
        """Keeps states in memory: tests/test_checkpoints.py is about the disk."""

        def save(self, step, state, position):
            states[step] = jax.device_get(state)

    def validate(context, progress, step):
        evaluated[step] = parameters(context.model)

    registered.setattr(loading, "rows_at_once", lambda row_tokens, devices: 8)  # small programs, made quickly
    registered.setattr(predictions, "REPEATS", 1)
    registered.setattr(train, "picture", lambda *rest: None)
    registered.setattr(train, "Checkpointer", Recorded)
    registered.setattr(training, "validation_score", validate)
    with jax.numpy_dtype_promotion("standard"):  # Optax multiplies floats by integer step counts
        train.train(config, "digits")
    return Run(out / "toy", config, states, evaluated)


def parameters(model) -> list[np.ndarray]:
    return jax.tree.leaves(jax.device_get(eqx.filter(model, eqx.is_inexact_array)))


def are_equal(one: list, other: list) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_new_task_trains_from_end_to_end(run):
    """By the program for all tasks: the loss falls, the summary holds the metric, and the model is read again."""
    losses = [json.loads(line)["loss"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.5 * losses[0], losses
    summary = json.loads((run.folder / "summary.json").read_text())
    assert 0.5 < summary["val_closeness"] < 1 and "closeness" in summary["sweep"][0]
    loaded = navit.load(run.folder)
    assert loaded.task.config == replace(TOY, trained=True) and loaded.config.patch == (8, 8)


def test_the_exported_model_is_the_average(run):
    """Of the last step, to the bit; not its parameters, and not those of an earlier step."""
    last, found = run.states[run.config.steps], parameters(navit.load(run.folder))
    assert are_equal(found, jax.tree.leaves(last.ema))
    assert not are_equal(found, jax.tree.leaves(last.model))
    assert not are_equal(found, jax.tree.leaves(run.states[VALIDATED_AT].ema))


def test_validation_on_the_way_is_that_of_the_average(run):
    assert sorted(run.evaluated) == [6, 12, 18]
    for step, model in run.evaluated.items():
        assert are_equal(model, jax.tree.leaves(run.states[step].ema))
        assert not are_equal(model, jax.tree.leaves(run.states[step].model))


def test_the_summary_is_that_of_the_model_on_disk(run):
    """By the front door, which knows neither the run nor its configuration: the images of validation, at the
    resolution that the model was saved with."""
    model, val = navit.load(run.folder), TOY.images.open("", "val")
    batch = navit.pack([val.image(i) for i in range(40)], model)
    outputs = navit.unpack(batch, navit.forward(model, batch))
    scores = TASKS["MeanColor"](images=TOY.images).scores(outputs, np.arange(40), val.manifest)
    summary = json.loads((run.folder / "summary.json").read_text())
    assert_close(summary["val_closeness"], scores.mean(), FLOAT32)
    by_resolution = {row["resolution"]: row for row in summary["sweep"]}
    assert sorted(by_resolution) == [0.8, 1.0]
    assert by_resolution[summary["val_resolution"]]["closeness"] == summary["val_closeness"]
    assert (summary["val_images"], summary["val_left_out"], summary["val_unreadable"]) == (40, 0, 0)


def test_the_report_is_that_of_any_task(run):
    """A task that no page knows of: its metric, its settings, where it looks, and what it has no answer to."""
    page = is_whole((run.folder / "report.html").read_text())
    assert "MeanColor" in page.text and "Validation closeness" in page.text and "--task.images" in page.text
    assert "Not possible" in page.text
    assert {section["id"] for section in page.all("section")} >= {
        "learning",
        "sweep",
        "attention",
        "settings",
        "repeat",
    }


def test_a_start_is_that_of_the_model_on_disk(run):
    """A few steps later no parameter is farther from it than Adam can have moved it."""
    start = parameters(navit.load(run.config.start).backbone)
    found = jax.tree.leaves(run.states[VALIDATED_AT].model.backbone)
    reach = 2 * VALIDATED_AT * run.config.optim.lr
    assert max(np.abs(a - b).max(initial=0) for a, b in zip(found, start, strict=True)) <= reach
    assert max(np.abs(a).max(initial=0) for a in start) > 4 * reach


def test_counts_of_the_summary_are_those_of_its_lines(run):
    """Every step has its rows, and every image of training is seen as often as the last line says."""
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((run.folder / "summary.json").read_text())
    for name in ("images_seen", "tokens_seen"):
        seen = [line[name] for line in lines]
        assert seen == sorted(seen) and seen[-1] == summary[name] > 0
    assert lines[-1]["step"] == run.config.steps
    assert {line["step"] for line in lines} >= {5, 10, 15, 20}
