"""Experiments: formulas against printed numbers, the driver on two steps, what is skipped, how claims are judged."""

import importlib
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.stats import ttest_1samp

from data.sampling.dropping import Constant
from data.sampling.packing import ExactFit, FirstFit
from data.sampling.resolution import Native, Square
from data.sources.glyph_captions import GlyphCaptions
from experiments import results, trained
from experiments.claims import CONFIDENCE, Claim, against_each, estimate, judge, verdict
from experiments.contrast_glyphs import run as contrast_glyphs
from experiments.fig03_aspect_ratios.run import off_square
from experiments.fig04_attention_overhead.run import shares
from experiments.fig14_sampling_laws.run import PAPER, small_rates
from experiments.hierarchy import run as hierarchy
from experiments.kept import digest, kept, others, seeded
from experiments.settings import Setting, name, with_kernel
from experiments.table2_packing.run import TABLE2, packed
from experiments.trial import evaluation_batches, source, training_flops, trial, what_evaluation_reads
from harness.evaluation.predictions import model_for_patch
from navit_eqx.images import unpack
from navit_eqx.inference import forward
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Distill
from reference.resize import RESIZES
from tests.support.experiments import TINY, filled_program, model_of, saved

ROOT = Path(__file__).parent.parent / "experiments"
FOLDERS = sorted(path.parent for path in ROOT.glob("*/run.py"))
VERDICTS = {"holds", "fails", "open"}


# numbers of the paper -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, at_1024, at_6144",
    [
        ("over the rest", (4.2, 8.3, 16.7, 33.3), 5.6),
        ("over the MLP", (6.2, 12.5, 25.0, 50.0), 8.3),
        ("of all", (4.0, 7.7, 14.3, 25.0), 5.3),
        ("of packing", (0.0, 4.0, 12.0, 28.0), 4.8),
    ],
)
def test_attention_overhead(name, at_1024, at_6144):
    """Four readings of figure 4, in per cent, for 1, 2, 4 and 8 images of 256 tokens."""
    got = [100 * shares(1024, k)[name] for k in (1, 2, 4, 8)]
    np.testing.assert_allclose(got, at_1024, atol=0.051)
    assert abs(100 * shares(6144, 8)[name] - at_6144) < 0.051


def test_packing_as_in_table_2():
    for setting, (images, tolerance) in TABLE2.items():
        got, padding = packed(setting, FirstFit(64), 2_000)
        assert abs(got - images) <= tolerance
        assert 0.003 < padding < 0.02
        assert packed(setting, ExactFit(64), 2_000)[1] < padding / 2


def test_the_beta_law_gives_the_printed_shares():
    for highest, means in PAPER.items():
        for mean, share in means.items():
            assert abs(small_rates(mean, highest) - share) < 1


def test_towers_of_images_and_texts_spend_equal_flops():
    """Both towers counted, within 1 %; shared captions spend less, and a rehearsal has few images."""
    arms = contrast_glyphs.arms(300)
    for arm, config in arms.items():
        budget = contrast_glyphs.BUDGET["texts" if arm.startswith("81") else "towers"]
        assert abs(config.total_steps * contrast_glyphs.step_flops(config) / budget - 1) < 0.01
    assert {*contrast_glyphs.SHARED, contrast_glyphs.NAVIT, contrast_glyphs.VIT} < {*arms}
    assert contrast_glyphs.arms(2)[contrast_glyphs.VIT].data.source == GlyphCaptions(256, 64)


def test_a_hierarchy_and_flat_models_spend_equal_flops():
    """Within 1 %, in rows that hold the same images."""
    arms = hierarchy.arms(300)
    budget = training_flops(arms["coarse"])
    assert all(abs(training_flops(config) / budget - 1) < 0.01 for config in arms.values())
    used = {arm for claim in hierarchy.CLAIMS for pair in claim.pairs for side in pair for arm in side}
    assert used == {*arms} and hierarchy.ROWS[hierarchy.FINE] == 4 * hierarchy.ROWS[hierarchy.COARSE]


def test_off_square():
    assert off_square(np.array([1.0, 1.19, 1 / 1.19, 1.21, 1 / 1.21, 3.0])) == 0.5


