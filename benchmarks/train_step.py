"""Speed of one training step: batched or vmapped over rows, the scan over blocks rolled or unrolled.

    python benchmarks/train_step.py [--presets digits ti16 s16] [--rows N] [--allocator off] [--quick]

Images are noise: digits has the shapes, sizes and packing of its preset, ti16 and s16 those of imagenet-s16.
--allocator off omits the allocator settings of train.py, which apply to a whole process.
"""

import os
from dataclasses import replace
from itertools import product
from time import perf_counter
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

from benchmarks.measure import arguments, median_seconds, report
from benchmarks.settings import preset_on_noise
from harness.config import Config
from harness.cost import image_cost, sizes
from harness.process import ALLOCATOR, tune_allocator
from harness.run.loading import training_rows
from navit_eqx import ModelConfig, NaViT, Row
from navit_eqx.model import static_part
from navit_eqx.tasks.config import Loss
from navit_eqx.training.compiling import INIT_COMPILER_OPTIONS
from navit_eqx.training.config import OptimConfig
from navit_eqx.training.program import program_of
from navit_eqx.training.sharding import data_mesh, shard_batch
from navit_eqx.training.step import State
from navit_eqx.weights.bridge import to_reference
from reference.model import forward

ROWS = {"digits": 24, "ti16": 4, "s16": 2}  # in a batch
FLOAT32 = 1e-5  # largest relative error of float32 logits against the reference


class PerRow(eqx.Module):
    """The model, vmapped over rows."""

    model: NaViT

    def gates(self, key: jax.Array, image_ids: jax.Array) -> None:
        """No preset timed here uses stochastic depth."""

    def __call__(self, batch: Row, gates: None = None) -> jax.Array:
        return jax.vmap(self.model)(batch)


def main() -> None:
    parser = arguments(__doc__, "digits with 2 rows, 2 blocks, 3 repeats", repeats=10)
    parser.add_argument("--presets", nargs="+", choices=ROWS)
    parser.add_argument("--rows", type=int, help=f"in a batch; default {ROWS}")
    parser.add_argument("--allocator", choices=("on", "off"), default="on")
    args = parser.parse_args()
    if args.allocator == "on":
        tune_allocator()
    elif ALLOCATOR.keys() & os.environ.keys():
        parser.error(f"--allocator off: unset {', '.join(ALLOCATOR)} first")

    for preset in args.presets or (["digits"] if args.quick else ROWS):
        config, source = preset_on_noise(preset, args.rows or (2 if args.quick else ROWS[preset]))
        shape = replace(config.model, depth=2) if args.quick else config.model
        for variant, unroll in product(("batched", "vmap"), (1, shape.depth)):
            config = replace(config, model=replace(shape, unroll=unroll))
            measure(preset, config, source, variant, 3 if args.quick else args.repeats)


def build(config: ModelConfig) -> NaViT:
    """A model with a nonzero classifier, so that its logits can be compared."""

    def initial() -> NaViT:
        model = NaViT(config, key=jr.key(0))
        head = 0.02 * jr.normal(jr.key(1), model.head.w.shape)
        return eqx.filter(eqx.tree_at(lambda m: m.head.w, model, head), eqx.is_array)

    return eqx.combine(jax.jit(initial, compiler_options=INIT_COMPILER_OPTIONS)(), static_part(config))


def relative_error(model: NaViT, logits: Any, first: Any) -> float:
    """Relative error of the logits of the first row of a float32 model, against the reference."""
    want, real = forward(to_reference(model), first), first.labels >= 0
    return float(np.abs(np.asarray(logits) - want)[real].max() / np.abs(want[real]).max())


def program(model: Any, optim: OptimConfig, steps: int, loss: Loss, batch: Row) -> tuple[Any, State, float]:
    """The compiled training step, the initial state, and the seconds of compilation."""
    made = program_of(Config(optim=optim, steps=steps, loss=loss), data_mesh(), build=lambda key: model)
    state, start = made.begun(eqx.filter(model, eqx.is_inexact_array)), perf_counter()
    return made.step.lower(state, batch).compile(), state, perf_counter() - start


def measure(preset: str, config: Config, source, variant: str, repeats: int) -> None:
    stream, wrap = training_rows(config, source), PerRow if variant == "vmap" else lambda model: model
    rows = [stream[i] for i in range(config.rows)]
    lengths = [n for row in rows for n in np.bincount(row.segment_ids)[1:].tolist()]
    batch = shard_batch(tuple(map(np.stack, zip(*rows))), data_mesh())
    exact = build(replace(config.model, dtype="float32"))
    with jax.default_matmul_precision("highest"):
        error = relative_error(exact, eqx.filter_jit(wrap(exact))(batch)[0], rows[0])
    assert error <= FLOAT32, f"relative error {error:.3g}, limit {FLOAT32}"

    model = build(config.model)
    compiled, state, compile_seconds = program(wrap(model), config.optim, config.steps, config.loss, batch)

    def once():
        nonlocal state
        state, metrics = jax.block_until_ready(compiled(state, batch))
        return metrics

    metrics = once()  # warms up
    assert (int(metrics.images), int(metrics.tokens)) == (len(lengths), sum(lengths)) and np.isfinite(metrics.loss)
    seconds = median_seconds(once, repeats)
    useful = 3 * sum(image_cost(config.model, n) for n in lengths)  # the backward pass costs twice the forward pass
    packing = config.data.packing
    report(
        **{"name": "train_step", "preset": preset, "variant": variant, "unroll": config.model.unroll},
        **{"allocator": "on" if ALLOCATOR.items() <= os.environ.items() else "off", "dtype": model.dtype},
        **{"device": jax.devices()[0].device_kind, **sizes(config.model), "images": len(lengths), "rows": len(rows)},
        **{"row_tokens": packing.row_tokens, "row_images": packing.row_images},
        images_per_second=len(lengths) / seconds.seconds,
        tokens_per_second=sum(lengths) / seconds.seconds,
        useful_gflops_per_second=useful / seconds.seconds / 1e9,
        padding=1 - sum(lengths) / (len(rows) * packing.row_tokens),
        **{"compile_seconds": compile_seconds, "relative_error": error, **seconds._asdict()},
    )


if __name__ == "__main__":
    main()
