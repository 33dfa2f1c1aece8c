"""How predict.py reads images: as was chosen for the model, unless something is said; and what it lists of them."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import predict
from harness.evaluation import budget
from harness.evaluation.budget import Choice, Reading
from navit_eqx.tasks.config import Bytes, Contrast, Segment, TextTower
from navit_eqx.tasks.config_detect import Detect
from navit_eqx.tasks.model import abstract_model
from tests.support.strategies import CONFIG

CHOICE = Choice("5 ms", Reading(0.5, 12), Reading(0.8), 0.5, 1.0, "accuracy", 0.9, "cpu", "d")
MODEL: Any = SimpleNamespace()
READER = abstract_model(CONFIG, Contrast(text=TextTower(8, 1, 1, 8), tokenizer=Bytes(8), embedding=4))


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


@pytest.mark.parametrize("name, task", [("detect", Detect()), ("segment", Segment())])
def test_boxes_and_masks_are_read_as_chosen(name, task, options, monkeypatch):
    """By the first reading: nothing is read twice where there is no confidence of an image."""
    model, read = SimpleNamespace(task=SimpleNamespace(config=task), config=SimpleNamespace(tubelets=None)), []
    monkeypatch.setattr(predict, "trained_model", lambda run: model)
    monkeypatch.setattr(predict, name, lambda model, paths, options, reasons: read.append(predict.reading_of(options)))
    monkeypatch.setattr("sys.argv", ["predict.py", options.run, "a.png"])
    predict.main()
    assert read == [CHOICE.first]


def test_a_search_lists_what_can_be_read(monkeypatch, capsys):
    """The most similar first; as many as are asked for, of the images that have a vector."""
    likeness = {"a.png": 0.1, "broken.png": float("nan"), "b.png": 0.7, "c.png": 0.4}

    def stream(model, paths, report):
        for k, path in enumerate(paths):
            if likeness[path] != likeness[path]:
                report(k, f"{path}: is none")
            yield np.array([likeness[path]], np.float32)

    shown: list[list[str]] = []
    monkeypatch.setattr(predict.navit, "stream", stream)
    monkeypatch.setattr(predict.navit, "embed_texts", lambda model, texts: np.ones((1, 1)))
    monkeypatch.setattr(predict, "chosen", lambda model, options: {})
    monkeypatch.setattr(predict, "model_for_patch", lambda model, patch: model)
    monkeypatch.setattr(predict, "contact_sheet", lambda paths, scores, text, file: shown.append(paths))
    for top, want in ((9, ["b.png", "c.png", "a.png"]), (2, ["b.png", "c.png"])):
        options = predict.Options("", tuple(likeness), search="x", top=top)
        predict.search(READER, [*likeness], options, reasons := {})
        said = capsys.readouterr()
        assert [line.partition(":")[0] for line in said.out.splitlines()] == shown.pop() == want
        assert "set aside broken.png" in said.err and reasons == {1: "broken.png: is none"}