# the driver ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_trial(monkeypatch):
    """Two steps: what was seen and spent, an accuracy for each resolution, and the same again."""
    monkeypatch.setattr("experiments.trial.compiled", filled_program)
    with jax.numpy_dtype_promotion("standard"):  # Optax multiplies floats by integer step counts
        found, again = trial(TINY, (0.4,)), trial(TINY, (0.4,))
    assert found["accuracy"].keys() == {"0.4"}
    assert found["accuracy"]["0.4"] * 12 == pytest.approx(round(found["accuracy"]["0.4"] * 12))
    assert 0 < found["tokens"] <= 2 * 2 * 16
    assert found["flops"] == training_flops(TINY)
    same = ("accuracy", "images", "tokens", "flops", "train_accuracy")
    assert {k: found[k] for k in same} == {k: again[k] for k in same}


def test_evaluation_does_not_depend_on_how_a_model_was_trained():
    dropped = replace(TINY, seed=3, data=replace(TINY.data, dropping=Constant(0.5), resolution=Square(Native(1.0))))
    configs, law = [what_evaluation_reads(config) for config in (dropped, TINY)], TINY.data.resolution.at(0.4)
    assert configs[0] == configs[1]
    assert evaluation_batches(configs[0], law) is evaluation_batches(configs[1], law)


def pretend(seen: list):
    """A trial that trains nothing: its accuracy is the drop rate plus a hundredth of the seed."""

    def trial(config, resolutions, keep=None):
        seen.append(config)
        return {"accuracy": {f"{r:g}": config.data.dropping.rate + config.seed / 100 for r in resolutions},
                "images": 10, "tokens": 100, "flops": 1.0, "seconds": 0.0}  # fmt: skip

    return trial


def test_a_kernel_is_resized_in_the_named_way():
    """PI-resized beforehand, the kernel gives what the model does by itself; other ways give something else."""
    model, val, patch = model_of(TINY.model), source(TINY, "val"), (12, 12)
    batch = to_device(evaluation_batches(what_evaluation_reads(TINY), Native(0.6, 0.6), patch)[0])
    logits = {}
    for kernel in ("model", *RESIZES):
        resized = model_for_patch(model, patch) if kernel == "model" else with_kernel(model, patch, kernel)
        logits[kernel] = unpack(batch, forward(resized, batch))
    assert len(val.manifest) == 12
    np.testing.assert_allclose(logits["pi"], logits["model"], atol=1e-4)
    for kernel in ("vanilla", "area", "norm"):
        assert np.abs(logits[kernel] - logits["model"]).max() > 0.01


def test_settings_have_one_name_each_however_they_are_stored():
    settings = (0.8, Setting(1.0, 12), Setting(1.0, 12, "area"), Setting(1.5))
    assert [name(s) for s in settings] == ["0.8", "1, 12 px", "1, 12 px, area", "1.5"]
    assert [name(s) for s in json.loads(json.dumps(settings))] == [name(s) for s in settings]


ARMS = {f"rate {rate:g}": replace(TINY, data=replace(TINY.data, dropping=Constant(rate))) for rate in (0.2, 0.4)}


def test_finished_trials_are_skipped(tmp_path):
    seen, log = [], tmp_path / "new" / "trials.jsonl"
    train_missing = partial(trained.train_missing, log=log, trial=pretend(seen))
    first = [name for name, _ in train_missing(ARMS, 2, (0.4, 0.8))]
    assert first == ["rate 0.2", "rate 0.4"] * 2
    assert [*train_missing(ARMS, 2, (0.4, 0.8))] == []
    assert len(seen) == 4
    more = [line["seed"] for _, line in train_missing(ARMS, 3, (0.4, 0.8))]
    assert more == [2, 2]
    changed = {name: replace(arm, steps=3) for name, arm in ARMS.items()}
    assert len([*train_missing(changed, 1, (0.4, 0.8))]) == 2
    assert [name for name, _ in train_missing(ARMS, 1, (0.4,), only="0.2")] == ["rate 0.2"]
    assert [name for name, _ in train_missing(ARMS, 1, (0.4,))] == ["rate 0.4"]
    assert [t["arm"] for t in trained.trials_of(ARMS, 3, (0.4, 0.8), log)] == ["rate 0.2"] * 3 + ["rate 0.4"] * 3


