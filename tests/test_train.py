"""Training: the command lines as a user types them, one compiled program."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

import evaluate
import navit_eqx as navit
import predict
import train
from data.manifest import printable
from harness.exit_codes import run
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.images import pack
from navit_eqx.inference import predict as outputs_of
from navit_eqx.preprocessing import Native, Preprocessing
from navit_eqx.rows import Batch, Row, to_device
from navit_eqx.tasks.classify import Targets
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import Model, abstract_model
from navit_eqx.training.config import OptimConfig
from navit_eqx.training.optim import optimizer
from navit_eqx.training.step import accumulated, ema_update, init, train_step
from tests.support.laws import caught
from tests.support.strategies import filled
from tests.support.tolerances import DECAY, FLOAT32, FLOAT64, assert_close

ROOT = Path(__file__).parent.parent
SMALL = ModelConfig((4, 4), width=16, depth=2, heads=2, mlp_width=32, posembed=Factorised(16), dtype="float64")
TASK = Classify(classes=2)
INFO = navit.ModelInfo(("dark", "bright"), Preprocessing(Native(1.0), row_tokens=56, row_images=8))
TINY = [
    "--model.width", "16", "--model.depth", "1", "--model.mlp-width", "16", "--model.unroll", "1",
    "--rows", "2", "--log-every", "2", "--optim.rule", "adamw",
]  # fmt: skip


@pytest.fixture(autouse=True)
def promotion():
    """Optax multiplies floats by integer step counts."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def command(*arguments, cwd=ROOT, code=0):
    """Run one of the programs; return what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


PROGRAMS = {"evaluate.py": evaluate.main, "predict.py": predict.main}


@pytest.fixture(params=["here", pytest.param("in a process of its own", marks=pytest.mark.slow)])
def reading(request, monkeypatch, capsys):
    """Runs a program that reads a run; returns what it printed."""

    def here(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            run(PROGRAMS[name])
        except SystemExit as end:
            assert not end.code
        said = capsys.readouterr()
        return said.out + said.err

    return here if request.param == "here" else command


def photos(folder: Path, per_class: int) -> Path:
    """Three easy classes of noisy photos, of many sizes; one file is no image."""
    rng = np.random.default_rng(0)
    for name, color in {"blue": (40, 60, 200), "green": (30, 180, 60), "red": (210, 40, 50)}.items():
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            size = (*rng.integers(24, 90, 2), 3)
            noise = rng.normal(color, 40, size).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(folder / name / f"{i}.png")
    return folder


def odd_files(folder: Path) -> dict[str, str]:
    """Files of which no image comes, by name, with what must be said of each; some show it in their pixels alone."""
    whole = (folder / "0.png").read_bytes()
    odd = {
        "broken.png": (b"not an image", "not an image of a known format"),
        "empty.jpg": (b"", "empty file"),
        "huge.png": (whole[:16] + b"\x7f\xff\xff\xff" * 2 + whole[24:], "not an image|cannot be opened|Image size"),
        os.fsdecode(b"\x1b[2J\xff.png"): (b"", "empty file"),
        **{
            f"half-{i}.png": (whole[: len(whole) // 2], "cannot be decoded: image file is truncated") for i in range(12)
        },
    }
    for name, (content, _) in odd.items():
        (folder / name).write_bytes(content)
    (folder / "nowhere.png").symlink_to("nowhere")
    named = {f"{folder.name}/{printable(name)}": why for name, (_, why) in odd.items()}
    return named | {f"{folder.name}/nowhere.png": "cannot be read: No such file"}


def two_classes(count, seed):
    """Images that are darker (0) or brighter (1) than the middle."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    images = [rng.normal(90 + 70 * k, 30, (*rng.integers(8, 30, 2), 3)).clip(0, 255).astype(np.uint8) for k in labels]
    return images, labels


def packed_batch(count, seed) -> Batch:
    """Images in sixteen rows, some of them empty, with their labels."""
    images, labels = two_classes(count, seed)
    row = pack(images, preprocessing=INFO.preprocessing, patch=(4, 4), rows=16, longest_side=16)
    used = row.image_ids >= 0
    own = np.full_like(row.image_ids, -1)
    own[used] = labels[row.image_ids[used]]
    targets = Targets(own, np.full_like(own, -1), np.zeros(own.shape))
    return Batch(to_device(row), Targets(*map(jnp.asarray, targets)))


