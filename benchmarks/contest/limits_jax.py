"""The programs of `limits.py` by XLA.   limits_jax.py NAME FOLDER     NAME xla, or xla-step: compiled as the step is"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contest.limits import check, programs
from benchmarks.contest.protocol import Ready, serve
from navit_eqx.training.compiling import step_compiler_options

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": jnp.exp,
    "tanh": jnp.tanh,
    "softmax": lambda x: jax.nn.softmax(x, -1),
    "softmax_backward": lambda w, g: w * (g - (w * g).sum(-1, keepdims=True)),
    "forward": lambda x, w: x @ w,
    "inputs": lambda g, w: g @ w.T,
    "weights": lambda x, g: x.T @ g,
}


def prepare(name: str, task: dict[str, Any], folder: Path) -> Ready:
    options = step_compiler_options() if name == "xla-step" else None
    found = []
    for program in programs(task["tokens"], task["row"]):
        function = jax.jit(FUNCTIONS[program.function], compiler_options=options)
        inputs = [jnp.asarray(x) for x in program.inputs]
        check(program, np.asarray(function(*inputs)))
        found.append((program.name, function, inputs))

    def once() -> dict[str, float]:
        seconds = {}
        for program, function, inputs in found:
            start = perf_counter()
            for _ in range(task["calls"]):
                jax.block_until_ready(function(*inputs))
            seconds[program] = (perf_counter() - start) / task["calls"]
        return seconds

    return Ready(once, {"jaxlib": jax.lib.__version__, "options": options})


if __name__ == "__main__":
    serve(prepare)
