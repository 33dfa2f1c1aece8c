"""Which program for attention a run takes: docs/attention.md."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.plan import Plan
from harness.digit_presets import large_digits
from harness.process import enable_compilation_cache
from harness.run import attention
from harness.run.attention import segment_ids, shape_for
from harness.run.folder import write_config
from navit_eqx import ModelInfo, load_model, save_model
from navit_eqx.config import Auto, CuDNN, Dense, Loop, ModelConfig, Pallas, Splash
from navit_eqx.errors import ConfigError
from navit_eqx.kernels import tiles as pallas
from navit_eqx.masks import register_ids
from navit_eqx.serialize import decode, encode
from navit_eqx.training import attention_choice as choice
from tests.support.strategies import CONFIG, TASK, model

FAST, SLOTS = Pallas(16), 6
GAPPY = choice.gappy(48, SLOTS)
NOTHING = np.zeros((2, SLOTS, 2), np.int32)
KEPT = np.array([[3, 1, 0, 4, 0, 0], [9, 0, 0, 0, 0, 0]], np.int32)
PLAN = Plan(np.where(KEPT > 0, 0, -1), NOTHING, KEPT, np.full((2, SLOTS, 2), 8, np.int32), ())


def test_wins_below_five_percent_are_none():
    assert choice.fastest({Dense(): 1.0, FAST: 0.96}) == Dense()
    assert choice.fastest({Dense(): 1.0, FAST: 0.94, CuDNN(): 0.9}) == CuDNN()
    assert choice.fastest({FAST: 1.0}) == FAST  # the dense mask did not fit
    assert choice.fastest({}) == Dense()


def test_on_a_cpu_auto_is_dense_in_short_rows():
    assert choice.choose(CONFIG, GAPPY, SLOTS) == (Dense(), [])


def test_on_a_cpu_long_rows_are_measured(monkeypatch):
    monkeypatch.setattr(choice, "SHORT", {"cpu": 48})
    monkeypatch.setattr(choice, "block_seconds", lambda config, *rest: {Dense(): 2.0, Loop(): 1.0}[config.attention])
    backend, notes = choice.choose(CONFIG, GAPPY, SLOTS)
    assert backend == Loop() and len(notes) == 2, notes


def test_auto_says_what_it_found(monkeypatch):
    """Candidates that pass are timed; one that is wrong is refused with the reason."""
    monkeypatch.setattr(choice, "SHORT", {})
    monkeypatch.setitem(choice.CANDIDATES, "cpu", (FAST, Pallas(32), CuDNN()))
    monkeypatch.setattr(choice, "PLATFORMS", {CuDNN: "gpu"})
    monkeypatch.setattr(choice, "block_seconds", lambda config, *rest: {Dense(): 2.0, FAST: 1.0}[config.attention])
    honest = pallas.bounds
    wrong = lambda ids, slots, tile: honest(ids, slots, tile) * int(tile == FAST.tile)
    monkeypatch.setattr(pallas, "bounds", wrong)
    backend, notes = choice.choose(CONFIG, GAPPY, SLOTS)
    assert backend == FAST and len(notes) == 4, notes
    assert "above 1e-09" in notes[2] and "it runs on a gpu, and this is a cpu" in notes[3]


@pytest.mark.parametrize("named", [FAST, CuDNN(), Splash()], ids=str)
def test_a_name_is_kept_or_refused_with_the_reason(named):
    with pytest.raises(ConfigError, match="does not work here: it runs on a .pu, and this is a cpu"):
        choice.choose(replace(CONFIG, attention=named), GAPPY, SLOTS)


def test_blocks_are_timed():
    assert choice.block_seconds(replace(CONFIG, attention=Dense()), GAPPY, SLOTS) > 0


def test_configurations(tmp_path):
    with pytest.raises(ConfigError, match="registers"):
        ModelConfig(registers=1, attention=CuDNN())
    with pytest.raises(ConfigError, match="windows=0 must be in"):
        Loop(0)
    with pytest.raises(ConfigError, match="power of two"):
        Pallas(48)
    for backend in (Auto(), Dense(), Loop(4), FAST, CuDNN(), Splash(300)):
        config = replace(CONFIG, attention=backend)
        assert decode(ModelConfig, encode(config)) == config
    old = encode(CONFIG)
    del old["attention"]
    assert decode(ModelConfig, old) == CONFIG
    config = replace(CONFIG, attention=FAST)
    info = ModelInfo(tuple("abcdefg"))
    save_model(tmp_path, model(config=config, task=TASK), info)
    assert load_model(tmp_path).config == CONFIG  # it may be read on another machine


def test_rows_of_the_plan_are_those_of_the_model():
    """Registers of all slots follow; rows repeat where the plan has too few."""
    ids = segment_ids(PLAN, 3, 10, 2)
    np.testing.assert_array_equal(ids[0, :10], [1, 1, 1, 2, 4, 4, 4, 4, 0, 0])
    np.testing.assert_array_equal(ids[2], ids[0])
    for row in ids:
        np.testing.assert_array_equal(row[10:], register_ids(jnp.asarray(row[:10]), SLOTS, 2))


def test_a_run_goes_on_as_it_began(tmp_path, monkeypatch):
    """On a device of the same kind; elsewhere it is chosen anew."""
    config = large_digits()
    assert shape_for(config, PLAN, tmp_path) == (replace(config.model, attention=Dense()), [])
    monkeypatch.setattr(attention, "choose", lambda model, *rest: (model.attention, []))
    write_config(tmp_path, config, "digits", (), FAST)
    shape, notes = shape_for(config, PLAN, tmp_path)
    assert shape.attention == FAST and "as before in this run" in notes[-1]
    named = replace(config, model=replace(config.model, attention=Pallas(32)))
    assert shape_for(named, PLAN, tmp_path)[0].attention == Pallas(32)
    monkeypatch.setattr("harness.run.folder.machine", lambda: {"device": "another"})
    write_config(tmp_path, config, "digits", (), FAST)
    assert shape_for(config, PLAN, tmp_path)[0].attention == Auto()


def test_programs_are_kept_on_accelerators_alone(tmp_path, monkeypatch):
    name = "jax_compilation_cache_dir"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    enable_compilation_cache()
    assert jax.config.values[name] is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    try:
        enable_compilation_cache()
        assert jax.config.values[name] == str(tmp_path / "navit" / "programs")
        jax.config.update(name, "named")
        enable_compilation_cache()
        assert jax.config.values[name] == "named"
    finally:
        jax.config.update(name, None)
