"""Merging in the evaluation of a model: as many tokens as its rivals, an axis of a budget, obeyed by predict.py."""

from dataclasses import replace
from functools import lru_cache
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import evaluate
import navit_eqx as navit
import predict
from data.plan import NOTHING
from data.sampling.merge import Merge, Merged
from data.sources.digits import Digits
from data.sources.source import Chosen
from data.tasks import TASKS
from harness.evaluation import studies
from harness.evaluation.budget import Budget, Reading
from harness.evaluation.predictions import Context
from harness.evaluation.studies.merge import mean_tokens, resolution_for
from harness.evaluation.studies.trade_off import predictions_by, rates, readings_of, trade_off
from harness.presets import digits
from navit_eqx import preprocessing
from navit_eqx.config import Factorised, ModelConfig, Stages
from navit_eqx.errors import ConfigError
from navit_eqx.preprocessing import Native, Preprocessing
from navit_eqx.tasks.config import Classify, Embed, Segment
from navit_eqx.tasks.config_detect import Detect
from navit_eqx.tasks.model import abstract_model
from reference.evaluation.calibration import softmax
from tests.support.laws import caught
from tests.support.strategies import filled

study = import_module("harness.evaluation.studies.merge")  # the package has the function under this name
COUNT, RATE = 24, 0.5
SHAPE = ModelConfig((4, 4), width=16, depth=1, heads=2, mlp_width=16, posembed=Factorised(64), unroll=1)
PRECISION = 0.02  # of probabilities, from bfloat16 and patches in float16


def model_of(merge: preprocessing.Merge | None = None) -> navit.Model:
    info = navit.ModelInfo(tuple("0123456789"), Preprocessing(Native(1.0), row_tokens=240, merge=merge))
    return filled(abstract_model(SHAPE, Classify(classes=10), info), 3, "float32").for_inference()


@lru_cache
def context() -> Context:
    """A model of random numbers on digit strips."""
    base = digits()
    data = replace(base.data, source=Digits(80, COUNT), val_resolution=1.0)
    config = replace(base, model=SHAPE, task=Classify(classes=10), data=data, rows=2)
    source = data.source.open("", "val")
    return Context(model_of(), config, source, TASKS["Classify"](), (1.0,), merge_rates=(0.0, RATE))


def of_run(merge: Merge | None) -> Context:
    """The same model, as one of a run with this merging."""
    return replace(context(), config=replace(context().config, data=replace(context().config.data, merge=merge)))


MERGED = Merge(RATE, lowest=0.1)


# as many tokens --------------------------------------------------------------------------------------------


@settings(max_examples=4)
@given(tokens=st.floats(2, 200))
def test_a_smaller_image_has_about_as_many_tokens(tokens):
    """No other resolution up to the largest has a mean that is nearer."""
    found = resolution_for(context(), tokens, 1.6)
    off = lambda r: abs(mean_tokens(context(), context().sampling_at(r, 0.0)) - tokens)
    assert 0 < found <= 1.6 and off(found) <= min(off(r) for r in np.linspace(0.05, 1.6, 30)) + 1e-9


def test_the_study_compares_at_equal_tokens():
    """Merged images have the planned tokens, dropped ones as many but for rounding, whichever way it was trained."""
    for each in (context(), of_run(MERGED)):
        found = studies.merge(each)
        (row,) = found.rows  # rate 0 merges nothing
        whole, merged = (each.sampling_at(1.0, rate) for rate in (0.0, RATE))
        assert isinstance(merged, Merged) and not isinstance(whole, Merged)
        assert row["merge_mean_tokens"] == mean_tokens(each, merged) < row["whole_mean_tokens"]
        assert 0 <= row["merge_mean_tokens"] - row["drop_mean_tokens"] < 1
        assert row["resize_mean_tokens"] == mean_tokens(each, each.sampling_at(row["smaller"], 0.0))
        assert ("without merging" in found.title) == (each is context())


def test_a_rival_with_all_its_tokens_is_caught(monkeypatch):
    monkeypatch.setattr(study, "Constant", lambda rate: NOTHING)
    caught(test_the_study_compares_at_equal_tokens)


