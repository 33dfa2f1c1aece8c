"""An imported tower in the programs: trained from, evaluated, and refused by name where it cannot be used."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import navit_eqx as navit
import predict
from data.sampling import resolution as sampling
from harness.config import Config
from harness.digit_presets import large_digits
from harness.evaluation.loaded import config_of, sampling_of
from harness.run.warm_start import shape_from, warm_start
from navit_eqx import preprocessing as rules
from navit_eqx.errors import ConfigError
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import Model
from navit_eqx.weights.bridge import flatten
from navit_eqx.weights.folder import open_folder
from navit_eqx.weights.foreign import described, located
from navit_eqx.weights.names import read, write
from tests.support import golden
from tests.support.golden import FOLDER


def test_training_starts_from_a_tower():
    """Its shape, its numbers, a new head."""
    import jax

    base = replace(large_digits(), start=str(FOLDER / "dinov2_registers"), task=Classify(classes=4))
    config, notes = shape_from(base)
    tower = navit.load(base.start)
    assert config.model.registers == 3 and config.model.mean == tower.config.mean
    fresh = Model(config.model, config.task, key=jax.random.key(0))
    started = warm_start(fresh, config, ("a", "b", "c", "d"))
    started = started[0] if isinstance(started, tuple) else started
    np.testing.assert_array_equal(started.backbone.registers, tower.backbone.registers)
    assert started.task.head.w.shape == (16, 4) and notes


@pytest.mark.parametrize("name", golden.FAMILIES)
def test_a_tower_is_saved_as_ours(name, tmp_path):
    """Equal to the bit, with its configuration, preprocessing and classes."""
    model = navit.load(FOLDER / name)
    navit.save_model(tmp_path, model, model.info)
    again = navit.load(tmp_path)
    assert again.config == model.config and again.task.config == model.task.config
    assert replace(again.info, digest="") == replace(model.info, digest="")
    for got, want in zip(flatten(again).items(), flatten(model).items(), strict=True):
        assert got[0] == want[0]
        np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.parametrize("name", golden.FAMILIES)
def test_a_table_leads_back(name):
    """Ours → theirs → ours, equal to the bit: the same names and shapes as in the folder, up to what is not read."""
    folder = open_folder(FOLDER / name)
    said = described(folder)
    ours = flatten(navit.load(FOLDER / name))
    theirs = write(said.table, said.config, ours)
    assert {located(folder, said, n): x.shape for n, x in theirs.items()}.items() <= folder.shapes.items()
    again = read(said.table, said.config, theirs.__getitem__)
    assert again.keys() == ours.keys()
    for key, value in again.items():
        np.testing.assert_array_equal(value, ours[key])


@pytest.mark.parametrize(
    "rule, law",
    [
        (rules.Area(64), sampling.Sides(64, 64)),
        (rules.NeverEnlarged(rules.Native(0.5)), sampling.NeverEnlarged(sampling.Native(0.5, 0.5))),
        (rules.Square(rules.TokenBudget(9)), sampling.Square(sampling.TokenBudget(9))),
        (rules.OneSquare(32), sampling.OneSquare(32)),
        (rules.CeilBudget(20), sampling.TokenBudget(20)),
        (rules.Fixed(8, 12), sampling.TokenBudget(24)),
        (rules.CenterCrop(8, 8, 10), sampling.TokenBudget(16)),
        (rules.LongestEdge(16, 2), sampling.NeverEnlarged(sampling.TokenBudget(64))),
        (rules.Blocks(16, 80), sampling.NeverEnlarged(sampling.TokenBudget(20))),
    ],
)
def test_a_size_rule_as_a_sampling(rule, law):
    assert sampling_of(rule, (2, 2)) == law


def test_a_tower_is_evaluated_on_as_many_tokens_as_it_reads():
    config = config_of(FOLDER / "vit")
    assert isinstance(config, Config) and config.data.resolution == sampling.TokenBudget(16)
    assert config.data.reported_at == 16 and config.task == Classify(classes=3)


def test_predict_prints_the_classes_of_a_tower(tmp_path, monkeypatch, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr("sys.argv", ["predict.py", str(FOLDER / "vit"), str(tmp_path / "a.png"), "--top", "3"])
    predict.main()
    said = capsys.readouterr().out
    assert all(f"LABEL_{k} " in said for k in range(3)), said


def test_a_tower_without_classes_predicts_none(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((9, 14, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr("sys.argv", ["predict.py", str(FOLDER / "dinov2"), str(tmp_path / "a.png")])
    with pytest.raises(ConfigError, match="no classes, its task is Embed"):
        predict.main()


def test_center_crops():
    """The whole image is resized first; half of what is cut off is rounded as asked."""
    crop = rules.CenterCrop(8, 8, 10)
    assert crop.resized((13, 21)) == (10, 16) and crop.corner((10, 16)) == (1, 4)
    assert replace(crop, middle="round").corner((11, 13)) == (2, 2) and crop.corner((11, 13)) == (1, 2)
    assert replace(crop, aspect=False).resized((13, 21)) == (10, 10)
    assert rules.at_resolution(crop, 16) == rules.CenterCrop(16, 16, 20)
    with pytest.raises(ValueError, match="no whole patches"):
        crop.grid((13, 21), (3, 3))
