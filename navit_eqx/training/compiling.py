"""Compiler options of XLA."""

from functools import cache

import jax

INIT_COMPILER_OPTIONS = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Options of a program that runs once: initialization compiles three times faster."""

ON_CPU = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}


@cache
def step_compiler_options() -> dict[str, bool | int] | None:
    """Options of the train step: None, except on a CPU, where older emitters and a lower optimization level are used.

    With jaxlib 0.10 they compile in two thirds of the time, and the step runs at least as fast (docs/log.md). None
    where jaxlib rejects the options.
    """
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda x: x, compiler_options=ON_CPU).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return None
    return ON_CPU
