"""The best setting within a budget: never beyond it, chosen on one half of the images, stored, and obeyed."""

import json
import re
import sys
from dataclasses import replace
from functools import lru_cache, partial
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
from data.sources.digits import Digits
from data.tasks import TASKS
from harness.evaluation import budget as budgets
from harness.evaluation.budget import Budget, Choice, Reading
from harness.evaluation.predictions import Context, Predictions, halves
from harness.evaluation.studies.cascade import Candidate
from harness.evaluation.studies.trade_off import candidates_of, predictions_of, trade_off
from harness.exit_codes import code_of
from harness.presets import digits
from harness.run.folder import write_config
from harness.run.loading import evaluation_rows
from navit_eqx.config import Factorised, Flexi, ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.front import info_of
from navit_eqx.inference import forward
from navit_eqx.preprocessing import Native, Preprocessing
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import abstract_model
from reference.evaluation.calibration import softmax
from reference.evaluation.trade_off import best_within
from tests.support.laws import caught
from tests.support.predictions import synthetic
from tests.support.strategies import filled, seeds
from tests.support.tolerances import FLOAT64, PRINTED, assert_close

study = import_module("harness.evaluation.studies.trade_off")  # the package has the function under this name
RESOLUTIONS = (0.5, 0.8)
COUNT = 60
SHAPE = ModelConfig(
    (8, 8), width=16, depth=1, heads=2, mlp_width=16, posembed=Factorised(24), flexi=Flexi((8, 12)), dtype="float32"
)


# the rule -------------------------------------------------------------------------------------------------


def is_the_best_within(rule, cost, score, budget):
    """It costs no more than the budget, and whatever else does has a lower score, or the same and is no cheaper."""
    k = rule(cost, score, budget)
    assert cost[k] <= budget
    assert all(
        score[i] < score[k] or (score[i] == score[k] and cost[i] >= cost[k])
        for i in range(len(cost))
        if cost[i] <= budget
    )


def rises_with_the_budget(rule, cost, score):
    """A larger budget never gives a lower score."""
    found = [score[rule(cost, score, budget)] for budget in np.sort(cost)]
    assert (np.diff(found) >= 0).all()


@st.composite
def tables(draw):
    pairs = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12))
    return np.array(pairs, float).T


@given(table=tables(), more=st.integers(0, 6))
def test_the_best_within_a_budget(table, more):
    is_the_best_within(best_within, table[0], table[1], table[0].min() + more)
    rises_with_the_budget(best_within, table[0], table[1])
    with pytest.raises(ValueError, match="the cheapest costs"):
        best_within(table[0], table[1], table[0].min() - 0.5)


TABLE = np.array([1.0, 2.0, 3.0, 3.0, 4.0]), np.array([0.5, 0.7, 0.6, 0.7, 0.9])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda cost, score, budget: int(score.argmax()),
        lambda cost, score, budget: int(cost.argmin()),
        lambda cost, score, budget: int(np.abs(cost - budget).argmin()),
        lambda cost, score, budget: int(np.where(cost <= budget, score + 1e-3 * cost, -1).argmax()),
    ],
    ids=["the best of all", "the cheapest", "the nearest", "of equal ones the dearest"],
)
def test_a_wrong_rule_is_caught(wrong):
    caught(is_the_best_within, wrong, *TABLE, 3.2)


def test_a_score_that_falls_is_caught():
    caught(rises_with_the_budget, lambda cost, score, budget: int(np.abs(cost - budget).argmin()), *TABLE)


# budgets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, limit, time",
    [
        ("5ms", 5e-3, True),
        (" 1.5 s ", 1.5, True),
        ("20us", 2e-5, True),
        ("2GFLOP", 2e9, False),
        ("3e2 mflops", 3e8, False),
        ("7FLOP", 7.0, False),
    ],
)
def test_budgets_are_parsed(text, limit, time):
    budget = Budget.parse(text)
    assert_close(budget.limit, limit, FLOAT64)
    assert budget.is_time == time
    assert Budget.parse(str(budget)) == budget


@given(cost=st.floats(1e-7, 1e3), time=st.booleans())
def test_a_cost_in_words_is_a_budget_that_is_enough(cost, time):
    cost = cost if time else cost * 1e9
    found = Budget.parse(Budget(1.0, "ms" if time else "MFLOP").words(cost))
    assert found.is_time == time and cost * (1 - 1e-8) <= found.limit <= cost * 1.01


