"""A number of minutes decides on the number of steps, and a run that continues keeps it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import presets, process
from harness.run.budget import fitting, is_timed, steps_of
from harness.run.folder import write_config
from harness.run.resume import reconcile
from navit_eqx.errors import ConfigError
from tests.support.runs import TINY
from train import command_line


@given(most=st.integers(1, 10**6), minutes=st.floats(1e-3, 1e4), seconds=st.floats(1e-4, 1e3))
def test_as_many_steps_as_fit(most, minutes, seconds):
    steps = fitting(most, minutes, seconds)
    assert 1 <= steps <= most
    assert steps == 1 or steps * seconds <= 60 * minutes * (1 + 1e-9)
    assert steps == most or (steps + 1) * seconds > 60 * minutes * (1 - 1e-9)


@pytest.mark.parametrize("steps, minutes, timed", [(None, 8.0, True), (7, 8.0, False), (None, None, False)])
def test_given_steps_come_first(steps, minutes, timed):
    assert is_timed(replace(TINY, steps=steps, minutes=minutes)) == timed


@pytest.mark.parametrize("preset", ["digits", "folder", "detect-doom", "segment-nuclei"])
@pytest.mark.parametrize(
    "words, steps, minutes",
    [("--minutes 3", None, 3.0), ("--minutes=3 --steps=auto", None, 3.0), ("--steps 7", 7, None)],
)
def test_what_is_given_decides_on_the_length(preset, words, steps, minutes):
    """Whatever the preset says of steps and minutes."""
    config = command_line([preset, *words.split()])[1]
    assert (config.steps, config.minutes) == (steps, minutes) and is_timed(config) == (minutes is not None)


def test_steps_and_minutes_are_one_too_many():
    with pytest.raises(ConfigError, match="--steps 7 and --minutes 3: leave out one of them"):
        command_line(["digits", "--steps", "7", "--minutes=3"])


def test_a_run_that_continues_keeps_its_steps(tmp_path):
    """Also on a machine that is slower by now; other minutes are another number of steps, on request alone."""
    begun = replace(TINY, steps=123, minutes=8.0)
    assert steps_of(tmp_path, begun) is None
    write_config(tmp_path, begun, "digits")
    assert steps_of(tmp_path, replace(begun, steps=None)) == 123
    longer = replace(begun, steps=200, minutes=12.0)
    assert steps_of(tmp_path, longer) is None
    with pytest.raises(ConfigError, match="--override True"):
        reconcile(tmp_path, longer)
    reconcile(tmp_path, replace(longer, override=True))


@pytest.mark.parametrize("platforms, accelerated", [("cpu", False), ("cuda", True), ("tpu,cpu", True)])
def test_the_recipe_fits_the_device(platforms, accelerated, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert process.has_accelerator() == accelerated
    config = presets.folder()
    assert (config.minutes is None) == accelerated and (config.model.patch == (16, 16)) == accelerated


def test_a_device_without_its_plugin_is_no_accelerator(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(process, "ACCELERATORS", (str(tmp_path),))
    monkeypatch.setattr(process.importlib.metadata, "entry_points", lambda group: ("cuda",))
    assert process.has_accelerator()
    monkeypatch.setattr(process, "ACCELERATORS", (str(tmp_path / "none"),))
    assert not process.has_accelerator()
    monkeypatch.setattr(process, "ACCELERATORS", (str(tmp_path),))
    monkeypatch.setattr(process.importlib.metadata, "entry_points", lambda group: ())
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda name: None)
    assert not process.has_accelerator()


@pytest.mark.slow
def test_a_run_of_some_seconds(tmp_path):
    """The command as a user types it: the time is said first, the steps follow from it and stand in the run folder."""
    words = "--minutes 0.05 --rows 2 --model.width 16 --model.depth 1 --model.unroll 1 --name brief"
    command = [sys.executable, "train.py", "digits", *words.split(), "--out", str(tmp_path)]
    root, alone = Path(__file__).parent.parent, {"JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(command, cwd=root, env=os.environ | alone, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.index("training takes 0.05 minutes") < done.stdout.index("a training step takes")
    config = json.loads((tmp_path / "brief" / "config.json").read_text())["config"]
    last = json.loads((tmp_path / "brief" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == config["steps"] > 1 and config["minutes"] == 0.05
