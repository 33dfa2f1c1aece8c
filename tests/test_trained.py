"""The model of a run that is not finished; which images a run was trained on; where an evaluation is written."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest

import evaluate
import export
import predict
from data.errors import DataError
from data.sources.digits import Digits
from evaluate import Options, folder_for
from harness.config import Config
from harness.run.folder import write_config
from harness.run.program import program_of
from harness.run.resume import check_images, reconcile
from harness.run.trained import shape_of, trained_model
from harness.run.warm_start import shape_from, warm_start
from navit_eqx import Model, ModelInfo, save_model
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.tasks import prepare
from navit_eqx.tasks.config import Classify
from navit_eqx.training.checkpoints import Checkpointer
from navit_eqx.weights.bridge import flatten
from tests.support.runs import TINY

CLASSES = ("a", "b", "c")
SHAPE = ModelConfig((4, 4), width=8, depth=1, heads=2, mlp_width=8, posembed=Factorised(4), dtype="float32")
CONFIG = replace(TINY, model=SHAPE, task=Classify(classes=3))
INFO = ModelInfo(CLASSES)


@pytest.fixture
def unfinished(tmp_path):
    """A run with two saves, and the model of each."""
    write_config(tmp_path, CONFIG, "digits", info=INFO)
    models = {}
    with jax.numpy_dtype_promotion("standard"):
        program = program_of(CONFIG, prepare(CONFIG.task, CLASSES, trained_model))
        with Checkpointer(tmp_path / "checkpoints", 2) as saver:
            for step in (1, 2):
                state = program.init_state(jr.key(step))
                saver.save(step, state, {})
                models[step] = flatten(program.model(state.eval_params))
    return tmp_path, models


def is_model(model: Model, tensors: dict[str, np.ndarray]) -> None:
    found = flatten(model)
    assert found.keys() == tensors.keys()
    assert all(np.array_equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.slow
def test_the_model_of_an_unfinished_run_is_that_of_its_last_save(unfinished, capsys):
    folder, models = unfinished
    with jax.numpy_dtype_promotion("standard"):
        model = trained_model(folder)
        is_model(model, models[2])
        assert model.info is not None and model.info.classes == CLASSES and shape_of(folder) == model.config
        assert "is not finished: this is the model of step 2" in capsys.readouterr().err
        config, _ = shape_from(Config(start=str(folder)))
        assert replace(config.model, dtype="float32") == SHAPE
        fresh = eqx.tree_at(lambda m: m.task.head.b, model, jax.numpy.ones(3))
        is_model(warm_start(fresh, replace(CONFIG, start=str(folder)), CLASSES), models[2])
        (folder / "checkpoints" / "2" / "state" / "manifest.ocdbt").write_bytes(b"")
        is_model(trained_model(folder), models[1])
        assert "step 2" in capsys.readouterr().err
        save_model(folder / "model", model, INFO)
        is_model(trained_model(folder), models[2])


def test_every_program_takes_the_model_of_an_unfinished_run(tmp_path, monkeypatch):
    """By the one function that knows where it is."""
    write_config(tmp_path, CONFIG, "digits", info=INFO)
    for program, more in ((evaluate, []), (export, ["out", "--to", "navit"]), (predict, ["a.png"])):
        monkeypatch.setattr("sys.argv", [f"{program.__name__}.py", str(tmp_path), *more])
        with pytest.raises(ConfigError, match="is not finished, and nothing is saved yet"):
            program.main()


def test_a_run_without_a_save_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no config.json"):
        trained_model(tmp_path)
    write_config(tmp_path, CONFIG, "digits", info=INFO)
    with pytest.raises(ConfigError, match="nothing is saved yet: continue it"):
        trained_model(tmp_path)


def manifest(count: int):
    return Digits(count, 10).open("", "train").manifest


def test_other_images_are_named_before_the_options_that_follow_from_them(tmp_path):
    """One image more changes the number of steps; the person changed neither."""
    write_config(tmp_path, replace(CONFIG, steps=100), "digits", images=(manifest(60), manifest(10)))
    now = replace(CONFIG, steps=101)
    with pytest.raises(DataError, match="names, sizes or labels differ"):
        reconcile(tmp_path, now, manifest(61))
    with pytest.raises(ConfigError, match="steps"):
        reconcile(tmp_path, now, manifest(60))
    check_images(tmp_path, manifest(60), "")


def test_no_two_evaluations_share_a_folder(tmp_path, monkeypatch):
    """Images of another place, of other names or sizes, another split, another model: each has a folder of its own."""
    monkeypatch.chdir(tmp_path)
    run, mine, other = tmp_path / "run", manifest(10).digest, manifest(11).digest
    run.mkdir()
    data = replace(CONFIG.data, root="photos")
    write_config(run, replace(CONFIG, data=data), "digits", images=(manifest(60), manifest(10)))
    options = Options(data, split="val")
    assert folder_for(run, CONFIG, options, mine) == run
    assert folder_for(run, CONFIG, replace(options, data=replace(data, root="./photos")), mine) == run
    roots, models = ("photos", "else/photos", "more/photos"), (run, Path("a", "hub"), Path("b", "hub"))
    asked = [
        (*each, split, digest)
        for each in product(models, roots)
        for split in ("val", "all")
        for digest in (mine, other)
    ]
    place = lambda model, root, split, digest: folder_for(
        model, CONFIG, Options(replace(data, root=root), split=split), digest
    )
    found = [place(*each) for each in asked]
    assert len({*found}) == len(asked) and found == [place(*each) for each in asked]
    assert all(path.parent.name == "evaluations" and path.name.startswith("photos-") for path in found if path != run)