@pytest.mark.parametrize(
    "text", ["5", "ms", "-5ms", "0ms", "5 minutes", "1e999ms", "1.2.3ms", "nan ms", "5 GHz", "٣ms"]
)
def test_other_budgets_are_refused_in_a_sentence(text):
    with pytest.raises(ConfigError, match=r"must be a positive time or number of operations .* such as 5ms or 2GFLOP"):
        evaluate.Options(digits().data, budget=text)


# the choice -----------------------------------------------------------------------------------------------


@lru_cache
def context() -> Context:
    """A model of random numbers of two patch sizes, on digit strips."""
    base, task = digits(), Classify(classes=10)
    data = replace(base.data, source=Digits(train_images=150, val_images=COUNT), val_resolution=0.8)
    config = replace(base, model=SHAPE, task=task, data=replace(data, eval_resolutions=RESOLUTIONS), rows=4)
    model = filled(abstract_model(SHAPE, task), 3, "float32").for_inference()
    return Context(model, config, data.source.open("", "val"), TASKS["Classify"](), RESOLUTIONS)


def made_up(seed: int, harm: tuple[int, ...] = ()) -> list[Predictions]:
    """Random answers by each of the four readings, cheapest first; `harm`: images with other scores."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(4):
        right = rng.random(COUNT) < 0.5 + 0.1 * k
        seen = synthetic(right, (1 + k) ** 2 * 1e9, rng.random(COUNT) < 0.7)
        seen = seen._replace(outputs=seen.outputs * rng.uniform(0.5, 1.5, (COUNT, 1)))
        scores = seen.scores.copy()
        scores[list(harm)] = 1 - scores[list(harm)]
        found.append(seen._replace(scores=scores, flops=seen.flops * rng.uniform(0.5, 1.5, COUNT)))
    return found


def halves_of(context: Context) -> tuple[list[Candidate], list[Candidate]]:
    assert context.budget
    return candidates_of(context, context.budget)


def judged_by(found: list[Predictions], text: str) -> Context:
    readings = study.readings_of(context())
    patch = lambda reading: (reading.patch_size or 8,) * 2
    keys = [(context().sampling_at(r.resolution), NOTHING, forward, patch(r)) for r in readings]
    return replace(context(), cache=dict(zip(keys, found, strict=True)), budget=Budget.parse(text))


def chosen(found: list[Predictions], text: str) -> dict:
    return next(row for row in trade_off(judged_by(found, text)).rows if row["chosen"])


def test_readings_are_all_combinations_of_the_axes():
    assert [(r.resolution, r.patch_size) for r in study.readings_of(context())] == [
        (0.5, None), (0.5, 12), (0.8, None), (0.8, 12),
    ]  # fmt: skip
    assert {r.patch_size for r in study.readings_of(replace(context(), patch=(12, 12)))} == {12}


@settings(max_examples=5)
@given(seed=seeds)
def test_a_choice_keeps_its_budget_and_rises_with_it(seed):
    """On both halves of the images, though one alone chooses."""
    found = made_up(seed)
    smallest = Budget.parse(re.findall(r"smallest budget is (\S+ \S+),", refusal(found, "1FLOP"))[0]).limit / 1e9
    refusal(found, f"{0.98 * smallest}GFLOP")
    scores = []
    for budget in (smallest, 5.0, 12.0, 40.0):
        context = judged_by(found, f"{budget} GFLOP")
        rows = trade_off(context).rows
        (row,) = (row for row in rows if row["chosen"])
        sides = halves_of(context)
        cheap, then = (named(row, prefix) for prefix in ("", "then_"))
        for half in sides:
            of = {each.reading: each for each in half}
            again = of[cheap].confidence < (row["threshold"] or 0)
            cost = (of[cheap].cost + again * of[then if row["threshold"] else cheap].cost).mean() / 1e9
            assert cost <= row["cost"] * (1 + FLOAT64) and row["cost"] <= budget
        scores.append(row["score_chosen"])
        assert all(other["cost"] > budget or other["score_chosen"] <= row["score_chosen"] for other in rows)
    assert (np.diff(scores) >= 0).all()


def named(row: dict, prefix: str) -> Reading:
    return Reading(row[f"{prefix}resolution"], row[f"{prefix}patch_size"])


def refusal(found: list[Predictions], text: str) -> str:
    with pytest.raises(ConfigError, match="every setting costs more") as error:
        trade_off(judged_by(found, text))
    assert code_of(error.value) == 78
    return str(error.value)


def test_one_half_chooses_and_the_other_judges():
    found = made_up(1)
    first, second = (half.image_ids for half in halves(found[0]))
    setting = ("resolution", "patch_size", "then_resolution", "then_patch_size", "threshold", "cost", "score_chosen")
    pick = lambda row, names: tuple(row[name] for name in names)
    plain, judged, other = (chosen(made_up(1, tuple(ids)), "12GFLOP") for ids in ((), second, first))
    assert pick(judged, setting) == pick(plain, setting) and judged["score"] != plain["score"]
    assert pick(other, setting) != pick(plain, setting)


def test_a_cascade_costs_both_predictions_and_is_scored_by_the_last():
    """Cheap: right exactly where sure, three times in four. Better: always right, four times the cost."""
    right = np.arange(COUNT) % 4 > 0
    found = [synthetic(right, 1e9), synthetic(right, 9e9), synthetic(np.ones(COUNT), 4e9), synthetic(right, 9e9)]
    row = chosen(found, "3GFLOP")
    share = [1 - half.correct.mean() for half in halves(found[0])]
    assert (row["resolution"], row["then_resolution"], row["score"]) == (0.5, 0.8, 1.0)
    assert_close(row["cost"], 1 + 4 * max(share), FLOAT64)
    assert_close(row["share"], share[1], FLOAT64)
    assert_close(row["mean_gflops"], 1 + 4 * share[1], FLOAT64)


def test_a_reading_that_leaves_images_out_is_none():
    found = made_up(0)
    found[3] = found[3]._replace(left_out=5)
    context = judged_by(found, "1GFLOP")
    assert len(halves_of(context)[0]) == 3


def test_without_a_budget_it_says_what_to_do():
    with pytest.raises(ConfigError, match="--budget 5ms"):
        trade_off(context())


# time -----------------------------------------------------------------------------------------------------


def test_time_is_that_of_all_batches(monkeypatch):
    """Of each row length as many as there are, and padding is paid."""
    seen = context().predict(context().sampling_at(0.8))
    _, plan = evaluation_rows(context().config, context().source, context().sampling_at(0.8))
    assert sum(len(rows.segment_ids) * count for rows, count in seen.batches) >= len(plan.image_ids)
    assert len({rows.segment_ids.shape[-1] for rows, _ in seen.batches}) == len(seen.batches)
    (rows, count), *_ = seen.batches
    short, long = (rows, 3), (rows, 2)
    monkeypatch.setattr(study, "medians", lambda runs: [run() is None or t for run, t in zip(runs, (1.0, 10.0))])
    rates = study.seconds_per_token(context(), {Reading(0.8): seen._replace(batches=(short, long))})
    assert_close(rates, [(3 * 1.0 + 2 * 10.0) / seen.tokens.sum()], FLOAT64)


def test_medians_are_warm_and_interleaved(monkeypatch):
    """The first call of each run is not counted; one slow round moves no median."""
    calls, clock = [], [0.0]
    monkeypatch.setattr(study.time, "perf_counter", lambda: clock[0])

    def run(name: str, seconds: float) -> None:
        calls.append(name)
        clock[0] += 100.0 if len(calls) in (1, 2, 5) else seconds

    assert_close(study.medians([partial(run, "a", 1.0), partial(run, "b", 2.0)], 3), [1.0, 2.0], FLOAT64)
    assert calls == ["a", "b"] * 4


# stored and obeyed ----------------------------------------------------------------------------------------


def choice(**other) -> Choice:
    how = {"threshold": 0.5, "cost": 1.0, "metric": "accuracy", "score": 0.9, "device": "cpu", "parameters": "d"}
    return Choice(**{"budget": "5 ms", "first": Reading(0.5, 12), "then": Reading(0.8), **how, **other})


def test_a_choice_belongs_to_its_parameters(tmp_path):
    assert budgets.stored(tmp_path, "d") is None
    file = budgets.store(choice(), tmp_path)
    assert budgets.stored(tmp_path, "d") == choice() and budgets.stored(tmp_path, "other") is None
    file.write_text(file.read_text().replace("0.5", "0.6"))
    with pytest.raises(ConfigError, match="differs from what was saved"):
        budgets.stored(tmp_path, "d")


@given(seed=seeds, together=st.integers(1, 9))
def test_unsure_images_are_read_again(seed, together):
    """Each image by its own confidence; one that cannot be read is named, one that the second cannot read keeps the
    first prediction."""
    rng = np.random.default_rng(seed)
    first, then = rng.random((2, 8))
    bad, too_long = rng.random((2, 8)) < 0.2

    def read(images, reading, reasons):
        values, failing = (first, bad) if reading == choice().first else (then, too_long)
        for place, image in enumerate(map(int, images)):
            if failing[image]:
                reasons[place] = f"no {image}"
            yield np.array([np.nan if failing[image] else values[image]])

    reasons: dict[int, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "TOGETHER", together)
        got = [float(p[0]) for p in predict.in_turn(read, [*map(str, range(8))], choice(), reasons)]
    assert reasons == {i: f"no {i}" for i in range(8) if bad[i]}
    for i in range(8):
        again = first[i] < 0.5 and not too_long[i]
        assert np.isnan(got[i]) if bad[i] else got[i] == (then[i] if again else first[i])


def printed(arguments: list[str], monkeypatch, capsys) -> tuple[list[dict], str]:
    monkeypatch.setattr(sys, "argv", ["predict.py", *arguments, "--json", "--top", "10"])
    predict.main()
    said = capsys.readouterr()
    return [json.loads(line)["classes"] for line in said.out.splitlines()], said.err


@pytest.mark.slow
def test_what_is_chosen_is_what_predict_does(tmp_path, monkeypatch, capsys):
    """Probabilities of every image are those of the setting that the evaluation chose."""
    folder, source = tmp_path / "run", context().source
    classes = source.manifest.classes
    info = navit.ModelInfo(classes, Preprocessing(Native(0.8), row_tokens=96))
    navit.save_model(folder / "model", context().model, info)
    write_config(folder, context().config, "digits")
    options = evaluate.Options(context().config.data, split="val", budget="0.2MFLOP")
    evaluate.evaluate(folder, context().config, options)
    said = capsys.readouterr().out
    stored = budgets.stored(folder, info_of(navit.load(folder)).digest)
    assert stored and stored.then and stored.words() in said and stored.cost <= 2e5
    assert {"trade_off.csv", "trade_off.png", "report.html"} <= {file.name for file in folder.iterdir()}
    files = [str(tmp_path / f"{i}.png") for i in range(COUNT)]
    for i, file in enumerate(files):
        Image.fromarray(source.image(i)).save(file)
    got, err = printed([str(folder), *files], monkeypatch, capsys)
    assert stored.words() in err and "--choice none" in err
    by = {reading: study.predictions_by(context(), reading) for reading in study.readings_of(context())}
    want = expected(stored, by)
    for classes_of, p in zip(got, want):
        assert np.abs(np.array([classes_of[name] for name in classes]) - p).max() < PRINTED


def expected(stored: Choice, by: dict[Reading, Predictions]) -> np.ndarray:
    """Probabilities of a choice, by hand."""
    assert stored.then
    first, then = (softmax(by[reading].outputs.astype(float)) for reading in (stored.first, stored.then))
    unsure = first.max(-1) < stored.threshold
    assert unsure.any() and not unsure.all()
    return np.where(unsure[:, None], then, first)


def test_thresholds_lie_between_confidences():
    """Otherwise rounding would decide whether an image is read again."""
    context = judged_by(made_up(4), "9GFLOP")
    half = halves_of(context)[0]
    for cheap, better, threshold in study.settings(half):
        known = half[cheap].confidence
        assert cheap == better or (known.min() < threshold < known.max() and np.abs(known - threshold).min() > 0)


def test_predictions_of_a_setting_are_those_of_its_candidates():
    context = judged_by(made_up(2), "9GFLOP")
    half = halves_of(context)[0]
    got = predictions_of(study.Setting(0, 3, 0.7), half)
    cheap, better = half[0].predictions, half[3].predictions
    again = half[0].confidence < 0.7
    assert again.any() and not again.all()
    for i, twice in enumerate(again):
        want = better if twice else cheap
        assert got.scores[i] == want.scores[i] and (got.outputs[i] == want.outputs[i]).all()
        assert got.flops[i] == cheap.flops[i] + twice * better.flops[i]
