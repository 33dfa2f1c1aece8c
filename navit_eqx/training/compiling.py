"""What XLA is told beside its program."""

from functools import cache

import jax

INIT_COMPILER_OPTIONS = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""For a program that runs once: fresh parameters compile three times faster."""

ON_CPU = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}


@cache
def step_compiler_options() -> dict[str, bool | int] | None:
    """For a program that runs often: nothing, but on a CPU to use its older emitters and to optimise less.

    With jaxlib 0.10 that compiles in two thirds of the time and runs at least as fast (docs/log.md); a jaxlib that does
    not know these options is told nothing.
    """
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda x: x, compiler_options=ON_CPU).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return None
    return ON_CPU
