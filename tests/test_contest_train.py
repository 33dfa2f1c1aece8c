"""The contest from files to weights: one law of resolution for all, the same files, times that are those of a goal."""

import json
import subprocess
import sys
from math import log
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.contest.budgets import TokenBudgets
from benchmarks.contest.feed_jax import configuration
from benchmarks.contest.feeding import BUDGETS, MODEL, RECIPES, STEP_TOKENS, batch_size, mean_budget, of_paths, weights
from benchmarks.contest_train import check_equal, check_tokens, line_of, ratios, reached

ROOT = Path(__file__).parent.parent
SIZES = st.lists(st.tuples(st.integers(8, 300), st.integers(8, 300)), min_size=1, max_size=30)


@given(SIZES, st.integers(0, 99))
def test_an_image_has_the_largest_size_within_its_budget(sizes, seed):
    law = TokenBudgets(choices=BUDGETS, shares=tuple(weights()))
    grids = law.grids(np.random.default_rng(seed), np.array(sizes, np.int32), (8, 8))
    assert (grids >= 1).all() and (law.token_counts(grids) <= max(BUDGETS)).all()


def test_budgets_are_as_frequent_as_in_batches_of_one_budget_each():
    batches = [batch_size(budget) for budget in BUDGETS]
    assert all(size % 8 == 0 and size * budget <= STEP_TOKENS for size, budget in zip(batches, BUDGETS))
    drawn = [budget for budget, size in zip(BUDGETS, batches) for _ in range(size)]  # one batch of each
    assert np.mean(drawn) == pytest.approx(mean_budget()) and sum(weights()) == pytest.approx(1)
    square = np.full((20_000, 2), 100, np.int32)
    law = TokenBudgets(choices=(4, 16), shares=(0.75, 0.25))
    counts = law.token_counts(law.grids(np.random.default_rng(0), square, (8, 8)))
    assert {*counts.tolist()} == {4, 16} and np.mean(counts == 4) == pytest.approx(0.75, abs=0.02)


def test_all_have_as_many_tries():
    assert {len(recipes) for recipes in RECIPES.values()} == {3}
    task = {"root": "r", "workers": 0, "model": MODEL, "steps": 9}
    for recipe in RECIPES["ours"].values():
        config = configuration(task | {"recipe": recipe})
        assert config.steps == 9 and config.data.root == "r" and config.data.workers == 0


def test_the_same_files_and_a_first_loss_of_chance(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg"):
        path = tmp_path / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    good = {"digest": of_paths(["b/2.jpg", "x/b/1.jpg", "a/1.jpg"]), "classes": 2, "first_loss": log(2)}
    check_equal([good, good], tmp_path)
    for wrong in ({"digest": of_paths(["a/1.jpg"])}, {"first_loss": 2.0}):
        with pytest.raises(AssertionError):
            check_equal([good, good | wrong], tmp_path)
    check_tokens([{"tokens_per_image": 40.0}, {"tokens_per_image": 43.0}], quick=False)
    with pytest.raises(AssertionError, match="tokens per image"):
        check_tokens([{"tokens_per_image": 40.0}, {"tokens_per_image": 45.0}], quick=False)


def process(seconds, absent="", **more):
    """A contestant with 100 images of 40 tokens in each round."""
    amounts = {"images": 100, "tokens": 4000, "places": 5000, "steps": 2, "peak_bytes": 7}
    rounds = [] if absent else [amounts | {"wall_seconds": s} for s in seconds]
    return SimpleNamespace(rounds=rounds, absent=absent, started=100.0, about={"first_step_at": 103.5} | more)


def test_ratios_are_those_of_the_same_round():
    running = {
        ("ours", 0): process([1.0, 2.0, 1.0]),
        ("ours", 1): process([0.5, 0.5, 0.5]),
        ("timm", 0): process([2.0, 6.0, 3.0]),
        ("timm", 1): process([1.0, 1.0, 2.0]),
        ("vit-pytorch", 0): process([], absent="why"),
    }
    line = line_of(running["timm", 0])
    assert line["images_per_second"] == pytest.approx(100 / 3) and line["padding"] == pytest.approx(0.2)
    assert (line["first_step_seconds"], line["tokens_per_image"], line["images_per_step"]) == (3.5, 40, 50)
    assert line_of(running["vit-pytorch", 0]) == {"absent": "why"}
    found = {x["workers"]: (x["value"], x["value_min"], x["value_max"]) for x in ratios(running)}
    assert found == {0: (3.0, 2.0, 3.0), 1: (2.0, 2.0, 4.0), "best": (2.0, 2.0, 4.0)}


def test_the_time_of_a_goal_is_that_of_the_first_evaluation_that_reached_it():
    curve = [{"seconds": 10.0 * i, "images": i, "accuracy": a} for i, a in enumerate((0.1, 0.45, 0.4, 0.5))]
    assert reached(curve, 0.45) == {"seconds": 10.0, "images": 1}
    assert reached(curve, 0.6) == {"seconds": None, "images": None}


# all of it ----------------------------------------------------------------------------------------


@pytest.fixture
def photographs(tmp_path):
    """A few images of two classes in train/ and val/."""
    rng = np.random.default_rng(0)
    for i in range(48):
        path = tmp_path / ("val" if i % 6 == 0 else "train") / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (int(rng.integers(40, 90)), int(rng.integers(40, 90)), 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [("contest_train", "--workers", "0"), ("contest_train", "--until", "0.01"), ("decoders", "--workers", "0", "1")],
)
def test_a_quick_run(photographs, script):
    name, *options = script
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--root", str(photographs), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    assert {line["absent"] for line in lines if "absent" in line} <= {"--peers is not set"}
    known = {line["name"]: line for line in lines if "absent" not in line}
    assert f"{name}_until" in known if "--until" in options else name in known
