"""FLOPs per second, utilization and the learning curve: counted and measured, or left out."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness import cost
from harness.cost import batch_cost, image_cost, peak_flops, rates
from harness.evaluation import learning_curve
from harness.evaluation.learning_curve import draw_learning_curve, read_log, series
from harness.presets import folder
from harness.run.progress import VALIDATION, append
from navit_eqx.config import Fourier, Map, Max, Mean, ModelConfig
from navit_eqx.training.config import Backbone
from navit_eqx.training.step import token_pairs
from tests.support.laws import caught

SHAPES = [
    ModelConfig(pool=pool, registers=registers, posembed=posembed)
    for pool, registers, posembed in (
        (Map(), 0, ModelConfig().posembed),
        (Mean(), 16, Fourier()),
        (Max(), 3, Fourier()),
    )
]


def costs_add_up(shape: ModelConfig, tokens: list[int], flops=batch_cost) -> None:
    """The cost of a batch, from three sums, is the sum of the costs of its images."""
    found = flops(shape, 9, len(tokens), sum(tokens), sum(n**2 for n in tokens))
    assert found == pytest.approx(sum(image_cost(shape, 9, n) for n in tokens), rel=1e-12)


@given(shape=st.sampled_from(SHAPES), tokens=st.lists(st.integers(1, 4096), min_size=1, max_size=20))
def test_the_cost_of_a_batch_is_that_of_its_images(shape, tokens):
    costs_add_up(shape, tokens)


def test_the_cost_of_a_mean_image_is_caught():
    mean = lambda shape, classes, images, tokens, pairs: images * image_cost(shape, classes, round(tokens / images))
    caught(costs_add_up, SHAPES[0], [10, 1000], mean)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), padding=st.integers(0, 5))
def test_pairs_are_squares_of_tokens(lengths, padding):
    ids = np.concatenate([np.repeat(np.arange(1, len(lengths) + 1), lengths), np.zeros(padding, int)])
    ids = np.pad(ids, (0, 50 - len(ids)))
    assert float(token_pairs(jnp.asarray(ids[None], jnp.int32), 5)) == sum(n**2 for n in lengths)


class Device:
    device_kind = "NVIDIA H100 80GB HBM3"


def test_utilization_is_the_share_of_the_peak_or_left_out(monkeypatch):
    config = replace(folder(), task=replace(folder().task, classes=5))
    numbers = {"images": 8, "tokens": 800, "pairs": 90_000.0, "seconds": 2.0}
    flops = 3 * batch_cost(config.model, 5, 8, 800, 90_000) / 2
    assert rates(config, **numbers) == {"flops_per_second": flops}  # a CPU has no known peak
    frozen = replace(config, optim=replace(config.optim, frozen=Backbone()))
    assert rates(frozen, **numbers) == {}
    monkeypatch.setattr(cost.jax, "devices", lambda: [Device()])
    monkeypatch.setattr(cost.jax, "device_count", lambda: 4)
    in_bfloat16 = replace(config, model=replace(config.model, dtype="bfloat16"))
    assert rates(in_bfloat16, **numbers)["mfu"] == pytest.approx(flops / 4 / 989e12)
    assert "mfu" not in rates(replace(config, model=replace(config.model, dtype="float32")), **numbers)


@pytest.mark.parametrize(
    "kind, peak",
    [
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("cpu", None),
    ],
)
def test_the_longest_name_decides(kind, peak):
    assert peak_flops(kind) == peak
    for longer, name in ((a, b) for i, b in enumerate(cost.PEAKS) for a in list(cost.PEAKS)[i + 1 :]):
        assert not longer.startswith(name), f"{longer} is never reached"


def test_the_learning_curve_is_that_of_the_logs(tmp_path, monkeypatch):
    """Damaged lines are left out, values that were not finite are gaps, and the picture has both series."""
    for step in (2, 4, 6):
        append(tmp_path / "metrics.jsonl", {"step": step, "loss": None if step == 4 else 1 / step, "accuracy": 0.1})
    append(tmp_path / VALIDATION, {"step": 4, "accuracy": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 8, "loss": 0.0}) + "\n")
    steps, losses = series(read_log(tmp_path / "metrics.jsonl"), "loss")
    assert steps == [2, 4, 6] and np.isnan(losses[1]) and losses[::2] == [1 / 2, 1 / 6]
    drawn = []
    monkeypatch.setattr(
        learning_curve, "series", lambda rows, name: drawn.append((len(rows), name)) or series(rows, name)
    )
    draw_learning_curve(tmp_path, "accuracy")
    assert drawn == [(3, "loss"), (3, "accuracy"), (1, "accuracy")]
    with Image.open(tmp_path / "learning_curve.png") as image:
        assert image.size[0] > 1000
