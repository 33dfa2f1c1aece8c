"""A sweep over resolutions: one or two programs, and no image that decides for the rows of others."""

from dataclasses import replace

import jax
import numpy as np

from data.evaluation_plan import most_tokens
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sources.source import Arrays
from data.tasks import TASKS
from harness.config import Config, DataConfig
from harness.evaluation.predictions import Context
from harness.run.loading import evaluation_rows
from navit_eqx.config import ModelConfig, Sinusoidal
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import abstract_model
from tests.support.laws import caught
from tests.support.programs import compiled
from tests.support.strategies import filled

SHAPE = ModelConfig((8, 8), width=8, depth=1, heads=1, mlp_width=16, posembed=Sinusoidal(), dtype="float32")
RESOLUTIONS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


def context(sizes, mlp_width: int = 16) -> Context:
    task, shape = Classify(classes=2), replace(SHAPE, mlp_width=mlp_width)
    pictures = [np.full((*size, 3), i, np.uint8) for i, size in enumerate(sizes)]
    source = Arrays(pictures, np.arange(len(sizes)) % 2, ("a", "b"))
    data = DataConfig(resolution=Native(0.5, 1.0), packing=Packing(32, 4), val_resolution=1.0)
    config = Config(model=shape, task=task, data=data)
    return Context(filled(abstract_model(shape, task), 0, "float32"), config, source, TASKS["Classify"](), RESOLUTIONS)


def needs_two_programs(run: Context) -> None:
    with compiled() as count:
        assert [len(seen.image_ids) for seen in run.predictions()] == [len(run.source.manifest)] * 6
    assert count[0] <= 2, f"{count[0]} programs"


def test_a_sweep_needs_two_programs():
    sizes = [(24 + 8 * (i % 3), 40) for i in range(20)]
    needs_two_programs(context(sizes))
    run = context(sizes, 24)
    object.__setattr__(run, "longest", 0)  # rows for each resolution by itself
    caught(needs_two_programs, run)


def test_devices_change_no_number(monkeypatch):
    run = context([(24 + 8 * (i % 3), 40) for i in range(20)])
    many = run.predict(run.sampling_at(2.0))
    one = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: one)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    np.testing.assert_array_equal(replace(run, cache={}).predict(run.sampling_at(2.0)).outputs, many.outputs)


def test_a_long_image_has_rows_of_its_own():
    """Others keep the rows of training; one that is too long for any row is left out."""
    ordinary = [(32, 40)] * 9
    run = context([*ordinary, (1, 3200), (2400, 2400)])
    batches, plan = evaluation_rows(run.config, run.source, run.sampling_at(1.0))
    short, long = batches
    assert short.patches.shape[1] == 32 and (short.image_ids >= 0).sum() == 9
    assert long.patches.shape[1] == 416 and long.image_ids[long.image_ids >= 0].tolist() == [9]
    assert [index for index, _ in plan.left_out] == [10] and most_tokens(32) == 4096
