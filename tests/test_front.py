"""The front door: the lines of use in its docstrings, the example of the README, and the examples run as they stand."""

import inspect
import re
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import navit_eqx as navit
from examples import features, finetune
from navit_eqx import front
from navit_eqx.config import Factorised
from navit_eqx.errors import ConfigError
from navit_eqx.preprocessing import Native, Preprocessing
from navit_eqx.tasks.classify import Targets
from navit_eqx.tasks.config import Classify, MultiLabel, Sigmoid
from tests.support.strategies import random_model
from tests.support.tolerances import FLOAT32, assert_close

ROOT = Path(__file__).parent.parent
CONFIG = navit.ModelConfig((8, 8), width=16, depth=1, heads=2, mlp_width=16, posembed=Factorised(32), dtype="float32")
INFO = navit.ModelInfo(("a", "b", "c"), Preprocessing(Native(1.0), row_tokens=32, row_images=4), "nothing")
NAMES = ("load", "pack", "refusal", "forward", "unpack", "probabilities", "features", "stream", "finetune")


@pytest.fixture(autouse=True)
def as_users_have_it():
    """Users have JAX's own rules of promotion, and so do optimizers."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def model_for(task) -> navit.Model:
    return random_model(CONFIG, task, INFO)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*rng.integers(9, 40, 2), 3), np.uint8) for _ in range(7)]


@pytest.fixture
def place(tmp_path, monkeypatch, images):
    """A folder with runs/digits and pictures, as a reader of the docstrings would have it."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    navit.save_model("runs/digits", model_for(Classify(classes=3)), INFO)
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        Image.fromarray(images[0]).save(name)
    return tmp_path


def known(images) -> dict:
    """Names that a line of use may take for granted."""
    model = navit.load("runs/digits")
    batch = navit.pack(images, model)
    in_slots = jnp.where(batch.image_ids >= 0, batch.image_ids % 3, -1)
    targets = Targets(in_slots, jnp.full_like(in_slots, -1), jnp.zeros(in_slots.shape, jnp.float32))
    logits = navit.unpack(batch, navit.forward(model, batch))
    return {
        "navit": navit, "np": np, "optax": optax, "Classify": Classify, "Batch": navit.Batch,
        "model": model, "images": images, "paths": ["photo.jpg", "a.jpg"], "batch": batch, "row": batch,
        "targets": targets, "logits": logits, "task": Classify(classes=3), "optimizer": optax.adamw(1e-3),
    }  # fmt: skip


def lines_of_use(function) -> str:
    """The indented lines of a docstring that are code."""
    text = textwrap.dedent(inspect.getdoc(function) or "")
    return "\n".join(
        line.strip() for line in text.splitlines() if re.match(r"\s+(\w[\w, ]* = )?(navit\.|\[|step\()", line)
    )


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_have_a_line_of_use_that_runs(name, place, images):
    code = lines_of_use(getattr(front, name)) or lines_of_use_flush(getattr(front, name))
    assert f"navit.{name}" in code
    exec(code, known(images))


def lines_of_use_flush(function) -> str:
    """The same where the docstring's code is not indented further than its text."""
    lines = (inspect.getdoc(function) or "").splitlines()
    return "\n".join(line.strip() for line in lines if re.match(r"\s*(\w[\w, ]* = )(navit\.|\[|step\()", line))


def test_the_readme_example_runs(place, images):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    names = known(images)
    exec(code, names)
    assert names["probabilities"].shape == (7, 3) and names["vectors"].shape == (7, CONFIG.width)


@pytest.mark.parametrize("task", [Classify(classes=3), Classify(Sigmoid(), classes=3), MultiLabel(classes=3)])
def test_probabilities_are_those_of_training(task, images):
    model = model_for(task)
    batch = navit.pack(images, model)
    logits = navit.unpack(batch, navit.forward(model, batch))
    want = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    if task != Classify(classes=3):
        want = 1 / (1 + np.exp(-logits))
    assert_close(navit.probabilities(model, logits), want, FLOAT32)


def test_an_image_gets_what_it_would_get_alone(images):
    model = model_for(Classify(classes=3))
    together = navit.features(model, images)
    alone = np.concatenate([navit.features(model, [image]) for image in images])
    assert_close(together, alone, FLOAT32)
    tokens = navit.features(model, images, tokens=True)
    sizes = [max(1, image.shape[0] // 8) * max(1, image.shape[1] // 8) for image in images]
    assert [len(t) for t in tokens] == sizes


def test_a_model_without_info_says_so(images):
    model = random_model(CONFIG, Classify(classes=3))
    with pytest.raises(ConfigError, match="no info"):
        navit.pack(images, model)


@pytest.mark.slow
def test_fine_tuning_learns_with_a_head_of_its_own(place):
    assert finetune.main("runs/digits", steps=25) > 0.8


def test_features_of_files_in_constant_memory(place, monkeypatch):
    (place / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    monkeypatch.setattr(features, "AT_ONCE", 2)
    for out in ("found.npz", "found.parquet"):
        assert features.main("runs/digits", ["."], out) == 3
    found = np.load("found.npz")
    want = navit.features(navit.load("runs/digits"), ["a.jpg", "b.jpg", "photo.jpg"])
    assert [Path(name).name for name in found["files"]] == ["a.jpg", "b.jpg", "photo.jpg"]
    assert_close(found["features"], want, FLOAT32)
