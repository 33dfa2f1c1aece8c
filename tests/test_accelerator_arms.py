"""Every trained experiment has a variant for accelerators: wider models, more rows, the same shares of compute."""

import importlib
from dataclasses import replace

import pytest

from experiments import accelerator, figures
from experiments.accelerator import BATCH, LARGER, enlarged, larger
from experiments.contrast_glyphs.run import training_cost
from experiments.flexi_buffers.run import KERNELS
from experiments.trial import training_flops
from harness.config import Config
from navit_eqx.config import ModelConfig, Stages
from navit_eqx.tasks.config import Contrast, TextRows, TextTower
from tests.support.experiments import TINY
from tests.support.laws import caught

NAMES = [
    name for name in figures.experiments() if "experiments.trained" in (figures.HERE / name / "run.py").read_text()
]
STEPS_ARE_EQUAL = {"flexi_buffers", "template_rows"}


def cost_of(name: str):
    """What the arms of an experiment share."""
    if name in STEPS_ARE_EQUAL:
        return lambda config: config.total_steps
    return training_cost if name == "contrast_glyphs" else training_flops


@pytest.mark.parametrize("name", NAMES)
def test_shares_stay(name):
    """Within 1 %, for all arms; each is a wider model, and as deep."""
    run = importlib.import_module(f"experiments.{name}.run")
    keeps_shares(run.arms(300), cost_of(name))


def keeps_shares(small: dict[str, Config], cost) -> None:
    large, first = accelerator.enlarged(small, cost), next(iter(small))
    for arm, config in small.items():
        before, after = cost(config) / cost(small[first]), cost(large[arm]) / cost(large[first])
        assert after == pytest.approx(before, rel=0.01), arm
        assert (large[arm].model.width, large[arm].rows) == (8 * config.model.width, BATCH * config.rows)
        assert large[arm].model.depth == config.model.depth and large[arm].model.patch == config.model.patch


def test_steps_that_stay_are_caught(monkeypatch):
    """A coarser patch costs more beside a narrow model than beside a wide one."""
    small = importlib.import_module("experiments.flexi_sizes.run").arms(300)
    monkeypatch.setattr(
        accelerator, "enlarged", lambda arms, cost: {name: accelerator.wide(config) for name, config in arms.items()}
    )
    caught(keeps_shares, small, training_flops)


def test_steps_are_equal_where_they_were():
    run = importlib.import_module("experiments.flexi_buffers.run")
    large = enlarged(run.arms(300), cost_of("flexi_buffers"))
    assert {large[arm].steps for arm in KERNELS} == {300}


def test_all_towers_grow():
    """Stages and towers of texts too; what is open stays open."""
    model = larger(ModelConfig(width=32, depth=3, heads=4, mlp_width=64, stages=Stages((1, 2), (32, 48))))
    assert (model.width, model.heads, model.mlp_width, model.stages.widths) == (256, 8, 512, (256, 384))
    task = larger(Contrast(text=TextTower(32, 2, 2, 64), texts=TextRows(2, 40, 8)))
    assert task.text == TextTower(256, 2, 4, 512) and task.texts == TextRows(2 * BATCH, 40, 8)
    assert larger(Contrast()).texts == TextRows()
    assert set(LARGER) >= {"width", "heads"}


def test_what_arms_differ_in_stays():
    """Start, seed and law of an arm are as they were."""
    tuned = replace(TINY, start="known", seed=3)
    found = enlarged({"known": TINY, "tuned": tuned}, training_flops)["tuned"]
    assert (found.start, found.seed, found.data.resolution) == ("known", 3, TINY.data.resolution)