def test_other_tasks_are_refused_by_name():
    for words, task in {
        "Detect has none": Detect(classes=2),
        "Segment has none": Segment(classes=2),
        "Embed has none": Embed(),
    }.items():
        with pytest.raises(ConfigError, match=words):
            studies.merge(replace(context(), config=replace(context().config, task=task), task=TASKS["Embed"]()))
    stages = replace(context().config, model=replace(SHAPE, stages=Stages((1, 1)), depth=2))
    with pytest.raises(ConfigError, match="stages"):
        studies.merge(replace(context(), config=stages))
    with pytest.raises(ConfigError, match="above 0"):
        studies.merge(replace(context(), merge_rates=(0.0,)))
    with pytest.raises(ConfigError, match="add a larger one"):
        studies.merge(replace(context(), resolutions=(0.2,)))
    with pytest.raises(ConfigError, match="merge_rates"):
        evaluate.Options(context().config.data, merge_rates=(1.5,))


# an axis of a budget ---------------------------------------------------------------------------------------


def test_rates_are_an_axis():
    assert [(r.resolution, r.patch_size, r.merge) for r in readings_of(context())] == [
        (1.0, None, 0.0),
        (1.0, None, RATE),
    ]
    plain, merged = (replace(of_run(merge), merge_rates=()) for merge in (None, MERGED))
    assert rates(plain) == (None,) and rates(merged) == (RATE, 0.0)
    without = replace(plain, model=model_of(preprocessing.Merge(RATE)))
    assert rates(without) == (0.0,)  # evaluated with --data.merge none: stored as said
    with pytest.raises(ConfigError, match=r"--data\.merge\.scales 3"):
        rates(of_run(Merge(RATE, scales=2)))


def test_a_reading_merges_at_its_rate():
    """Rate 0 is the model without merging; None is the run."""
    for each in (context(), of_run(MERGED)):
        whole, merged, own = (predictions_by(each, Reading(1.0, None, rate)) for rate in (0.0, RATE, None))
        assert whole and merged and own
        same = merged if each.config.data.merge else whole
        np.testing.assert_array_equal(own.outputs, same.outputs)
        assert merged.tokens.sum() < whole.tokens.sum()
    assert "merged at rate 0.5" in Reading(1.0, None, RATE).words() and "nothing merged" in Reading(1.0, 4, 0.0).words()


def test_a_reading_that_forgets_its_rate_is_caught(monkeypatch):
    real = Context.sampling_at
    monkeypatch.setattr(Context, "sampling_at", lambda self, r, rate=None: real(self, r))
    caught(test_a_reading_merges_at_its_rate)


def test_a_budget_chooses_a_rate():
    rows = trade_off(replace(context(), budget=Budget.parse("1GFLOP"))).rows
    assert {row["merge"] for row in rows} <= {0.0, RATE} and all("then_merge" in row for row in rows)


# obeyed ----------------------------------------------------------------------------------------------------


@given(resolution=st.none() | st.floats(0.1, 9), patch=st.none() | st.integers(1, 32), rate=st.none() | st.floats(0, 1))
def test_options_say_the_reading_that_was_chosen(resolution, patch, rate):
    """For boxes and masks, whose options are changed to the stored choice."""
    how = Reading(resolution, patch, rate)
    assert predict.reading_of(predict.with_reading(predict.Options("run", ()), how)) == how


def test_what_was_evaluated_is_what_predict_does(tmp_path):
    some = Chosen(context().source, np.arange(6))
    files = [str(tmp_path / f"{i}.png") for i in range(6)]
    for i, file in enumerate(files):
        Image.fromarray(some.image(i)).save(file)
    for rate in (0.0, RATE):
        how = Reading(1.0, None, rate)
        seen = predictions_by(replace(context(), source=some, cache={}), how)
        assert seen
        got = np.stack([*predict.predict_images(context().model, files, how, {})])
        assert np.abs(got - softmax(seen.outputs.astype(float))).max() < PRECISION
