"""Configurations and models on disk: what was saved comes back, what is damaged is refused by name."""

import json
from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import Config
from harness.presets import PRESETS
from harness.run.warm_start import begin, shape_from
from navit_eqx import load_model, save_model
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.serialize import decode, encode
from navit_eqx.weights.bridge import flatten
from tests.support.strategies import filled

SMALL = ModelConfig(4, width=8, depth=2, heads=2, mlp_width=8, classes=3, posembed=Factorised(4), dtype="float32")


@pytest.fixture
def saved(tmp_path):
    model = filled(SMALL, 0, "float32")
    save_model(tmp_path, model, SMALL, {"classes": ["a", "b", "c"]})
    return tmp_path, model


@pytest.mark.parametrize("make", PRESETS.values(), ids=PRESETS)
def test_a_preset_survives_json(make):
    config = make()
    assert decode(Config, json.loads(json.dumps(encode(config)))) == config


def test_a_model_survives_the_disk(saved):
    folder, model = saved
    again, config, about = load_model(folder)
    assert config == SMALL and about["classes"] == ["a", "b", "c"]
    jax.tree.map(np.testing.assert_array_equal, eqx.filter(again, eqx.is_array), eqx.filter(model, eqx.is_array))


def test_a_run_can_start_from_a_saved_model(saved):
    """The body is that of the saved model; the classifier too if the classes are the same, else it is fresh."""
    folder, model = saved
    config, notes = shape_from(Config(model=ModelConfig(classes=5, stochastic_depth=0.1), start=str(folder)))
    assert config.model == replace(SMALL, classes=5, stochastic_depth=0.1, dtype="auto") and str(folder) in notes[0]
    fresh = filled(config.model, 1, "float32")
    other = begin(fresh, config, ("d", "e", "f", "g", "h"))
    same = begin(filled(SMALL, 1, "float32"), replace(config, model=SMALL), ("a", "b", "c"))
    jax.tree.map(np.testing.assert_array_equal, *(eqx.filter(m, eqx.is_array) for m in (same, model)))
    jax.tree.map(np.testing.assert_array_equal, *(eqx.filter(m.encoder, eqx.is_array) for m in (other, model)))
    np.testing.assert_array_equal(other.head.w, fresh.head.w)
    assert begin(fresh, replace(config, start=""), ()) is fresh
    with pytest.raises(ConfigError, match="does not fit the model of this run: parameter"):
        begin(filled(replace(SMALL, width=16), 0, "float32"), config, ("d",))


def test_unknown_keys_name_their_nearest():
    value = encode(SMALL) | {"depht": 3}
    with pytest.raises(ConfigError, match="unknown key 'depht', did you mean 'depth'"):
        decode(ModelConfig, value)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("width", "wide", "width: 'wide' is not a int"),
        ("width", 7, "multiple of heads"),
        ("depth", 0, "depth must be at least 1"),
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
        save_file(tensors | {"head.b": np.zeros(4, np.float32)}, file)
    elif damage == "missing":
        save_file({k: v for k, v in tensors.items() if k != "head.b"}, file)
    else:
        save_file(tensors | {"tail.b": np.zeros(4, np.float32)}, file)
    with pytest.raises(ConfigError, match="head.b|tail.b|damaged"):
        load_model(folder)