def test_an_interrupted_line_is_trained_again(tmp_path):
    log = tmp_path / "trials.jsonl"
    train_missing = partial(trained.train_missing, ARMS, 1, (0.4,), log=log, trial=pretend([]))
    [*train_missing()]
    whole = log.read_text()
    for cut in (1, 2, len(whole) // 3):
        log.write_text(whole[:-cut])
        [*train_missing()]
        assert len(trained.trials_of(ARMS, 1, (0.4,), log)) == 2


def test_trials_of_a_result_are_finished(tmp_path):
    """Without the log from which they came, and whatever their arms were called there."""
    settings, log = (0.4,), tmp_path / "trials.jsonl"
    [*trained.train_missing(ARMS, 2, settings, log=log, trial=pretend([]))]
    found, new = trained.trials_of(ARMS, 2, settings, log), tmp_path / "new" / "trials.jsonl"
    for _ in range(2):
        trained.remember(found, new)
    assert len(new.read_text().split("\n")[1:]) == 4, "none twice"
    assert trained.trials_of(ARMS, 2, settings, new) == found
    more = [line["seed"] for _, line in trained.train_missing(ARMS, 3, settings, log=new, trial=pretend([]))]
    assert more == [2, 2]
    assert {t["arm"] for t in trained.trials_of({"other": ARMS["rate 0.2"]}, 3, settings, new)} == {"other"}


FAMILY = {
    "teacher": TINY,
    "tuned": replace(TINY, start="teacher"),
    "taught": replace(TINY, task=Distill("teacher")),
    "stranger": replace(TINY, steps=1),
}


def test_an_arm_depends_on_all_that_it_starts_from():
    """Its digest changes with the other's configuration and with nothing else, names and folders least of all."""
    usual = {name: digest(config) for name, config in seeded(FAMILY, 0).items()}
    assert len({*usual.values()}) == 4
    longer = {name: digest(c) for name, c in seeded({**FAMILY, "teacher": replace(TINY, steps=3)}, 0).items()}
    assert [name for name in FAMILY if longer[name] == usual[name]] == ["stranger"]
    other_name = {"known": TINY, "tuned": replace(TINY, start="known")}
    assert digest(seeded(other_name, 0)["tuned"]) == usual["tuned"]
    assert digest(seeded(FAMILY, 1)["taught"]) != usual["taught"]
    with pytest.raises(KeyError):
        seeded({"tuned": FAMILY["tuned"], "teacher": TINY}, 0)


def test_models_of_others_are_trained_first_and_kept(tmp_path):
    """Each once for each seed, whatever is asked for; and again where the model is lost."""
    seen, log = [], tmp_path / "trials.jsonl"

    def trial(config, settings, keep=None):
        if keep:
            saved(keep, config.model, config.seed)
        assert all(kept(Path(other)) for other in others(config))
        return pretend(seen)(config, settings)

    train_missing = partial(trained.train_missing, FAMILY, 2, (0.4,), log=log, trial=trial)
    assert [name for name, _ in train_missing(only="t")] == [*FAMILY] * 2
    assert [*train_missing()] == []
    folders = sorted((tmp_path / "models").iterdir())
    assert folders == sorted(tmp_path / "models" / digest(seeded(FAMILY, seed)["teacher"]) for seed in range(2))
    (folders[0] / "model.safetensors").unlink()
    assert [*train_missing()] == [], "no arm needs it"
    again = partial(trained.train_missing, FAMILY, 2, (0.8,), log=log, trial=trial)
    assert sorted(name for name, _ in again(only="taught")) == ["taught", "taught", "teacher"]


# verdicts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "differences, by, want",
    [
        ([0.04, 0.03, 0.05], 0.01, "holds"),
        ([0.03, 0.02, 0.04], 0.06, "fails"),  # better, but not by so much
        ([-0.03, -0.02, -0.04], 0.0, "fails"),
        ([-0.001, 0.0, 0.001], -0.005, "holds"),  # no worse than
        ([-0.03, -0.02, -0.04], 0.0, "fails"),
        ([-0.05, 0.02, 0.06], 0.0, "open"),  # too noisy to say
        ([0.02, 0.03, 0.04], 0.03 - 3 * 0.01 / 3**0.5, "open"),  # three standard errors are not enough for three seeds
        ([0.02, 0.03, 0.04], 0.03 + 3 * 0.01 / 3**0.5, "open"),
        ([0.02, 0.03, 0.04], 0.03 - 4.31 * 0.01 / 3**0.5, "holds"),
        ([0.02, 0.03, 0.04], 0.03 + 4.31 * 0.01 / 3**0.5, "fails"),
    ],
)
def test_a_verdict(differences, by, want):
    assert verdict(differences, by) == want


