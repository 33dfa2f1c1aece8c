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
from typing import Any

import jax
import numpy as np
from data.images import pack_images

from benchmarks.measure import arguments, clocked, report
from benchmarks.train_step import FLOAT32, build, program, relative_error
from data.pipeline import batches
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sources.digits import Digits
from harness.presets import digits
from harness.process import tune_allocator
from harness.resolve import resolve
from harness.run.loading import open_source, training_rows
from navit_eqx import config as presets
from navit_eqx.inference import forward
from navit_eqx.tasks.config import Softmax
from navit_eqx.training.config import OptimConfig
from navit_eqx.training.sharding import data_mesh, shard_batch
from reference.rows import Row

COUNTS = (100, 1_000, 10_000, 100_000)
LENGTHS = (16, 64, 256)
ROW, SLOTS, ROWS, PATCH = 256, 16, 8, 16
STEPS = 1_000_000  # more than any measurement needs
LEAST_IMAGES = 20_000  # images in all rounds of `counts`, at least, over several epochs


def main() -> None:
    parser = arguments(__doc__, "two counts, one block, two rounds", repeats=11)
    parser.add_argument("--counts", nargs="*", type=int, default=list(COUNTS))
    args = parser.parse_args()
    tune_allocator()
    rounds = 2 if args.quick else args.repeats
    measure_counts([100, 200] if args.quick else args.counts, 200 if args.quick else LEAST_IMAGES, rounds)
    measure_lengths(1 if args.quick else presets.ti(PATCH).depth, rounds)


def measure_counts(counts: Sequence[int], least: int, rounds: int) -> None:
    """Measure whole epochs for each count, a part of them in each round; the first round warms up."""
    runs = {count: training(count, -(-max(count, least) // rounds)) for count in counts}
    for count, costs in alternating(runs, lambda count: next(runs[count]), rounds).items():
        report(name="linear", kind="counts", images_in_epoch=count, rounds=rounds, **spread(costs))


def training(count: int, images: int) -> Iterator[float]:
    """Microseconds per token of each next `images` images, with all costs of an epoch except compilation."""
    config = digits()
    config = replace(config, data=replace(config.data, source=Digits(train_images=count)))
    config = replace(config, model=replace(config.model, width=32, depth=1, heads=1, mlp_width=64), rows=2, steps=STEPS)
    source = open_source(config.data, "train")
    config, _ = resolve(config, source.manifest)
    rows = training_rows(config, source)
    first = tuple(map(np.stack, zip(*(rows[i] for i in range(config.rows)))))
    step, state, _ = program(build(config.model), config.optim, config.steps, config.loss, placed(first))
    stream = batches(rows, config.rows)
    while True:
        done, tokens, start = 0, 0, time.perf_counter()
        while done < images:
            state, metrics = step(state, placed(next(stream)))
            done, tokens = done + int(metrics.images), tokens + int(metrics.tokens)
        yield 1e6 * (time.perf_counter() - start) / tokens


def measure_lengths(depth: int, rounds: int) -> None:
    config = replace(presets.ti(PATCH), classes=1000, depth=depth)
    rows = {n: full_rows(n) for n in LENGTHS}
    model = build(config)
    with jax.default_matmul_precision("highest"):
        for batch in rows.values():
            first = jax.tree.map(lambda leaf: leaf[0], batch)
            error = relative_error(model, forward(model, placed(batch))[0], first)
            assert error <= FLOAT32, f"relative error {error:.3g}, limit {FLOAT32}"
    step, state, _ = program(model, OptimConfig(), 1000, Softmax(), placed(rows[LENGTHS[0]]))

    def cost(n: int) -> float:
        batch = placed(rows[n])

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


def full_rows(tokens: int) -> Row:
    """Rows without padding, of square images of noise."""
    side, rng = PATCH * int(tokens**0.5), np.random.default_rng(0)
    count = ROWS * ROW // tokens
    images = [rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count)]
    batch = pack_images(
        images, patch_size=PATCH, resolution=Native(), packing=Packing(ROW, SLOTS), longest_side=int(tokens**0.5)
    )
    labels = rng.integers(0, 1000, count)
    return batch._replace(labels=np.where(batch.image_ids >= 0, labels[batch.image_ids], -1).astype(np.int32))


def placed(batch: Any) -> Any:
    return shard_batch(batch, data_mesh())


def rotated(items: Sequence, by: int) -> list:
    return [items[(by + i) % len(items)] for i in range(len(items))]


if __name__ == "__main__":
    main()
