"""Cases: folders that people have, each with the value that must come out. Labels are judged by their pictures.

A picture of these sets is told by its spectrum: the class of its nearest neighbors among the training images of `good`.
So labels that mean another name are seen without a trained model.
"""

import json
import re
from collections import Counter
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data.errors import DataError
from data.sampling.resolution import Sides
from data.sources.decode import resize
from data.sources.folder import Folder
from data.sources.parquet import Parquet
from data.sources.source import Source, with_classes
from data.tasks import TASKS
from harness.digit_presets import large_digits
from harness.presets import folder
from harness.resolve import resolve
from harness.run.loading import training_rows
from harness.run.progress import Progress
from navit_eqx import ModelConfig, ModelInfo, load_model, save_model
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import abstract_model
from navit_eqx.training.config import Cosine, OptimConfig
from navit_eqx.training.optim import schedule
from navit_eqx.training.step import Metrics
from tests.support.strategies import filled

FOUR = ("bars", "disc", "frame", "rungs")
NEIGHBORS = 5


@pytest.fixture
def cases(datasets) -> Path:
    if not (datasets / "cases").is_dir():
        pytest.skip(f"{datasets} has no cases/")
    return datasets / "cases"


def spectra(source: Source) -> np.ndarray:
    """Magnitudes of the Fourier transform of each picture, which hardly move with it."""
    gray = [resize(source.image(i), (32, 32)).mean(-1) for i in range(len(source.manifest))]
    return np.array([np.log1p(np.abs(np.fft.rfft2(g - g.mean()))).ravel() for g in gray])


def named(source: Source) -> list[str]:
    """The class of each image, by name."""
    return [source.manifest.classes[label] for label in source.manifest.labels]


@lru_cache
def known(root: Path) -> tuple[np.ndarray, list[str]]:
    train = Folder().open(str(root / "good"), "train")
    return spectra(train), named(train)


def says_what_it_shows(source: Source, root: Path) -> None:
    """Nearly every label is the name of what its picture shows."""
    x, names = known(root)
    distance = ((spectra(source)[:, None] - x) ** 2).sum(-1)
    shown = [Counter(names[k] for k in row[:NEIGHBORS]).most_common(1)[0][0] for row in distance.argsort(-1)]
    right = np.mean([a == b for a, b in zip(shown, named(source), strict=True)])
    assert right > 0.95, f"{right:.3f} of the labels are what the pictures show"


def opened(root: Path, name: str, split: str, count: int, kind=Folder) -> Source:
    source = kind().open(str(root / name), split)
    assert len(source.manifest) == count
    says_what_it_shows(source, root)
    return source


def notes(source: Source) -> str:
    return "\n".join(source.manifest.notes)


def test_good(cases):
    opened(cases, "good", "train", 96)
    val = opened(cases, "good", "val", 40)
    val.manifest = replace(val.manifest, classes=val.manifest.classes[::-1])
    with pytest.raises(AssertionError, match="of the labels"):
        says_what_it_shows(val, cases)


def test_testset_flat(cases):
    """All of them."""
    assert opened(cases, "testset_flat", "all", 120).manifest.classes == FOUR


@pytest.mark.parametrize("name, count", [("testset_three", 18), ("testset_val_only", 24)])
def test_testset_three_and_testset_val_only(cases, name, count):
    """By the classes of the model, whichever of them the set has, in whatever order."""
    source = opened(cases, name, "all", count)
    for classes in (FOUR, FOUR[::-1]):
        theirs = with_classes(source, classes)
        assert theirs.manifest.classes == classes
        says_what_it_shows(theirs, cases)


def test_kaggle(cases):
    for split, count in (("train", 48), ("val", 24)):
        assert opened(cases, "kaggle", split, count).manifest.classes == FOUR


def test_deep(cases):
    with pytest.raises(DataError, match="has 1 class, images: name the folder"):
        Folder().open(str(cases / "deep"), "train")
    assert opened(cases, "deep/images", "all", 48).manifest.classes == FOUR


def test_macosx(cases):
    source = opened(cases, "macosx", "all", 40)
    assert source.manifest.classes == ("disc", "frame")
    assert "left out: __MACOSX/" in notes(source) and "classes: disc, frame" in notes(source)


def test_empty(cases, tmp_path):
    """The folders without an image are made here: archives and version control lose them."""
    for split in ("train", "val"):
        for path in (cases / "empty" / split).iterdir():
            (tmp_path / split).mkdir(exist_ok=True)
            (tmp_path / split / path.name).symlink_to(path)
        (tmp_path / split / "nothing").mkdir()
    train = Folder().open(str(tmp_path), "train")
    assert train.manifest.classes == ("bars", "disc", "frame") and len(train.manifest) == 36
    assert "classes without an image, left out: nothing" in notes(train)