@pytest.mark.parametrize("count", [2, 3, 5])
def test_an_interval_is_that_of_a_t_test(count):
    values = np.random.default_rng(count).normal(0.3, 0.1, count)
    mean, _, interval = estimate(values)
    want = ttest_1samp(values, 0.0).confidence_interval(CONFIDENCE)
    np.testing.assert_allclose((mean - interval, mean + interval), want)


def test_one_seed_is_no_evidence():
    with pytest.raises(ValueError, match="at least 2"):
        verdict([0.5], 0.0)


def trials(**accuracy) -> list[dict]:
    """Arm → accuracies over seeds, the same at two resolutions, of which the second is worse by a tenth."""
    return [
        {"arm": arm, "seed": s, "accuracy": {"1": a, "2": a - 0.1}}
        for arm, seeds in accuracy.items()
        for s, a in enumerate(seeds)
    ]


def test_seeds_are_paired():
    """A difference that each seed shows counts, however far apart the seeds are."""
    found = trials(a=[0.2, 0.5, 0.8], b=[0.18, 0.48, 0.78])
    judged = judge(Claim("", 0.01, ((("a",), ("b",)),)), found)
    assert judged["verdict"] == "holds"
    assert judged["pairs"][0]["difference"] == pytest.approx(0.02)
    shuffled = trials(a=[0.2, 0.5, 0.8], b=[0.48, 0.78, 0.18])
    assert judge(Claim("", 0.01, ((("a",), ("b",)),)), shuffled)["verdict"] == "open"


def test_a_claim_about_several_is_as_good_as_its_weakest_pair():
    found = trials(a=[0.5, 0.51], b=[0.4, 0.41], c=[0.45, 0.56], d=[0.7, 0.71])
    claim = lambda others: Claim("", 0.01, against_each("a", others))
    assert judge(claim("ab"), found)["verdict"] == "holds"
    assert judge(claim("abc"), found)["verdict"] == "open"
    assert judge(claim("abcd"), found)["verdict"] == "fails"


def test_arms_of_a_side_are_averaged_and_resolutions_chosen():
    found = trials(a=[0.5, 0.52], b=[0.3, 0.32], c=[0.1, 0.12])
    pair = ((("a", "c"), ("b",)),)
    assert judge(Claim("", 0.0, pair), found)["pairs"][0]["difference"] == pytest.approx(0)
    uneven = [*trials(a=[0.5, 0.5]), *({**t, "accuracy": {"1": 0.5, "2": 0.5}} for t in trials(b=[0, 0]))]
    by = {at: judge(Claim("", 0.0, ((("a",), ("b",)),), at), uneven)["pairs"][0]["difference"] for at in ((1,), (2,))}
    assert by == {(1,): pytest.approx(0), (2,): pytest.approx(-0.1)}


def test_trials_are_judged_again(tmp_path, monkeypatch):
    """From result.json alone; what was run, and with which code, stands as it was."""
    known = trials(a=[0.5, 0.52, 0.51], b=[0.3, 0.33, 0.32])
    found = {"command": "python run.py", "commit": "c0de", "trials": [t | {"images": 10} for t in known]}
    (tmp_path / "result.json").write_text(json.dumps(found))
    (tmp_path / "README.md").write_text("# A\n\n## Result\n")
    monkeypatch.setattr(sys, "argv", ["run.py", "--judge"])
    claim, drawn = Claim("a is better", 0.1, ((("a",), ("b",)),)), []
    trained.main(trained.Experiment(tmp_path, lambda steps: {}, (1, 2), (claim,), lambda *seen: drawn.append(seen)))
    result = results.load(tmp_path)
    assert result.items() >= found.items()
    assert result["claims"] == [judge(claim, found["trials"])] and result["claims"][0]["verdict"] == "holds"
    mean, error, interval = estimate([0.2, 0.19, 0.19])
    pair = {"difference": mean, "error": error, "interval": interval, "seeds": 3}
    assert {name: result["claims"][0]["pairs"][0][name] for name in pair} == pytest.approx(pair)
    assert "| a is better | +19.3 ± 1.4 | **holds** |\n\nOver 3 seeds; ±" in (tmp_path / "README.md").read_text()
    assert drawn == [(result, tmp_path / "result.png")]


