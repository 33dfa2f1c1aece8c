"""`predict.py`: what it prints is what evaluation finds, by the function that the model was trained with."""

import json
import re
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import navit_eqx as navit
import predict
import train
from data.sampling.packing import Packing
from data.sampling.resolution import Native, NeverEnlarged, OneSquare, Sides, Square, TokenBudget
from data.tasks import TASKS
from harness.config import Config, DataConfig
from harness.evaluation.predictions import Context
from harness.exit_codes import run
from navit_eqx.config import Factorised, Flexi, ModelConfig
from navit_eqx.tasks.config import Classify, Distill, MultiLabel, Sigmoid
from navit_eqx.tasks.model import Model, abstract_model
from reference.evaluation.calibration import sigmoid, softmax
from tests.support.laws import caught
from tests.support.strategies import filled
from tests.support.tolerances import FLOAT32, PRINTED, assert_close

CLASSES = ("blue", "green", "red")
SHAPE = ModelConfig(
    (4, 4), width=16, depth=1, heads=2, mlp_width=16, posembed=Factorised(48), flexi=Flexi((4, 6)), dtype="float32"
)
LINKS = {
    "softmax": (Classify(classes=3), softmax),
    "sigmoid": (Classify(Sigmoid(), 3), sigmoid),
    "label sets": (MultiLabel(3), sigmoid),
    "student": (Distill("a run", Sigmoid(), classes=3), sigmoid),
}
LAWS = [
    Native(0.8, 0.8),
    Sides(24, 24),
    NeverEnlarged(Sides(40, 40)),
    Square(Sides(24, 24)),
    OneSquare(24),
    TokenBudget(30),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Pictures of many shapes, of three classes, as files."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for k, name in enumerate(CLASSES):
        (folder / "val" / name).mkdir(parents=True)
        (folder / "train" / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (*rng.integers(14, 50, 2), 3), np.uint8)
            for split in ("train", "val"):
                Image.fromarray(pixels).save(folder / split / name / f"{k}{i}.png")
    return folder


@lru_cache
def model_for(name: str) -> Model:
    """A model whose logits are far from one another, so that softmax and sigmoid are too."""
    return filled(abstract_model(SHAPE, LINKS[name][0]), 3, "float32").for_inference()


def config_for(root: Path, law, model: Model) -> Config:
    at = law.spread[1]
    data = DataConfig(
        root=str(root), resolution=law, packing=Packing(144, 8), val_resolution=at, eval_resolutions=(at,)
    )
    return Config(model=SHAPE, task=model.task.config, data=data, rows=2, steps=1)


def saved(folder: Path, config: Config, model: Model) -> Context:
    """A model on disk as train.py saves it, and what evaluation finds of it."""
    images, val = (config.data.source.open(config.data.root, split) for split in ("train", "val"))
    navit.save_model(folder / "model", model, train.info_of(config, images))
    return Context(model, config, val, TASKS[type(model.task).__name__](), ())


def files_of(context: Context) -> list[str]:
    manifest = context.source.manifest
    return [f"{context.config.data.root}/val/{manifest.name(i)}" for i in range(len(manifest))]


def printed(run_folder: Path, arguments: list[str], monkeypatch, capsys) -> dict[str, dict[str, float]]:
    """Classes and shares that the program prints, by file."""
    monkeypatch.setattr(sys, "argv", ["predict.py", str(run_folder), *arguments])
    predict.main()
    lines = [line.rpartition(": ") for line in capsys.readouterr().out.splitlines()]
    shares = [re.findall(r"(\w+) ([\d.]+)%", said) for *_, said in lines]
    return {name: {label: float(p) / 100 for label, p in said} for (name, *_), said in zip(lines, shares)}


def says_by(link, run_folder: Path, context: Context, monkeypatch, capsys) -> None:
    """All classes of every image, most probable first, to the digit printed: this function of evaluation's logits."""
    files = files_of(context)
    said = printed(run_folder, files, monkeypatch, capsys)
    assert [*said] == files
    want = link(context.predict(context.sampling_at(context.config.data.reported_at)).outputs.astype(float))
    for shares, p in zip(said.values(), want):
        assert {*shares} == {*CLASSES} and list(shares.values()) == sorted(shares.values(), reverse=True)
        assert np.abs(np.array([shares[name] for name in CLASSES]) - p).max() < PRINTED


@pytest.mark.parametrize("name", LINKS)
def test_probabilities_are_those_of_the_function_it_was_trained_with(root, tmp_path, monkeypatch, capsys, name):
    context = saved(tmp_path, config_for(root, Sides(32, 32), model_for(name)), model_for(name))
    link, other = LINKS[name][1], softmax if LINKS[name][1] is sigmoid else sigmoid
    says_by(link, tmp_path, context, monkeypatch, capsys)
    caught(says_by, other, tmp_path, context, monkeypatch, capsys)


def test_softmax_for_every_model_is_caught(root, tmp_path, monkeypatch, capsys):
    context = saved(tmp_path, config_for(root, Sides(32, 32), model_for("sigmoid")), model_for("sigmoid"))
    monkeypatch.setattr(predict.navit, "probabilities", lambda model, logits: softmax(np.asarray(logits, float)))
    caught(says_by, sigmoid, tmp_path, context, monkeypatch, capsys)


FAST = (Native, Sides)  # of the others each differs in the size rule alone: tests/test_preprocessing.py


@pytest.mark.parametrize(
    "law",
    [pytest.param(law, marks=() if isinstance(law, FAST) else pytest.mark.slow) for law in LAWS],
    ids=lambda law: type(law).__name__,
)
def test_predictions_are_those_of_evaluation(root, tmp_path, law):
    """The same images at the resolution of the run, at another one, and in other patches."""
    context = saved(tmp_path, config_for(root, law, model_for("softmax")), model_for("softmax"))
    model, files, at = navit.load(tmp_path), files_of(context), law.spread[1]
    for resolution, patch in ((None, None), (at * 0.8, None), (at, 6), (None, 5)):
        options = predict.Options(str(tmp_path), tuple(files), resolution=resolution, patch_size=patch)
        got = np.stack([*predict.predict(model, files, predict.chosen(model, options), {})])
        seen = context.predict(context.sampling_at(resolution or at), patch=patch and (patch, patch))
        assert len(seen.image_ids) == len(files)
        assert_close(got, softmax(seen.outputs.astype(float)), FLOAT32)


def test_another_resolution_is_another_prediction(root, tmp_path):
    """Otherwise the test above would say nothing about it."""
    context = saved(tmp_path, config_for(root, Sides(24, 24), model_for("softmax")), model_for("softmax"))
    model, files = navit.load(tmp_path), files_of(context)
    small, large = (predict.Options(str(tmp_path), (), resolution=r) for r in (24, 32))
    a, b = (
        np.stack([*predict.predict(model, files, predict.chosen(model, options), {})]) for options in (small, large)
    )
    caught(assert_close, a, b, 100 * FLOAT32)


def test_top_is_how_many_classes_are_printed(root, tmp_path, monkeypatch, capsys):
    context = saved(tmp_path, config_for(root, Sides(24, 24), model_for("softmax")), model_for("softmax"))
    for top, count in ((1, 1), (2, 2), (9, 3)):
        said = printed(tmp_path, [*files_of(context), "--top", str(top)], monkeypatch, capsys)
        assert {len(shares) for shares in said.values()} == {count}


def test_files_that_are_no_images_are_named_and_cost_no_other(root, tmp_path, monkeypatch, capsys):
    """Also where the header is in order and the pixels are not."""
    context = saved(tmp_path, config_for(root, Sides(24, 24), model_for("softmax")), model_for("softmax"))
    good = files_of(context)[:2]
    whole = Path(good[0]).read_bytes()
    bad = {"no.png": b"nothing", "half.png": whole[: len(whole) // 2]}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["predict.py", str(tmp_path), good[0], *(str(tmp_path / n) for n in bad), good[1]])
    predict.main()
    said = capsys.readouterr()
    assert [line.partition(": ")[0] for line in said.out.splitlines()] == good
    for name in bad:
        assert re.search(rf"set aside .*{name}", said.err)


def test_where_no_pixels_can_be_decoded_it_fails(root, tmp_path, monkeypatch, capsys):
    context = saved(tmp_path, config_for(root, Sides(24, 24), model_for("softmax")), model_for("softmax"))
    whole = Path(files_of(context)[0]).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(sys, "argv", ["predict.py", str(tmp_path), str(tmp_path / "half.png")])
    with pytest.raises(SystemExit) as end:
        run(predict.main)
    said = capsys.readouterr().err
    assert end.value.code == 65 and "half.png" in said and "none of 1 files is an image" in said


@pytest.mark.parametrize(
    "arguments, code, words", [([], 66, "name one or more"), (["nowhere.png"], 65, "none of 1 files is an image")]
)
def test_without_an_image_it_says_so(root, tmp_path, monkeypatch, capsys, arguments, code, words):
    saved(tmp_path, config_for(root, Sides(24, 24), model_for("softmax")), model_for("softmax"))
    monkeypatch.setattr(sys, "argv", ["predict.py", str(tmp_path), *arguments])
    with pytest.raises(SystemExit) as end:
        run(predict.main)
    assert end.value.code == code and words in capsys.readouterr().err


def test_what_is_saved_of_a_run_is_how_its_images_are_read(root):
    """Resolution, channels and rows of the run; classes in the order of its outputs."""
    config = config_for(root, NeverEnlarged(Sides(40, 40)), model_for("softmax"))
    config = replace(config, data=replace(config.data, resolution=NeverEnlarged(Sides(20, 40)), val_resolution=30.0))
    info = train.info_of(config, config.data.source.open(config.data.root, "train"))
    assert info.classes == CLASSES and info.preprocessing.size.rule.side == 30.0
    assert (info.preprocessing.row_tokens, info.preprocessing.row_images, info.preprocessing.channels) == (144, 8, 3)


def test_folders_and_patterns_are_all_their_files(root, tmp_path, monkeypatch, capsys):
    """In order; junk among them is named and counted; a name with brackets is a name where there is such a file."""
    context = saved(tmp_path / "run", config_for(root, Sides(24, 24), model_for("softmax")), model_for("softmax"))
    photos, good = tmp_path / "photos", Path(files_of(context)[0]).read_bytes()
    (photos / "deep").mkdir(parents=True)
    for name, content in {"b.png": good, "a[1].png": good, "deep/c.png": good, "notes.txt": b"x", ".hid": b"x"}.items():
        (photos / name).write_bytes(content)
    expected = {"": ["a[1].png", "b.png", "notes.txt", "deep/c.png"], "/**/*.png": ["a[1].png", "b.png", "deep/c.png"]}
    expected |= {"/a[1].png": ["a[1].png"], "/[ab].png": ["b.png"], "/*.gif": ["*.gif"]}
    for pattern, names in expected.items():
        assert [*predict.files([f"{photos}{pattern}"])] == [f"{photos}/{name}" for name in names]
    monkeypatch.setattr(sys, "argv", ["predict.py", str(tmp_path / "run"), str(photos), "--json", "--top", "2"])
    predict.main()
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["image"] for line in lines] == [f"{photos}/{name}" for name in expected[""]]
    assert [len(line.get("classes", ())) for line in lines] == [2, 2, 0, 2] and "notes.txt" in lines[2]["error"]
    assert "3 of 4 files, 1 set aside" in said.err
