"""From files to learned weights: this project against timm's NaFlex loader and vit-pytorch's NaViT.

    python -m venv peers
    peers/bin/pip install torch timm vit-pytorch torchvision pillow
    python -m benchmarks.contest_train --peers peers/bin/python --root caltech101
    python -m benchmarks.contest_train --peers peers/bin/python --root caltech101 --until 0.45 --steps 4000

ROOT has train/<class>/* and val/<class>/*. All contestants read the same files, crop and flip them alike, give images
the same token budgets, and train a model of the same shape in steps of as many places. Without --until: rounds of some
thousand images each, in turn, each after a shorter one that is not timed. With it: each recipe of
`benchmarks/contest/feeding.py` is trained to the end, and the time at which validation accuracy first reached the goal
is that of the best recipe; all have the same number of tries.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from math import log
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contest.feeding import MODEL, QUICK, RECIPES, of_paths
from benchmarks.contest.process import Process, thread_limits
from benchmarks.measure import arguments, report

Line = dict[str, Any]
OURS = ("ours", "ours-memory")
NAMES = (*OURS, "timm", "vit-pytorch")
THREADS = 2
UNTIMED = 800  # images before each round, and for each worker: more than loaders have read ahead
TOKENS, LOSS = 0.1, 0.5  # largest relative difference of tokens per image; of the first loss, from chance


def main() -> None:
    parser = arguments(__doc__, "one round of a few images of one block of width 32", repeats=3)
    parser.add_argument("--root", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--peers", default="", help="Python of the peers' environment; without it, ours alone")
    parser.add_argument("--contestants", nargs="+", choices=NAMES, default=["ours", "timm", "vit-pytorch"])
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2], help="processes that read")
    parser.add_argument("--images", type=int, default=3000, help="in a round, at least")
    parser.add_argument("--until", type=float, help="validation accuracy to reach")
    parser.add_argument("--steps", type=int, default=4000, help="of a training, with --until")
    parser.add_argument("--every", type=int, default=100, help="steps between evaluations, with --until")
    args = parser.parse_args()
    args.images, args.untimed = (60, 1) if args.quick else (args.images, UNTIMED)
    args.steps, args.every = (4, 2) if args.quick else (args.steps, args.every)
    with tempfile.TemporaryDirectory() as folder:
        (race if args.until else contest)(args, Path(folder))


def task_of(args: Any, workers: int, **more: Any) -> Line:
    shape = QUICK if args.quick else MODEL
    return {"root": str(args.root.resolve()), "model": shape, "threads": THREADS, "workers": workers, **more}


def start(name: str, args: Any, folder: Path, task: Line) -> Process:
    """Start a contestant and wait for its first step."""
    folder.mkdir(parents=True)
    (folder / "task.json").write_text(json.dumps(task))
    worker = Path(__file__).parent / "contest" / ("feed_jax.py" if name in OURS else "feed_torch.py")
    env = thread_limits(THREADS) | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return Process(name, sys.executable if name in OURS else args.peers, worker, folder, env)


# images a second ----------------------------------------------------------------------------------


def contest(args: Any, folder: Path) -> None:
    """A line for each contestant and number of workers, and the ratios to ours."""
    pairs = [(name, workers) for workers in args.workers for name in args.contestants]
    running = {
        (n, w): start(
            n, args, folder / f"{n}-{w}", task_of(args, w, images=args.images, untimed=args.untimed * (1 + w))
        )
        for n, w in pairs
    }
    try:
        check_equal([p.about for p in running.values() if not p.absent], args.root)
        for number in range(1 if args.quick else args.repeats):
            for i in range(len(pairs)):  # rotate the order
                running[pairs[(number + i) % len(pairs)]].round()
    finally:
        for process in running.values():
            process.end()
    lines = {pair: line_of(process) for pair, process in running.items()}
    for (name, workers), line in lines.items():
        report(name="contest_train", contestant=name, workers=workers, **line)
    check_tokens([line for line in lines.values() if "absent" not in line], args.quick)
    for line in ratios(running):
        report(name="contest_train_ratio", **line)


def check_equal(abouts: Sequence[Line], root: Path) -> None:
    """Raises AssertionError unless all read the files of ROOT/train, and begin at the loss of a model that knows
    nothing."""
    files = of_paths(str(path) for path in (root / "train").glob("*/*") if path.is_file())
    for about in abouts:
        assert about["digest"] == files, f"{about} does not read the images of {root}/train"
        chance = log(about["classes"])
        assert abs(about["first_loss"] - chance) < LOSS * chance, f"first loss {about['first_loss']}, chance {chance}"


def check_tokens(lines: Sequence[Line], quick: bool) -> None:
    """Raises AssertionError where contestants gave images different numbers of tokens on average."""
    means = [line["tokens_per_image"] for line in lines]
    limit = 1.0 if quick else TOKENS  # a few batches of timm have any mean
    more = "no ratio is made of unequal work; more --images or --repeats bring the means of drawn budgets together"
    assert max(means, default=1) <= (1 + limit) * min(means, default=1), f"tokens per image {means}: {more}"


def line_of(process: Process) -> Line:
    """Medians over the rounds."""
    if process.absent:
        return {"absent": process.absent}
    rounds, about = process.rounds, dict(process.about)
    total = {key: sum(r[key] for r in rounds) for key in ("images", "tokens", "steps", "wall_seconds")}
    places = sum(r.get("places", 0) for r in rounds)
    rates = [r["images"] / r["wall_seconds"] for r in rounds]
    return {
        **{"images_per_second": median(rates), "slowest": min(rates), "fastest": max(rates), "repeats": len(rounds)},
        "tokens_per_second": median(r["tokens"] / r["wall_seconds"] for r in rounds),
        "tokens_per_image": total["tokens"] / total["images"],
        "images_per_step": total["images"] / total["steps"],
        "padding": 1 - total["tokens"] / places if places else None,
        "first_step_seconds": about.pop("first_step_at") - process.started,
        "peak_bytes": max(r["peak_bytes"] or 0 for r in rounds),
        **about,
    }


def ratios(running: Mapping[tuple[str, int], Process]) -> Iterator[Line]:
    """How many times as fast ours is, round by round, with as many workers and with the best number for each.

    By tokens: within a round timm draws budgets of few batches, so that its images are smaller in one round than in
    another, while the tokens of an image are the same for all in the long run.
    """
    rates = {pair: [r["tokens"] / r["wall_seconds"] for r in process.rounds] for pair, process in running.items()}
    rates = {pair: values for pair, values in rates.items() if values}
    best: dict[str, list[float]] = {}
    for name in dict.fromkeys(name for name, _ in rates):
        best[name] = max((values for (n, _), values in rates.items() if n == name), key=median)
    for mine in (name for name in best if name in OURS):
        for peer in (name for name in best if name not in OURS):
            for workers in (w for n, w in rates if n == mine and (peer, w) in rates):
                yield spread(mine, peer, workers, rates[mine, workers], rates[peer, workers])
            yield spread(mine, peer, "best", best[mine], best[peer])


def spread(mine: str, peer: str, workers: int | str, ours: Sequence[float], theirs: Sequence[float]) -> Line:
    each = [a / b for a, b in zip(ours, theirs)]
    line = {"contestant": mine, "peer": peer, "workers": workers, "value": median(each)}
    return line | {"value_min": min(each), "value_max": max(each), "repeats": len(each)}


# time to an accuracy ------------------------------------------------------------------------------


def race(args: Any, folder: Path) -> None:
    """Train every recipe of every contestant to the end, one after the other."""
    workers = args.workers[0]
    for name in args.contestants:
        tries = {}
        for number, (recipe, settings) in enumerate(RECIPES.get(name, RECIPES["ours"]).items()):
            task = task_of(args, workers, recipe=settings, steps=args.steps, every=args.every)
            process = start(name, args, folder / f"{name}-{number}", task)
            process.end()
            if process.absent:
                report(name="contest_train_run", contestant=name, recipe=recipe, absent=process.absent)
                continue
            curve = process.about.pop("curve")
            tries[recipe] = reached(curve, args.until)
            about = {"contestant": name, "recipe": recipe, "workers": workers, **process.about, **tries[recipe]}
            best = max(point["accuracy"] for point in curve)
            report(name="contest_train_run", **about, best=best, last=curve[-1], curve=curve)
        times = {recipe: found["seconds"] for recipe, found in tries.items() if found["seconds"] is not None}
        first = min(times, key=lambda recipe: times[recipe]) if times else None
        found = {"recipe": first, "seconds": times.get(first), "tries": len(tries)}
        report(name="contest_train_until", contestant=name, until=args.until, **found)


def reached(curve: Sequence[Line], goal: float) -> Line:
    """Training seconds and images at the first evaluation that reached the goal; none where it was not reached."""
    point = next((point for point in curve if point["accuracy"] >= goal), None)
    return {"seconds": point and point["seconds"], "images": point and point["images"]}


if __name__ == "__main__":
    main()
