"""How programs are started and compiled changes neither what they compute nor what the user set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from harness.process import ALLOCATOR
from navit_eqx.training import compiling
from navit_eqx.training.compiling import INIT_COMPILER_OPTIONS, step_compiler_options
from tests.support.laws import caught
from tests.support.tolerances import EXACT, assert_close

ROOT = Path(__file__).parent.parent
STARTED = """
from harness.process import tune_allocator
tune_allocator()
import json, os, sys
print(json.dumps([dict(os.environ), sys.argv[1:]]))
"""


@pytest.fixture(autouse=True)
def forgotten():
    step_compiler_options.cache_clear()
    yield
    step_compiler_options.cache_clear()


def program(x):
    """A gradient through a matrix product, a GELU and a softmax."""
    return jax.grad(lambda x: (jax.nn.gelu(x @ x.T) @ jax.nn.softmax(x)).sum())(x)


def gives_the_same_numbers(options, compiled=program):
    x = jax.random.normal(jax.random.key(0), (24, 24))
    assert_close(jax.jit(compiled, compiler_options=options)(x), jax.jit(program)(x), EXACT)


@pytest.mark.parametrize("options", [step_compiler_options, lambda: INIT_COMPILER_OPTIONS], ids=["step", "init"])
def test_the_same_numbers_come_out(options):
    assert options()
    gives_the_same_numbers(options())
    caught(gives_the_same_numbers, options(), lambda x: program(x) + 1e-6)


def test_a_compiler_that_does_not_know_the_options_gets_none(monkeypatch):
    monkeypatch.setattr(compiling, "ON_CPU", {"xla_cpu_of_another_time": True})
    assert step_compiler_options() is None


def test_an_accelerator_gets_no_options(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert step_compiler_options() is None


@pytest.mark.skipif(sys.platform != "linux", reason="settings of the C library of Linux")
def test_the_allocator_is_set_before_the_program_and_what_the_user_set_stays(tmp_path):
    """The program starts anew with the settings in its environment, with the same arguments, and only once."""
    mine = {"MALLOC_TRIM_THRESHOLD_": "12345", "MALLOC_ARENA_MAX": "1"}
    env = {k: v for k, v in os.environ.items() if k not in ALLOCATOR} | mine
    script = tmp_path / "program.py"
    script.write_text(STARTED)
    env |= {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), "--rows", "8"], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    (line,) = done.stdout.splitlines()
    environment, arguments = json.loads(line)
    assert {name: environment[name] for name in ALLOCATOR | mine} == ALLOCATOR | mine
    assert arguments == ["--rows", "8"]
