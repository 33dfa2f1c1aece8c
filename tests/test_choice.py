"""How predict.py reads images: as was chosen for the model, unless something is said; and what it lists of them."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import predict
from harness.evaluation import budget
from harness.evaluation.budget import Choice, Reading

CHOICE = Choice("5 ms", Reading(0.5, 12), Reading(0.8), 0.5, 1.0, "accuracy", 0.9, "cpu", "d")
MODEL: Any = SimpleNamespace()


@pytest.fixture
def options(tmp_path, monkeypatch) -> predict.Options:
    """Those of a model with a choice, where nothing more is said."""
    budget.store(CHOICE, tmp_path)
    monkeypatch.setattr(predict, "info_of", lambda model: SimpleNamespace(digest="d"))
    return predict.Options(str(tmp_path), ())


def test_options_overrule_a_choice(options, capsys):
    """Whatever says how an image is read; what says nothing of it does not."""
    for same in ({}, {"top": 3}, {"json": True}):
        assert predict.obeyed(MODEL, replace(options, **same)) == CHOICE
        assert CHOICE.words() in capsys.readouterr().err
    for other in ({"choice": "none"}, {"resolution": 0.8}, {"patch_size": 8}, {"merge_rate": 0.0}):
        assert predict.obeyed(MODEL, replace(options, **other)) is None
    assert not capsys.readouterr().err
