"""A branch: a run that goes on from a saved step of another one, with another schedule."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.digit_presets import large_digits
from harness.run.folder import write_config
from harness.run.resume import RunPosition
from harness.run.warm_start import resume_from, run_and_step, shape_from
from navit_eqx.errors import ConfigError
from navit_eqx.training.checkpoints import Checkpointer, fingerprint
from navit_eqx.training.config import OptimConfig, Rsqrt
from navit_eqx.training.optim import schedule
from tests.support.tolerances import FLOAT32, assert_close

STATE = {"w": jnp.linspace(0.0, 1.0, 12), "step": jnp.asarray(20, jnp.int32)}
LIKE = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), STATE)


@pytest.fixture
def trunk(tmp_path):
    """A run with steps 10 and 20 saved."""
    config = replace(large_digits(), optim=OptimConfig(schedule=Rsqrt(100, 0.0)))
    write_config(tmp_path, config, "digits")
    with Checkpointer(tmp_path / "checkpoints", keep=9) as saver:
        for step in (10, 20):
            position = RunPosition("abc", {7: "truncated"}, {"images": step})
            saver.save(step, STATE | {"step": jnp.asarray(step, jnp.int32)}, position.as_json())
    return tmp_path


def test_a_branch_is_the_trunk_at_that_step(trunk):
    """Every bit of the state, and the counts; not the digest of the data, nor what could not be read of
    them: the images may be others."""
    for step in (10, 20):
        found = resume_from(replace(large_digits(), start=f"{trunk}@{step}"), LIKE)
        assert found is not None
        state, position = found
        assert fingerprint(state) == fingerprint(STATE | {"step": jnp.asarray(step, jnp.int32)})
        assert position == RunPosition(progress={"images": step})


def test_a_branch_keeps_the_shape_of_the_trunk(trunk):
    wide = replace(large_digits(), start=f"{trunk}@10", model=replace(large_digits().model, width=128, remat=True))
    config, notes = shape_from(wide)
    assert config.model == replace(large_digits().model, remat=True)
    assert notes == [f"model: the shape of the model in {trunk}@10"]


@pytest.mark.parametrize("start", ["", "runs/digits", "runs/me@home", "@10"])
def test_what_names_no_step_is_no_branch(start):
    assert run_and_step(start) is None
    assert resume_from(replace(large_digits(), start=start), LIKE) is None


def test_a_step_that_is_not_saved_is_refused_and_the_others_are_named(trunk):
    with pytest.raises(ConfigError, match=r"\(10, 20\) none is 15"):
        resume_from(replace(large_digits(), start=f"{trunk}@15"), LIKE)


def test_a_damaged_step_is_refused(trunk):
    (trunk / "checkpoints" / "10" / "saved.json").write_text("{}")
    with pytest.raises(ConfigError, match="saved.json.*another step"):
        resume_from(replace(large_digits(), start=f"{trunk}@10"), LIKE)


def test_another_state_is_refused(trunk):
    with pytest.raises(ConfigError, match="missing"):
        resume_from(replace(large_digits(), start=f"{trunk}@10"), {"w": LIKE["w"]})


def test_a_cool_down_leaves_the_trunk_where_it_begins():
    """With warm-up and cool-down in steps, the branch has the rate of the trunk up to there, then falls to zero."""
    trunk = schedule(OptimConfig(schedule=Rsqrt(100, 0.0), warmup=50), 100_000)
    cool = schedule(OptimConfig(schedule=Rsqrt(100, 80), warmup=50), 480)
    rates = np.array([[trunk(n), cool(n)] for n in range(481)])
    assert_close(rates[:401, 0], rates[:401, 1], FLOAT32)
    assert (rates[401:, 1] < rates[401:, 0]).all() and (np.diff(rates[401:, 1]) < 0).all() and rates[480, 1] == 0