# the folders --------------------------------------------------------------------------------------


DONE = [folder for folder in FOLDERS if (folder / "result.json").exists()]


def test_what_was_not_run_says_so():
    assert len(DONE) >= 6
    for folder in FOLDERS:
        assert ("**Not run yet.**" in (folder / "README.md").read_text()) == (folder not in DONE), folder.name


@pytest.mark.parametrize("folder", DONE, ids=lambda folder: folder.name)
def test_a_folder_is_complete(folder):
    """Claim, command, result, picture; and the page says what result.json says."""
    result, page = json.loads((folder / "result.json").read_text()), (folder / "README.md").read_text()
    assert result["experiment"] == folder.name
    assert result["commit"] and "jax" in result["versions"]
    assert result["claims"] and {claim["verdict"] for claim in result["claims"]} <= VERDICTS
    assert f"python experiments/{folder.name}/run.py" in page
    assert "fixed beforehand" in page and "**The paper" in page
    assert (folder / "result.png").stat().st_size > 5_000 and "(result.png)" in page
    assert results.filled(page, results.tables(result)) == page
    assert f"]({folder.name}/README.md)" in (ROOT / "README.md").read_text()


TRAINED = [folder for folder in DONE if "experiments.trained" in (folder / "run.py").read_text()]


@pytest.mark.parametrize("folder", TRAINED, ids=lambda folder: folder.name)
def test_trained_results_are_comparable(folder):
    """At least three seeds of every arm, two of a search; what is compared equal in tokens and FLOPs, or in FLOPs for
    a named budget; verdicts that follow from the trials."""
    result = json.loads((folder / "result.json").read_text())
    run = importlib.import_module(f"experiments.{folder.name}.run")
    arms = run.arms(result["steps"])
    budget = getattr(run, "budget", lambda arm: 1)
    seeds = {arm: {t["seed"] for t in result["trials"] if t["arm"] == arm} for arm in arms}
    for arm, found in seeds.items():
        assert found == set(range(max(3, result["seeds"]))) or (budget(arm) is None and found in ({0}, {0, 1})), arm
    read = getattr(run, "read", list)(result["trials"])
    assert json.loads(json.dumps([judge(claim, read) for claim in run.CLAIMS])) == result["claims"]
    for first, second in (pair for claim in run.CLAIMS for pair in claim.pairs):
        flops = np.array([t["flops"] / budget(t["arm"]) for t in read if t["arm"] in first + second])
        assert flops.min() > 0.98 * flops.max()
    tokens = np.array([t["tokens"] for t in result["trials"]])
    assert (
        tokens.min() > 0.98 * tokens.max()
        or len({arm.model.patch for arm in arms.values()}) > 1
        or hasattr(run, "budget")
    )
    settings = result["resolutions"]
    by_seed = {s: seeded(arms, s) for s in range(result["seeds"])}
    digests = {digest(by_seed[s][arm], settings) for arm in arms for s in seeds[arm]}
    assert digests == {t["digest"] for t in result["trials"]}


def test_pages_keep_what_stands_around_the_result():
    page = "# A\n\n## Result\n\nold\n\n## Reading\n\nmine\n"
    assert results.filled(page, "new") == "# A\n\n## Result\n\nnew\n\n## Reading\n\nmine\n"
    assert results.filled("# A\n\n## Result\n\nold\n", "new") == "# A\n\n## Result\n\nnew\n"


def test_no_result_of_part_of_the_arms():
    """An arm without two seeds has no interval: the experiment waits for it."""
    found = trials(a=[0.2, 0.5], b=[0.4])
    assert trained.too_few(["a", "b", "c"], found) == ["b", "c"]
    assert trained.too_few(["a"], found) == []
