"""Linearity of cost in tokens: time per real token for different numbers and sizes of images.

    python benchmarks/linear.py [--counts 100 1000 10000 100000] [--quick]

`counts`: epochs of digit strips, planned, read, packed and trained on by a small model, from the first row to the last
step; the program is compiled before. `lengths`: the training step of Ti/16 on full rows of 256 tokens, of images of 16,
64 or 256 tokens each: one program for all. All alternate, since the speed of a machine drifts: medians over rounds.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import jax
import numpy as np

from benchmarks.measure import arguments, clocked, report
from benchmarks.settings import packed, stacked
from benchmarks.train_step import FLOAT32, build, relative_error, training
from data.pipeline import batches
from data.sources.digits import Digits
from harness.digit_presets import large_digits
from harness.process import tune_allocator
from harness.resolve import resolve
from harness.run.loading import open_source, open_task, training_rows
from navit_eqx.config import variant
from navit_eqx.inference import forward
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Classify
from navit_eqx.training.config import OptimConfig
from reference.rows import Batch

COUNTS = (100, 1_000, 10_000, 100_000)
LENGTHS = (16, 64, 256)
ROW, SLOTS, ROWS, PATCH = 256, 16, 8, 16
MODEL, CLASSES = variant(f"Ti/{PATCH}"), 1_000
STEPS = 1_000_000  # more than any measurement needs
LEAST_IMAGES = 20_000  # images in all rounds of `counts`, at least, over several epochs


def main() -> None:
    parser = arguments(__doc__, "two counts, one block, two rounds", repeats=11)
    parser.add_argument("--counts", nargs="*", type=int, default=list(COUNTS))
    args = parser.parse_args()
    tune_allocator()
    rounds = 2 if args.quick else args.repeats
    measure_counts([100, 200] if args.quick else args.counts, 200 if args.quick else LEAST_IMAGES, rounds)
    measure_lengths(1 if args.quick else MODEL.depth, rounds)


def measure_counts(counts: Sequence[int], least: int, rounds: int) -> None:
    """Measure whole epochs for each count, a part of them in each round; the first round warms up."""
    runs = {count: epochs(count, -(-max(count, least) // rounds)) for count in counts}
    for count, costs in alternating(runs, lambda count: next(runs[count]), rounds).items():
        report(name="linear", kind="counts", images_in_epoch=count, rounds=rounds, **spread(costs))


def epochs(count: int, images: int) -> Iterator[float]:
    """Microseconds per token of each next `images` images, with all costs of an epoch except compilation."""
    config = large_digits()
    config = replace(config, data=replace(config.data, source=Digits(train_images=count)))
    config = replace(config, model=replace(config.model, width=32, depth=1, heads=1, mlp_width=64), rows=2, steps=STEPS)
    source = open_source(config, "train")
    prepared, task = open_task(config, source.manifest)
    config, _ = resolve(replace(config, task=prepared.config), source.manifest, task)
    rows = task.batches(training_rows(config, source, task))
    first = stacked([rows[i] for i in range(config.rows)])
    step, state, device_batch, _ = training(build(config.model, config.task), config.optim, STEPS, first)
    stream = batches(rows, config.rows)
    while True:
        done, tokens, start = 0, 0, time.perf_counter()
        while done < images:
            state, metrics = step(state, device_batch(next(stream)))
            done, tokens = done + int(metrics.images), tokens + int(metrics.tokens)
        yield 1e6 * (time.perf_counter() - start) / tokens


def measure_lengths(depth: int, rounds: int) -> None:
    rows = {n: full_rows(n) for n in LENGTHS}
    model = build(replace(MODEL, depth=depth), Classify(classes=CLASSES))
    with jax.default_matmul_precision("highest"):
        for row, _ in rows.values():
            first = jax.tree.map(lambda leaf: leaf[0], row)
            error = relative_error(model, forward(model, to_device(row))[0], first)
            assert error <= FLOAT32, f"relative error {error:.3g}, limit {FLOAT32}"
    step, state, device_batch, _ = training(model, OptimConfig(), 1000, rows[LENGTHS[0]])

    def cost(n: int) -> float:
        batch = device_batch(rows[n])

        def once() -> None:
            nonlocal state
            state, metrics = jax.block_until_ready(step(state, batch))
            assert int(metrics.tokens) == ROWS * ROW

        return 1e6 * clocked(once) / (ROWS * ROW)

    for n, costs in alternating(rows, cost, rounds).items():
        report(
            name="linear", kind="lengths", tokens_per_image=n, images=ROWS * ROW // n, rounds=rounds, **spread(costs)
        )


def alternating(cases: Iterable[int], cost: Callable[[int], float], rounds: int) -> dict[int, list[float]]:
    """Costs of each case in each round, after a round of warm-up; the order rotates."""
    costs: dict[int, list[float]] = {case: [] for case in cases}
    for number in range(rounds + 1):
        for case in rotated(list(costs), number):
            now = cost(case)
            costs[case] += [now] if number else []
    return costs


def spread(costs: list[float]) -> dict[str, float]:
    median = statistics.median(costs)
    return {"microseconds_per_token": median, "microseconds_min": min(costs), "microseconds_max": max(costs)}


def full_rows(tokens: int) -> Batch:
    """Rows without padding, of square images of noise."""
    side, rng = PATCH * int(tokens**0.5), np.random.default_rng(0)
    count = ROWS * ROW // tokens
    images = [rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count)]
    rows = np.arange(count).reshape(ROWS, -1).tolist()
    return packed(images, rng.integers(0, CLASSES, count), rows, ROW, SLOTS, (PATCH, PATCH))


def rotated(items: Sequence, by: int) -> list:
    return [items[(by + i) % len(items)] for i in range(len(items))]


if __name__ == "__main__":
    main()
