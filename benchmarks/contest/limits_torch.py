"""The programs of `limits.py` by PyTorch, in the interpreter of the peers.   limits_torch.py torch FOLDER"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.contest.limits import check, programs
from benchmarks.contest.protocol import Ready, serve

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": torch.exp,
    "tanh": torch.tanh,
    "softmax": lambda x: torch.softmax(x, -1),
    "softmax_backward": lambda w, g: torch.ops.aten._softmax_backward_data(g, w, -1, torch.float32),
    "forward": lambda x, w: x @ w,
    "inputs": lambda g, w: g @ w.T,
    "weights": lambda x, g: x.T @ g,
}


def prepare(name: str, task: dict[str, Any], folder: Path) -> Ready:
    torch.set_num_threads(task["threads"])
    found = []
    for program in programs(task["tokens"], task["row"]):
        inputs = [torch.tensor(x) for x in program.inputs]
        check(program, FUNCTIONS[program.function](*inputs).numpy())
        found.append((program.name, FUNCTIONS[program.function], inputs))

    def once() -> dict[str, float]:
        seconds = {}
        for program, function, inputs in found:
            start = perf_counter()
            for _ in range(task["calls"]):
                function(*inputs)
            seconds[program] = (perf_counter() - start) / task["calls"]
        return seconds

    return Ready(once, {"torch": torch.__version__})


if __name__ == "__main__":
    serve(prepare)
