"""Configurations and models on disk: what was saved comes back, what is damaged is refused by name."""

import json
import resource
from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import Config
from harness.presets import PRESETS
from harness.run.warm_start import shape_from, warm_start
from navit_eqx import Model, ModelInfo, load_model, save_model
from navit_eqx.config import Dense, Factorised, ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.files import NotWritten
from navit_eqx.preprocessing import Area, NeverEnlarged, Preprocessing, Square, TokenBudget
from navit_eqx.serialize import MAX_BYTES, decode, encode, seal
from navit_eqx.tasks.config import Classify, Distill, MultiLabel, Sigmoid, Softmax
from navit_eqx.tasks.model import abstract_model
from navit_eqx.weights.bridge import flatten
from tests.support.strategies import filled

SMALL = ModelConfig((4, 4), width=8, depth=2, heads=2, mlp_width=8, posembed=Factorised(4), dtype="float32")
INFO = ModelInfo(
    ("a", "b", "c"),
    Preprocessing(NeverEnlarged(Area(48.5)), "bicubic", channels=3, row_tokens=40, row_images=7, decode_margin=1.5),
    "images in a folder \udcff",  # a path that is no text
)


SOFTMAX = Classify(classes=3)


def made(task=SOFTMAX, seed=0, config=SMALL) -> Model:
    """A model of random numbers, none of them 0 or 1."""
    return filled(abstract_model(config, task), seed, "float32")


def same(a, b) -> None:
    """The same arrays under the same names."""
    a, b = flatten(a), flatten(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.fixture
def saved(tmp_path):
    model = made()
    save_model(tmp_path, model, INFO)
    return tmp_path, model


@pytest.mark.parametrize("make", PRESETS.values(), ids=PRESETS)
def test_a_preset_survives_json(make):
    config = make()
    assert decode(Config, json.loads(json.dumps(encode(config)))) == config


TASKS = [
    Classify(classes=3),
    Classify(Softmax(0.1), classes=3),
    Classify(Sigmoid(), classes=3),
    MultiLabel(classes=3),
    Distill("a run", Sigmoid(), row_tokens=9, digest="abc", classes=3),
]


@pytest.mark.parametrize("task", TASKS, ids=["softmax", "smoothed", "sigmoid", "label sets", "distill"])
def test_a_model_survives_the_disk(tmp_path, task):
    """Numbers to the bit, shape, task, and what a user must know; a digest of the parameters is added."""
    model = made(task)
    save_model(tmp_path, model, INFO)
    again = load_model(tmp_path)
    assert again.config == SMALL and again.task.config == task and type(again.task) is type(model.task)
    assert again.info == replace(INFO, digest=again.info.digest) and len(again.info.digest) == 64
    same(again, model)


@pytest.mark.parametrize("loss", [Softmax(0.1), Sigmoid()])
def test_a_student_is_saved_as_a_classifier(tmp_path, loss):
    """With its loss and its numbers; the teacher is forgotten."""
    student = made(Distill("a run", loss, row_tokens=9, digest="abc", classes=3))
    save_model(tmp_path, student.for_inference(), INFO)
    again = load_model(tmp_path)
    assert again.task.config == Classify(loss, classes=3)
    same(again, student)


@pytest.mark.parametrize(
    "size", [Area(64), Square(Area(33.25)), Square(NeverEnlarged(TokenBudget(9))), TokenBudget(1)], ids=str
)
def test_every_size_rule_survives_the_disk(tmp_path, size):
    save_model(tmp_path, made(), replace(INFO, preprocessing=Preprocessing(size)))
    assert load_model(tmp_path).info.preprocessing == Preprocessing(size)


def test_other_parameters_have_another_digest(tmp_path):
    digests = []
    for n, seed in enumerate((0, 0, 1)):
        save_model(tmp_path / str(n), made(seed=seed), INFO)
        digests.append(load_model(tmp_path / str(n)).info.digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_backend_is_a_matter_of_the_machine(tmp_path):
    save_model(tmp_path, made(config=replace(SMALL, attention=Dense())), INFO)
    assert load_model(tmp_path).config == SMALL


def test_other_classes_than_outputs_are_refused(saved):
    folder, _ = saved
    wrong = json.loads((folder / "config.json").read_text())
    wrong["info"]["classes"] = ["a", "b"]
    (folder / "config.json").write_text(json.dumps(seal({k: v for k, v in wrong.items() if k != "digest"})))
    with pytest.raises(ConfigError, match="2 names for 3 classes"):
        load_model(folder)


def test_a_run_can_start_from_a_saved_model(saved):
    """The backbone is that of the saved model; the head too if the classes are the same, else it is fresh."""
    folder, model = saved
    config, notes = shape_from(Config(model=ModelConfig(stochastic_depth=0.1), start=str(folder)))
    assert config.model == replace(SMALL, stochastic_depth=0.1, dtype="auto") and str(folder) in notes[0]
    fresh = made(Classify(classes=5), 1, config.model)
    other = warm_start(fresh, config, ("d", "e", "f", "g", "h"))
    alike = warm_start(made(seed=1), replace(config, model=SMALL), ("a", "b", "c"))
    same(alike, model)
    same(other.backbone, model.backbone)
    same(other.task, fresh.task)
    renamed = warm_start(made(seed=1), replace(config, model=SMALL), ("c", "b", "a"))
    same(renamed.task, made(seed=1).task)
    assert warm_start(fresh, replace(config, start=""), ()) is fresh
    with pytest.raises(ConfigError, match="does not fit the model of this run: parameter"):
        warm_start(made(config=replace(SMALL, width=16)), config, ("d",))


def test_another_task_on_the_same_classes_takes_the_head_of_a_saved_one(saved):
    """Heads of softmax, sigmoid and label sets are the same numbers; only the loss differs."""
    folder, model = saved
    for task in TASKS:
        got = warm_start(made(task, 1), Config(model=SMALL, start=str(folder)), ("a", "b", "c"))
        same(got.task, made(task).task)
        assert got.task.config == task


def test_unknown_keys_name_their_nearest():
    value = encode(SMALL) | {"depht": 3}
    with pytest.raises(ConfigError, match="unknown key 'depht', did you mean 'depth'"):
        decode(ModelConfig, value)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("width", "wide", "width: 'wide' is not a int"),
        ("width", 7, "multiple of heads"),
        ("depth", 0, r"depth=0 must be in \[1,"),
        ("depth", True, "depth: True"),
        ("posembed", {"kind": "Nothing"}, "kind 'Nothing' is none of"),
        ("dtype", "float8", "dtype: 'float8'"),
    ],
)
def test_wrong_values_are_named(key, value, message):
    with pytest.raises(ConfigError, match=message):
        decode(ModelConfig, encode(SMALL) | {key: value})