def test_phone(cases):
    for split in ("train", "val", "all"):
        assert "80 files are not read, by their suffix: 80 .HEIC" in notes(Folder().open(str(cases / "phone"), split))
    opened(cases, "phone", "all", 24)


def test_one_each(cases):
    for split in ("train", "val"):
        source = opened(cases, "one_each", split, 4)
        assert source.manifest.classes == FOUR and "nothing is held out" in notes(source)


def test_sliver(cases):
    """Left out by its name; the shape of the rows is that of a set without it."""
    manifest = (source := Folder().open(str(cases / "sliver"), "train")).manifest
    ordinary = manifest.sizes.max(-1) < 1000
    assert ordinary.sum() == 120 and len(ordinary) == 121
    part = {name: getattr(manifest, name)[ordinary] for name in ("names", "sizes", "labels")}
    config, task = folder(), TASKS["Classify"]()
    config = replace(config, model=replace(config.model, patch=(8, 8)), task=Classify(classes=4))
    config = replace(config, data=replace(config.data, resolution=Sides(32, 64)))
    found, want = (resolve(config, each, task)[0] for each in (manifest, replace(manifest, **part)))
    assert found.data.packing == want.data.packing
    (index, why), *others = training_rows(found, source, task).epochs.locate(0)[1].left_out
    assert not others and not ordinary[index] and "patches" in why


@pytest.mark.parametrize(
    "name, split, count",
    [("pq_names", "val", 30), ("pq_order", "test", 40), ("pq_right", "val", 40), ("pq_right", "train", 96)],
)
def test_pq_names_and_pq_order_and_pq_right(cases, name, split, count):
    """Integers in a file mean the names of that file; to the model they are those of its own."""
    train = opened(cases, name, "train", 96, Parquet)
    other = with_classes(opened(cases, name, split, count, Parquet), train.manifest.classes)
    says_what_it_shows(other, cases)
    assert other.manifest.classes == train.manifest.classes


def test_pq_only(cases):
    parts = [opened(cases, "pq_only", split, count, Parquet) for split, count in (("train", 87), ("val", 9))]
    pixels = [{part.image(i).tobytes() for i in range(len(part.manifest))} for part in parts]
    assert not pixels[0] & pixels[1] and all("no validation split" in notes(part) for part in parts)
    assert all({*named(part)} == {*FOUR} for part in parts)


def test_fortran_weights(tmp_path):
    """A head as other libraries store it, outputs x inputs: its transpose is a view of the same numbers."""
    shape = ModelConfig((8, 8), width=16, depth=1, heads=2, mlp_width=16, dtype="float32")
    model = filled(abstract_model(shape, Classify(classes=5)), 0, "float32")
    theirs = np.arange(80, dtype=np.float32).reshape(5, 16)
    for name, w in (("view", theirs.T), ("copy", theirs.T.copy()), ("reversed", theirs.T[::-1])):
        given = eqx.tree_at(lambda m: m.task.head.w, model, w)
        save_model(tmp_path / name, given, ModelInfo(tuple("abcde")))
        np.testing.assert_array_equal(load_model(tmp_path / name).task.head.w, w)


def learned() -> Metrics:
    """The metrics of a step that learned."""
    return Metrics(**dict.fromkeys(Metrics._fields, np.ones(())) | {"extras": {}, "refused": np.zeros((), bool)})


def test_lr(tmp_path):
    """The rate of a line is the one by which its step moved the parameters."""
    base, steps = large_digits(), 6
    config = replace(base, optim=OptimConfig(lr=1.0, schedule=Cosine(), warmup=2), steps=steps, log_every=1)
    rate, weight = schedule(config.optim, steps), jnp.zeros((), "float32")
    rule, used = optax.scale_by_learning_rate(rate), []
    state = rule.init(weight)
    manifest = base.data.source.open("", "val").manifest
    with jax.numpy_dtype_promotion("standard"), closing(Progress(tmp_path, config, manifest, 0, None)) as progress:
        for n in range(1, steps + 1):
            update, state = rule.update(jnp.ones((), "float32"), state)
            used.append(-float(update))
            progress.add(n, learned(), np.zeros((1, 1), np.int32))
            progress.line(n, rate, 0)
    logged = [json.loads(line)["lr"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(logged, used, rtol=1e-6)


def test_every_row_of_the_table_has_a_test(cases):
    text = (cases / "README.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    folders = {name.split("/")[0] for row in rows for name in re.findall(r"`([^`]+)`", row) if " " not in name}
    folders = {name for name in folders if (cases / name).is_dir()}
    assert folders == {path.name for path in cases.iterdir() if path.is_dir()} and len(folders) > 15
    tests = [name for name in globals() if name.startswith("test_")]
    for name in folders:
        assert any(re.search(rf"(test|and)_{name}(_and_|$)", test) for test in tests), f"no test of {name}"
