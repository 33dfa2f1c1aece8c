"""Models that several experiments look at are trained once."""

from functools import partial

import jax
import numpy as np

from experiments import trained
from experiments.trial import model_after
from navit_eqx.training.step import Metrics
from tests.support.experiments import TINY, filled_program


def looked_at(config, settings, keep=None) -> dict:
    """A trial that looks at the parameters of its model."""
    model, _, _, spent = model_after(config, keep)
    return {
        "accuracy": {},
        "sum": sum(float(np.abs(np.asarray(x, float)).sum()) for x in jax.tree.leaves(model)),
        **spent,
    }


def test_experiments_share_the_models_they_look_at(tmp_path, monkeypatch):
    """One training, whatever is asked of its model; what was spent is told each time. Without it, another training."""
    trainings, log = [], tmp_path / "trials.jsonl"

    def learn(config, rows, task, program):
        trainings.append(config.seed)
        return program.init_state(None), Metrics(*(1.0 for _ in Metrics._fields))._replace(extras={})

    monkeypatch.setattr("experiments.trial.compiled", filled_program)
    monkeypatch.setattr("experiments.trial.learn", learn)
    arms = {"one": TINY}
    train_missing = partial(trained.train_missing, arms, 2, log=log, trial=looked_at)
    first, second = ([line for _, line in train_missing(settings, keep=True)] for settings in ((0.4,), (0.5,)))
    assert trainings == [0, 1]
    for a, b in zip(first, second, strict=True):
        assert a.pop("digest") != b.pop("digest") and a == b and a["images"] == 1
    next((tmp_path / "models").glob("*.json")).unlink()
    [*train_missing((0.6,), keep=True)]
    assert len(trainings) == 3
    [*train_missing((0.7,))]
    assert len(trainings) == 5
