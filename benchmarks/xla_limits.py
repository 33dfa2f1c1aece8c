"""What limits a training step on a CPU: programs of a few lines, by XLA and by PyTorch on the same cores.

    python -m benchmarks.xla_limits [--peers PYTHON] [--threads 1] [--quick]

    exp, tanh, softmax, softmax_backward    on the attention matrix of 7 rows of 288 tokens: nanoseconds a number
    forward, inputs, weights                x W, g Wᵀ, xᵀ g of a layer of Ti and S on 2,016 tokens: GFLOP/s

Every result is first compared with float64. Processes alternate by round; `xla-step` is compiled with the options of
the training step. The lines of `benchmarks/contest/limits_jax.py:FUNCTIONS` are all there is to each program.
"""

import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contest.limits import ROW, TOKENS, programs
from benchmarks.contest.process import Process, thread_limits
from benchmarks.contest.protocol import pin
from benchmarks.measure import arguments, report

CONTESTANTS = {"xla": "limits_jax.py", "xla-step": "limits_jax.py", "torch": "limits_torch.py"}
CALLS = 20  # of a program in a round


def main() -> None:
    parser = arguments(__doc__, "two rounds of small programs", repeats=7)
    parser.add_argument("--peers", default="", help="Python with PyTorch; without it, XLA alone")
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1)
    args = parser.parse_args()
    pin(args.threads)
    task = {"tokens": 64 if args.quick else TOKENS, "row": 16 if args.quick else ROW}
    task |= {"calls": 2 if args.quick else CALLS, "threads": args.threads}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "task.json").write_text(json.dumps(task))
        contestants = {name: start(name, args, Path(folder)) for name in CONTESTANTS}
        for number in range(2 if args.quick else args.repeats):
            for i in range(len(contestants)):  # rotate the order
                [*contestants.values()][(number + i) % len(contestants)].round()
        for contestant in contestants.values():
            contestant.end()
    amounts = {p.name: (p.function, p.amount) for p in programs(task["tokens"], task["row"])}
    for name, contestant in contestants.items():
        about = {"name": "xla_limits", "contestant": name, "threads": args.threads}
        if contestant.absent:
            report(**about, absent=contestant.absent)
        for program, (function, amount) in amounts.items() if contestant.rounds else ():
            seconds = [r[program] for r in contestant.rounds]
            report(**about, program=program, **speed(function, amount, seconds), **versions(contestant))


def start(name: str, args: Any, folder: Path) -> Process:
    env = thread_limits(args.threads) | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    python = args.peers if name == "torch" else sys.executable
    return Process(name, python, Path(__file__).parent / "contest" / CONTESTANTS[name], folder, env)


def speed(function: str, amount: int, seconds: list[float]) -> dict[str, Any]:
    """Median over rounds with fastest and slowest."""
    if function in ("forward", "inputs", "weights"):
        rates = [amount / s / 1e9 for s in seconds]
        return {"gflops_per_second": median(rates), "slowest": min(rates), "fastest": max(rates)}
    each = [1e9 * s / amount for s in seconds]
    return {"nanoseconds": median(each), "fastest": min(each), "slowest": max(each)}


def versions(contestant: Process) -> dict[str, Any]:
    return {name: contestant.about[name] for name in ("jaxlib", "options", "torch") if name in contestant.about}


if __name__ == "__main__":
    main()
