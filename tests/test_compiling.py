"""What programs are started and compiled with changes neither what they compute nor, step by step, their memory."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.contest.run import ONE_ARENA
from harness.process import ALLOCATOR
from navit_eqx.training import compiling
from navit_eqx.training.compiling import step_compiler_options

ROOT = Path(__file__).parent.parent
FAULTS = """
import resource, jax, jax.numpy as jnp
step = jax.jit(lambda x: jnp.tanh(x @ x.T) @ x)  # its temporary array has 64 MiB
x = jnp.ones((4096, 16), jnp.float32)
faults = []
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[5])
"""


@pytest.fixture(autouse=True)
def forgotten():
    step_compiler_options.cache_clear()
    yield
    step_compiler_options.cache_clear()


def test_the_same_numbers_come_out():
    f = lambda x: jax.grad(lambda x: (jax.nn.gelu(x @ x.T) @ jax.nn.softmax(x)).sum())(x)
    x = jax.random.normal(jax.random.key(0), (24, 24))
    np.testing.assert_allclose(jax.jit(f, compiler_options=step_compiler_options())(x), jax.jit(f)(x), rtol=1e-12, atol=1e-12)


def test_a_compiler_that_does_not_know_the_options_is_told_nothing(monkeypatch):
    monkeypatch.setattr(compiling, "ON_CPU", {"xla_cpu_of_another_time": True})
    assert step_compiler_options() is None


def test_an_accelerator_is_told_nothing(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert step_compiler_options() is None


@pytest.mark.skipif(sys.platform != "linux", reason="settings of the C library of Linux")
def test_with_one_arena_a_step_finds_its_memory_where_it_left_it():
    assert faults(ONE_ARENA) < 1000
    assert faults({}) > 16_000  # each step maps 64 MiB anew


def faults(more: dict[str, str]) -> int:
    """Page faults of a usual step of a program whose arrays are large; on small pages, so that they count."""
    settings = {k: v for k, v in ALLOCATOR.items() if k != "GLIBC_TUNABLES"} | more
    env = {k: v for k, v in os.environ.items() if k not in {*ALLOCATOR, *ONE_ARENA, "JAX_NUM_CPU_DEVICES"}} | settings
    done = subprocess.run([sys.executable, "-c", FAULTS], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return int(done.stdout)
