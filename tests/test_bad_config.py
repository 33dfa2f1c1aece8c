"""Damaged and hostile configurations and models: documented errors, nothing else."""

import json

import jax
import jax.numpy as jnp
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.config import Config
from harness.presets import PRESETS
from navit_eqx import Model, ModelInfo, load_model, save_model
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.preprocessing import Area, Preprocessing
from navit_eqx.serialize import decode, encode, seal
from navit_eqx.tasks.config import Classify
from navit_eqx.weights.saved import _read, _shape
from tests.support.damage import damaged

TINY = ModelConfig((2, 2), width=4, depth=1, heads=1, mlp_width=4, posembed=Factorised(2), dtype="float32")
TASK = Classify(classes=2)
INFO = ModelInfo(("a", "b"), Preprocessing(Area(8)))


# ---- configurations


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([10**400, -1, 0, "", "kind"]) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "lo", "hi"]), inner),
    max_leaves=4,
)


@st.composite
def disturbed(draw, value: dict) -> dict:
    """A configuration with one field, at any depth, replaced, removed or added."""
    value, node = json.loads(json.dumps(value)), None
    node = value
    while True:
        key = draw(st.sampled_from(sorted(node)))
        if not isinstance(node[key], dict) or draw(st.integers(0, 4)) == 0:
            break
        node = node[key]
    change = draw(st.sampled_from(["replace", "remove", "add"]))
    if change == "replace":
        node[key] = draw(json_values)
    elif change == "remove":
        del node[key]
    else:
        node[draw(st.text(max_size=5))] = draw(json_values)
    return value


@given(value=disturbed(encode(PRESETS["caltech101"]())))
@example(encode(PRESETS["digits"]()) | {"task": {"kind": ["Classify"]}})
@example(encode(PRESETS["digits"]()) | {"seed": float("nan")})
def test_a_disturbed_configuration_is_taken_or_refused(value):
    try:
        assert isinstance(decode(Config, value), Config)
    except ConfigError as error:
        assert str(error)


@given(value=json_values)
def test_any_json_as_configuration_is_taken_or_refused(value):
    try:
        decode(Config, value)
    except ConfigError as error:
        assert str(error)


# ---- models


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    like = _shape(TINY, TASK, INFO, "here")
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype) if isinstance(s, jax.ShapeDtypeStruct) else s, like)
    save_model(folder, zeros, INFO)
    stored = {name: (folder / name).read_bytes() for name in ("model.safetensors", "config.json")}
    return folder, stored, like


@given(data=st.data())
def test_damaged_tensors_are_refused_or_have_the_right_shapes(model, data):
    """Without their checksum: the header alone."""
    folder, stored, like = model
    file = folder / "damaged.safetensors"
    file.write_bytes(data.draw(damaged([stored["model.safetensors"]])))
    try:
        tensors = _read(file, like)
    except ConfigError as error:
        assert str(error)
        return
    assert all(t.dtype.kind == "f" for t in tensors.values())


@settings(max_examples=15)
@given(data=st.data())
def test_any_change_to_a_model_is_found(model, data):
    folder, stored, _ = model
    changed = data.draw(damaged([stored["model.safetensors"]]))
    if changed == stored["model.safetensors"]:
        return
    for name, content in stored.items():
        (folder / name).write_bytes(content)
    (folder / "model.safetensors").write_bytes(changed)
    with pytest.raises(ConfigError):
        load_model(folder)


@settings(max_examples=15)
@given(data=st.data())
@example(b"[" * 100_000)
@example(b"1")
@example(b'{"model": ' + b"9" * 5000 + b"}")
@example(b'{"model": {"width": 1e999}}')
@example(b'{"model": {"heads": 0}}')
@example(b'{"model": {"width": 1000000000000000000000}}')
@example(b'{"model": {"kind": {}}}')
@example(b'{"model": {}, "task": [], "info": []}')
@example(b'{"model": {}, "task": {"kind": "Classify", "classes": 2}, "info": {"classes": ["a", "b"]}}')
def test_a_damaged_configuration_of_a_model_is_refused_or_fits(model, data):
    folder, stored, _ = model
    for name, content in stored.items():
        (folder / name).write_bytes(content)
    content = data if isinstance(data, bytes) else data.draw(damaged([stored["config.json"]]))
    (folder / "config.json").write_bytes(content)
    try:
        assert isinstance(load_model(folder), Model)
    except ConfigError as error:
        assert any(words in str(error) for words in (str(folder), "model.", "task."))


@pytest.mark.parametrize(
    "kind, words", [("int64", "holds I64"), ("bool", "holds BOOL"), ("float16", ""), ("bfloat16", "")]
)
def test_parameters_are_floating_point_numbers(model, kind, words):
    from safetensors.numpy import load, save_file

    folder, stored, _ = model
    tensors = {name: t.astype(jnp.dtype(kind)) for name, t in load(stored["model.safetensors"]).items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps(seal({"model": encode(TINY), "task": encode(TASK), "info": encode(INFO)}))
    )
    if words:
        with pytest.raises(ConfigError, match=words):
            load_model(folder)
    else:
        load_model(folder)
