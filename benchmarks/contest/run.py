"""Compare the speed of our model and of peers, in an environment of their own, on the same images.

    python -m venv peers
    peers/bin/pip install torch timm vit-pytorch monai torchvision pillow
    python benchmarks/contest/run.py --peers peers/bin/python [--threads 2] [--cases mixed tiny] [--presets ti16 s16]

Every contestant is a process, pinned to the same cores; rounds are interleaved, so that other load on the machine
affects all contestants equally. One thread is compared by CPU time, several threads by wall time. Our model is first
checked against the reference. A peer that cannot run is reported as absent, with the reason.
"""

import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.contest import stream
from benchmarks.contest.process import Process, thread_limits
from benchmarks.contest.protocol import pin
from benchmarks.contest.rows import steady
from benchmarks.contest.stream import CASES, CLASSES, PATCH
from benchmarks.contest.verdict import OURS, bars, draw, summary
from benchmarks.measure import arguments, report
from harness.cost import image_cost
from navit_eqx.config import variant

PRESETS = {"ti16": variant("Ti/16"), "s16": variant("S/16"), "b16": variant("B/16")}
PEERS = ("timm-longest", "timm-buckets", "vit-pytorch", "vit-pytorch-nested", "monai", "flat")
GPU_PEERS = ("timm-longest", "timm-buckets", "vit-pytorch", "vit-pytorch-nested", "monai", "flex", "varlen")
# With one arena, steps keep their memory; in training it would slow down reading: docs/speed.md.
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
QUICK = {"width": 32, "depth": 1, "heads": 1, "mlp_width": 64}


def main() -> None:
    parser = arguments(__doc__, "one round of one small step of one block of width 32")
    parser.add_argument("--peers", default="", help="Python of the peers' environment; without it, ours alone")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=["ti16"])
    parser.add_argument("--contestants", nargs="+", choices=sorted({*OURS, *PEERS, *GPU_PEERS}))
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1)
    parser.add_argument("--gpu", action="store_true", help="on an accelerator: compiled, in bfloat16")
    parser.add_argument("--steps", type=int, default=4, help="in a round")
    parser.add_argument("--step-tokens", type=int, help="places in a step; default 2016, on an accelerator 65536")
    parser.add_argument("--blocks", type=int, help="of the model, instead of the preset's")
    parser.add_argument("--picture", type=Path, help="where to draw the result")
    args = parser.parse_args()
    args.step_tokens = args.step_tokens or (65_536 if args.gpu else 2016)
    if not args.gpu:
        pin(args.threads)

    lines = []
    for preset in args.presets:
        for name in args.cases:
            lines += contest(preset, name, args)
    for line in bars(lines, args.threads):
        report(name="bar", threads=args.threads, **line)
    if args.picture:
        draw(lines, args.picture)


def contest(preset: str, name: str, args: Any) -> list[dict[str, Any]]:
    """One line for each contestant on one case, printed and returned."""
    with tempfile.TemporaryDirectory() as folder:
        task = lay_out(preset, name, args, Path(folder))
        chosen = args.contestants or (*OURS, *(GPU_PEERS if args.gpu else PEERS))
        contestants = [Contestant(c, args, Path(folder)) for c in chosen if c != "unpacked" or name == "equal"]
        present = [c for c in contestants if not c.absent]
        for number in range(1 if args.quick else args.repeats):
            for i in range(len(present)):  # rotate the order
                present[(number + i) % len(present)].round()
        lines = []
        for contestant in contestants:
            contestant.end()
            line = {"name": "contest", "preset": preset, "case": name, "contestant": contestant.name}
            line |= {"threads": args.threads, "blocks": task["model"]["depth"], "images": len(task["lengths"])}
            metric = "cpu_seconds" if args.threads == 1 and not args.gpu else "wall_seconds"
            why = {"absent": contestant.absent}
            line |= why if contestant.absent else summary(contestant.rounds, contestant.about, task, metric)
            report(**{k: v for k, v in line.items() if k != "rounds"})
            lines.append(line)
    return lines


def lay_out(preset: str, name: str, args: Any, folder: Path) -> dict[str, Any]:
    """Write the task of a case to a folder: its images, and the settings of all contestants."""
    case = CASES[name]
    steps = 1 if case.images or args.quick else args.steps
    step_tokens = min(args.step_tokens, 2 * case.row_tokens) if args.quick else args.step_tokens
    config = PRESETS[preset]
    shape = {k: getattr(config, k) for k in QUICK} | ({"depth": args.blocks} if args.blocks else {})
    shape = QUICK if args.quick else shape

    per_step = max(1, step_tokens // case.row_tokens)
    images = steady(name, steps * per_step)
    stream.save(folder / "images.npz", images.pixels, images.labels)
    config = replace(config, patch=(PATCH, PATCH), **shape)
    flops = sum(image_cost(config, CLASSES, n) for n in images.lengths)
    task = {"model": shape, "threads": args.threads, "steps": steps, **asdict(case)}
    task |= {"rows": images.rows, "lengths": images.lengths, "step_tokens": per_step * case.row_tokens}
    task |= {"flops": flops * (3 if case.train else 1)}  # the backward pass costs twice the forward pass
    (folder / "task.json").write_text(json.dumps(task))
    return task


class Contestant(Process):
    """A running process after warm-up, or the reason why it is absent."""

    def __init__(self, name: str, args: Any, folder: Path):
        ours = name in OURS
        worker = Path(__file__).with_name("worker_jax.py" if ours else "worker_torch.py")
        shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several processes on one device
        device = shared if args.gpu else {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        env = ONE_ARENA | thread_limits(args.threads) | device
        super().__init__(name, sys.executable if ours else args.peers, worker, folder, env)


if __name__ == "__main__":
    main()