@given(text=st.text(max_size=40))
def test_any_text_as_configuration_is_refused_politely(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ConfigError):
        load_model(folder)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no config.json in .*: name the folder of a run"):
        load_model(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flip the header", "other shape", "missing", "extra"])
def test_a_damaged_model_is_refused(saved, damage):
    from safetensors.numpy import save_file

    folder, model = saved
    file = folder / "model.safetensors"
    data, tensors = file.read_bytes(), flatten(model)
    if damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "flip the header":
        file.write_bytes(b"\xff" + data[1:])
    elif damage == "other shape":
        save_file(tensors | {"task.head.b": np.zeros(4, np.float32)}, file)
    elif damage == "missing":
        save_file({k: v for k, v in tensors.items() if k != "task.head.b"}, file)
    else:
        save_file(tensors | {"tail.b": np.zeros(4, np.float32)}, file)
    with pytest.raises(ConfigError, match="head.b|tail.b|damaged"):
        load_model(folder)


def doubled(model: Model) -> Model:
    """The same model with a bias that is twice as long."""
    return eqx.tree_at(lambda m: m.task.head.b, model, jnp.zeros(6))


REFUSED = [
    (made(), replace(INFO, classes=("a", "b"))),
    (doubled(made()), INFO),
    (eqx.tree_at(lambda m: m.task.head.b, made(), jnp.zeros(3, int)), INFO),
    (eqx.tree_at(lambda m: m.task.head.b, made(), None), INFO),
    (made(), replace(INFO, classes=("a" * MAX_BYTES, "b", "c"))),
]


@pytest.mark.parametrize("model, info", REFUSED, ids=["classes", "shape", "integers", "missing", "too long"])
def test_what_could_not_be_loaded_is_not_saved(saved, model, info):
    """The model that was there stays."""
    folder, before = saved
    with pytest.raises(ConfigError):
        save_model(folder, model, info)
    same(load_model(folder), before)
    assert len(list(folder.iterdir())) == 2


def test_a_model_is_written_wholly_or_not_at_all(saved):
    folder, before = saved
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(NotWritten, match="model.safetensors cannot be written, File too large: raise the limit"):
            save_model(folder, made(seed=1), INFO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    same(load_model(folder), before)
    assert len(list(folder.iterdir())) == 2