@eqx.filter_jit
def fresh(config: ModelConfig) -> Model:
    return Model(config, TASK, key=jax.random.key(0))


@lru_cache
def float64_start(config):
    return jax.tree.map(lambda x: x.astype("float64") if eqx.is_inexact_array(x) else x, fresh(config))


OPTIM = OptimConfig(lr=1e-2, weight_decay=0.0)


@lru_cache
def trainer(config=SMALL, steps=30, optim=OPTIM):
    tx = optimizer(optim, steps)
    model = float64_start(config)
    static = eqx.filter(model, eqx.is_inexact_array, inverse=True)
    step = jax.jit(partial(train_step, static=static, optimizer=tx, config=optim, seed=0))
    return init(model, tx, optim), step, static


def test_loss_falls_in_one_program():
    state, step, static = trainer()
    losses = []
    for n in range(30):
        state, metrics = step(state, packed_batch(24, n % 5))
        losses.append(float(metrics.loss_sum) / int(metrics.count))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    found = outputs_of(eqx.combine(state.model, static), [packed_batch(24, 99).row])
    assert (found.values.argmax(-1) == two_classes(24, 99)[1][found.image_ids]).mean() > 0.9
    assert step._cache_size() == 1


@pytest.mark.parametrize("parts", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_accumulation_changes_nothing(parts):
    """A batch in parts gives the loss and the gradient of the whole, though its rows hold different counts; no part is
    clipped by itself."""
    clipped = replace(OPTIM, clip=1e-2)
    state, step, _ = trainer(optim=clipped)
    _, in_parts, _ = trainer(optim=replace(clipped, accumulate=parts))
    batch = packed_batch(9, 3)
    (whole, want), (after, got) = step(state, batch), in_parts(state, batch)
    assert int(got.images) == int(want.images) and int(got.extras["accuracy"]) == int(want.extras["accuracy"])
    assert_close(got.loss_sum, want.loss_sum, FLOAT64)
    assert_close(got.grad_norm, want.grad_norm, FLOAT64)
    for a, b in zip(jax.tree.leaves(after.model), jax.tree.leaves(whole.model)):
        assert np.abs(a - b).max() <= DECAY * OPTIM.lr
    with pytest.raises(ValueError, match="optim.accumulate"):
        accumulated(lambda part: part.targets.labels.sum(), batch, 3)


def test_a_step_follows_the_mean_over_images():
    """Its gradient is that of Σ loss / images, though rows hold different counts, and some none."""
    state, step, static = trainer()
    batch = packed_batch(9, 3)
    counts = np.asarray((batch.targets.labels >= 0).sum(-1))
    assert len(set(counts.tolist())) > 1

    def mean(arrays):
        total, count, _ = eqx.combine(arrays, static).loss(batch, jax.random.key(0))
        return total / count.astype(total.dtype)

    want = optax.tree.norm(jax.jit(jax.grad(mean))(state.model))
    assert_close(step(state, batch)[1].grad_norm, want, FLOAT64)


def test_the_average_is_what_is_evaluated_and_saved():
    state = trainer()[0]
    assert state.eval_params is state.model
    assert state._replace(ema=(other := jax.tree.map(jnp.zeros_like, state.model))).eval_params is other


def test_a_moving_average_follows_the_model():
    average, model = {"w": jnp.zeros(3)}, {"w": jnp.ones(3)}
    early = ema_update(average, model, 0.99, jnp.asarray(0))
    assert_close(early["w"], np.full(3, 0.9), FLOAT32)
    late = ema_update(average, model, 0.99, jnp.asarray(10_000))
    assert_close(late["w"], np.full(3, 0.01), DECAY)
    np.testing.assert_array_equal(ema_update(model, model, 0.5, jnp.asarray(7))["w"], 1)


class Bowl(eqx.Module):
    """A loss without a model: Σ w² an image."""

    w: jax.Array

    def loss(self, batch, key):
        count = (batch.row.segment_ids > 0).sum(dtype="int32")
        return count.astype(self.w.dtype) * (self.w**2).sum(), count, {}


def test_the_average_takes_the_parameters_after_the_update():
    """It starts at the parameters before the first step, and moves at once, towards those after it."""
    ids = np.ones((1, 2), np.int32)
    row = Row(np.zeros((1, 2, 3), "float32"), np.stack([ids, ids], -1), ids, np.ones((1, 1, 2), np.int32), ids[:, :1])
    sgd, optim = optax.sgd(0.1), replace(OPTIM, ema=0.9)
    model = Bowl(jnp.asarray([1.0, -2.0], "float32"))
    step = jax.jit(partial(train_step, static=Bowl(None), optimizer=sgd, config=optim, seed=0))
    state, _ = step(init(model, sgd, optim), Batch(to_device(row), None))
    way = (state.ema.w - model.w) / (state.model.w - model.w)
    assert ((0 < way) & (way < 1)).all()


def test_the_library_in_a_few_lines():
    """Any images in, one vector per image out, as each would get alone."""
    images, _ = two_classes(7, 0)
    model = filled(abstract_model(SMALL, TASK, INFO), 0, "float64")
    vectors = navit.features(model, images)
    assert vectors.shape == (7, 16)
    for image, vector in zip(images, vectors):
        assert_close(navit.features(model, [image])[0], vector, FLOAT64)


def test_from_folder_to_prediction(tmp_path, reading):
    """train, evaluate and predict on a folder of photos with one broken file, as a user would."""
    photos(tmp_path / "photos", 20)
    broken = odd_files(tmp_path / "photos" / "red")
    said = command(
        "train.py", "folder", "--data.root", tmp_path / "photos", "--out", tmp_path, "--name", "mine", *TINY,
        "--steps", "12", "--data.max-unreadable", "0.3", "--data.workers", "0",
    )  # fmt: skip
    assert "auto: data.resolution.hi = " in said and "validation accuracy" in said
    mine = tmp_path / "mine"
    summary = json.loads((mine / "summary.json").read_text())
    aside = summary["set_aside"]["train"] | summary["set_aside"]["val"]
    assert aside.keys() == broken.keys()
    for name, why in broken.items():
        assert re.match(why, aside[name]) and re.search(f"set aside {re.escape(name)}: {why}", said)
    assert summary["compiles"] == 1 and summary["sweep"] and 0 <= summary["val_accuracy"] <= 1
    lines = [json.loads(line) for line in (mine / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    for picture in ("packed_rows", "attention_mask", "accuracy_tokens"):
        shows_something(mine / f"{picture}.png")

    said = reading("evaluate.py", mine, "--resolutions", "48", "64", "--out", tmp_path / "sweep")
    assert "resolution" in said
    sweep = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [entry["resolution"] for entry in sweep] == [48, 64]

    said = reading("predict.py", mine, tmp_path / "photos/red/0.png", tmp_path / "photos/red/broken.png")
    assert re.search(r"red/0.png: (?:(?:blue|green|red) [\d.]+%(?:, |$)){3}", said, re.M)
    assert re.search(r"set aside .*red/broken.png", said)


def shows_something(path: Path) -> None:
    """A picture of some size, and not of one color. What it shows: tests/test_pictures.py, tests/test_studies.py."""
    with Image.open(path) as picture:
        assert picture.size[0] > 300 and len(picture.convert("RGB").getcolors(1 << 24)) > 10


def test_an_empty_picture_is_caught(tmp_path):
    Image.new("RGB", (400, 400), "white").save(tmp_path / "empty.png")
    caught(shows_something, tmp_path / "empty.png")


@pytest.mark.slow
def test_a_mistake_ends_the_program(tmp_path):
    said = command("train.py", "folder", "--data.root", "/nowhere/at/all", "--out", tmp_path, code=66)
    assert "/nowhere/at/all is not a folder" in said


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["digitz"], 2, "did you mean digits"),
        (["digits", "--model.dept", "3"], 2, "--model.depth"),
        (["folder"], 66, "data.root is not set"),
        (["digits", "--model.width", "65"], 78, "multiple of heads"),
    ],
)
def test_mistakes_are_explained(arguments, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, *(["--out", str(tmp_path)] if arguments[1:] else [])])
    with pytest.raises(SystemExit) as end:
        run(train.main)
    said = capsys.readouterr()
    assert end.value.code == code and words in said.out + said.err


@pytest.mark.parametrize(
    "program, arguments, words",
    [
        (train.main, ["--help"], "digits-square"),
        (train.main, ["folder", "--help"], "--data.root"),
        (evaluate.main, ["--help"], "resolutions"),
        (predict.main, ["--help"], "--top"),
    ],
)
def test_help_is_there(program, arguments, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    with pytest.raises(SystemExit) as end:
        program()
    assert end.value.code == 0 and words in capsys.readouterr().out
