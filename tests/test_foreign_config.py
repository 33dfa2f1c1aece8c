"""A model's config.json from anywhere: every field, with every kind of wrong value, is refused or harmless."""

import json
import math
import time
import tracemalloc
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import navit_eqx as navit
from navit_eqx.config import Flexi, Fourier, Joint, Loop, Mean, ModelConfig, Rope, Sinusoidal, Token
from navit_eqx.errors import ConfigError
from navit_eqx.front import info_of
from navit_eqx.preprocessing import Area, Fixed, Native, NeverEnlarged, OneSquare, Preprocessing, Square, TokenBudget
from navit_eqx.serialize import encode, seal
from navit_eqx.tasks.config import Classify, MultiLabel, Sigmoid
from navit_eqx.tasks.model import abstract_model
from tests.support.strategies import filled

SECONDS, BYTES = 2, 1 << 26
WRONG: tuple[Any, ...] = (0, -1, 3, 10**9, 2**31 - 1, 2**63, 10**400, 1e-300, 1e300, -1.0, 0.5, math.nan, math.inf)
WRONG += ("x", "", None, True, [], [0], {}, [[1]], {"kind": "Nothing"})


def model(rule, task, posembed, **fields) -> navit.Model:
    config = ModelConfig((4, 4), width=8, depth=1, heads=1, mlp_width=8, dtype="float32", posembed=posembed, **fields)
    return filled(
        abstract_model(config, task, navit.ModelInfo(("a", "b"), Preprocessing(rule, row_tokens=32))), 0, "float32"
    )


MODELS = (
    lambda: model(Area(16), Classify(classes=2), Sinusoidal(), rope=Rope(), registers=1, pool=Token()),
    lambda: model(NeverEnlarged(Native()), Classify(Sigmoid(), 2), Fourier(), flexi=Flexi((4, 6)), pool=Mean()),
    lambda: model(Square(TokenBudget(16)), MultiLabel(2), Joint(4)),
    lambda: model(OneSquare(16), MultiLabel(2), Sinusoidal()),
    lambda: model(Fixed(16, 16), MultiLabel(2), Sinusoidal(), layer_scale=0.1, stochastic_depth=0.1),
)


def as_json(number: int) -> dict:
    made = MODELS[number]()
    parts = {"model": encode(made.config), "task": encode(made.task.config), "info": encode(made.info)}
    parts["model"]["attention"] = encode(Loop())
    return json.loads(json.dumps(parts))


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Paths of all fields, at any depth, tuples and their items included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [
        found
        for key, v in inner
        if key not in ("digest", "sha256")
        for found in ((*path, key), *places(v, (*path, key)))
    ]


PLACES = [places(as_json(number)) for number in range(len(MODELS))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("model")


@lru_cache
def saved(number: int, folder) -> dict:
    made = MODELS[number]()
    navit.save_model(folder / str(number), made, info_of(made))
    value = json.loads((folder / str(number) / "config.json").read_text())
    value["model"]["attention"] = encode(Loop())
    return value


def changed(value: dict, path: tuple, new: Any) -> dict:
    value = json.loads(json.dumps(value))
    node = value
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = new
    return seal({key: v for key, v in value.items() if key != "digest"})


def predicts(folder) -> str:
    """The message of a refusal, which is a ConfigError; empty where the model predicts as it should."""
    try:
        found = navit.load(folder)
        image = np.full((20, 24, 3), 9, np.uint8)
        reasons: list[str] = []
        (logits,) = navit.stream(found, [image], report=lambda i, why: reasons.append(why))
        assert logits.shape == (2,) and (np.isfinite(navit.probabilities(found, logits)).all() or reasons)
        return ""
    except ConfigError as error:
        return str(error)


def is_refused_or_harmless(folder, number: int, path: tuple, new: Any) -> None:
    """Within 2 seconds and 64 MiB, and a refusal names the file and the field, or the tensor that does not fit."""
    value = saved(number, folder)
    (folder / str(number) / "config.json").write_text(json.dumps(changed(value, path, new)))
    tracemalloc.start()
    start = time.process_time()
    try:
        message = predicts(folder / str(number))
    finally:
        spent, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < BYTES and spent < 5 * SECONDS, (path, new, spent, peak)  # with a compilation, where it is taken
    assert not message or len(message) < 2000 and names(message, path), f"{path} = {new!r}: {message}"


def names(message: str, path: tuple) -> bool:
    """A message says which field it is, or which file or field it no longer fits."""
    field = [key for key in path if isinstance(key, str)][-1]
    parent = [key for key in path if isinstance(key, str)][-2:][0]
    others = (
        "model.safetensors",
        "cannot be built",
        "kind",
        f"model.{parent}",
        "model.width",
        "info.classes",
        "head size",
    )
    return field in message or any(words in message for words in others)


ALL = [(number, path) for number in range(len(MODELS)) for path in PLACES[number]]


@settings(max_examples=6)
@example((0, ("info", "preprocessing", "row_images")), 10**9)
@example((0, ("model", "rope", "theta")), 0)
@example((0, ("model", "attention", "windows")), 10**9)
@example((0, ("model", "mean", 0)), 1e300)
@example((1, ("info", "preprocessing", "size", "rule", "factor")), math.nan)
@given(place=st.sampled_from(ALL), new=st.sampled_from(WRONG))
def test_any_field_with_a_wrong_value_is_refused_by_name_or_harmless(folder, place, new):
    number, path = place
    is_refused_or_harmless(folder, number, path, new)


@pytest.mark.slow
@pytest.mark.parametrize("number, path", ALL, ids=str)
def test_every_field_with_every_wrong_value(folder, number, path):
    for new in WRONG:
        is_refused_or_harmless(folder, number, path, new)


@pytest.mark.parametrize("path", [path for number, path in ALL if number == 0], ids=str)
def test_a_number_beyond_all_models_is_refused(folder, path):
    """Huge, negative and NaN: no model has them, in no field."""
    (folder / "0").mkdir(exist_ok=True)
    found = saved(0, folder)
    for key in path:
        found = found[key]
    if isinstance(found, int | float) and not isinstance(found, bool):
        for new in (10**9 + 1, -(10**9), math.nan, 10**400):
            value = changed(saved(0, folder), path, new)
            (folder / "0" / "config.json").write_text(json.dumps(value))
            with pytest.raises(ConfigError, match=str(next(k for k in path[::-1] if isinstance(k, str)))):
                navit.load(folder / "0")
