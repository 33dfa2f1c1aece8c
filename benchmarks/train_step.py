"""Speed of one training step: batched or vmapped over rows, the scan over blocks rolled or unrolled.

    python benchmarks/train_step.py [--presets digits ti16 s16] [--rows N] [--allocator off] [--quick]

Images are noise: digits has the shapes, sizes and packing of its preset, ti16 and s16 those of imagenet-s16.
--allocator off omits the allocator settings of train.py, which apply to a whole process.
"""

import os
from dataclasses import replace
from itertools import product
from time import perf_counter
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jax.sharding import AxisType, Mesh

from benchmarks.measure import arguments, median_seconds, report
from benchmarks.settings import preset_on_noise, stacked, training_stream
from data.sources.source import Source
from data.tasks import DataTask
from harness.config import Config
from harness.cost import image_cost
from harness.process import ALLOCATOR, tune_allocator
from navit_eqx import Model, ModelConfig, NaViT, Row, to_device
from navit_eqx.inference import forward
from navit_eqx.layers import compute_dtype
from navit_eqx.tasks import PreparedTask
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import abstract_model, is_shape
from navit_eqx.training.compiling import INIT_COMPILER_OPTIONS
from navit_eqx.training.config import OptimConfig
from navit_eqx.training.program import make_program
from navit_eqx.training.step import State
from navit_eqx.weights.bridge import to_reference
from reference import adaptive
from reference import model as reference
from reference.rows import Batch
from reference.tasks import classify

ROWS = {"digits": 24, "ti16": 4, "s16": 2}  # in a batch
FLOAT32 = 1e-5  # largest relative error of float32 logits against the reference


class PerRow(eqx.Module):
    """A backbone, vmapped over rows."""

    backbone: NaViT

    def gates(self, key: jax.Array, image_ids: jax.Array) -> None:
        """No preset timed here uses stochastic depth."""

    def __call__(self, batch: Row, gates: None = None) -> jax.Array:
        return jax.vmap(self.backbone)(batch)


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
        config, source, task = preset_on_noise(preset, args.rows or (2 if args.quick else ROWS[preset]))
        shape = replace(config.model, depth=2) if args.quick else config.model
        for variant, unroll in product(("batched", "vmap"), (1, shape.depth)):
            config = replace(config, model=replace(shape, unroll=unroll))
            measure(preset, config, source, task, variant, 3 if args.quick else args.repeats)


def build(config: ModelConfig, task: Classify) -> Model:
    """A model with a nonzero classifier, so that its logits can be compared."""

    def initial() -> Model:
        model = Model(config, task, key=jr.key(0))
        head = 0.02 * jr.normal(jr.key(1), model.task.head.w.shape)
        return eqx.filter(eqx.tree_at(lambda m: m.task.head.w, model, head), eqx.is_array)

    static = eqx.filter(abstract_model(config, task), is_shape, inverse=True)
    return eqx.combine(jax.jit(initial, compiler_options=INIT_COMPILER_OPTIONS)(), static)


def with_backbone(model: Model, wrap: Any) -> Model:
    """The model with `wrap` around its backbone."""
    return eqx.tree_at(lambda m: m.backbone, model, wrap(model.backbone))


def relative_error(model: Model, logits: Any, row: Any) -> float:
    """Relative error of the logits of a row of a float32 model, against the reference."""
    forward = adaptive.forward if row.coords.shape[-1] == 3 else reference.forward
    features = forward(to_reference(model.backbone), row)
    want, real = classify.predict(to_reference(model.task), features), row.grids[:, 0] > 0
    return float(np.abs(np.asarray(logits) - want)[real].max() / np.abs(want[real]).max())


class Training(NamedTuple):
    """A training step, compiled for batches of one shape."""

    step: Any
    """(state, batch on the device) → (state, metrics)"""
    state: State
    """Before the first step."""
    device_batch: Any
    compile_seconds: float


def training(model: Model, optim: OptimConfig, steps: int, batch: Batch) -> Training:
    """The training program of `train.py` on one device, from the parameters of a model."""
    one = Mesh(np.array(jax.devices()[:1]), ("data",), axis_types=(AxisType.Auto,))
    program = make_program(lambda key: model, PreparedTask(model.task.config), optim, steps=steps, seed=0, mesh=one)
    state = program.state_from(jax.device_get(eqx.filter(model, eqx.is_inexact_array)))
    on_device, start = program.device_batch(batch), perf_counter()
    step = program.step.lower(state, on_device).compile()
    return Training(step, state, program.device_batch, perf_counter() - start)


def measure(preset: str, config: Config, source: Source, task: DataTask, variant: str, repeats: int) -> None:
    stream, wrap = training_stream(config, source, task), PerRow if variant == "vmap" else lambda backbone: backbone
    rows = [stream[i] for i in range(config.rows)]
    lengths = [n for row, _ in rows for n in np.bincount(row.segment_ids)[1:].tolist()]
    batch = stacked(rows)
    exact = build(replace(config.model, dtype="float32"), config.task)
    with jax.default_matmul_precision("highest"):
        logits = forward(with_backbone(exact, wrap), to_device(batch.row))[0]
    error = relative_error(exact, logits, rows[0].row)
    assert error <= FLOAT32, f"relative error {error:.3g}, limit {FLOAT32}"

    model = build(config.model, config.task)
    compiled, state, device_batch, compile_seconds = training(
        with_backbone(model, wrap), config.optim, config.total_steps, batch
    )
    on_device = device_batch(batch)

    def once():
        nonlocal state
        state, metrics = jax.block_until_ready(compiled(state, on_device))
        return metrics

    metrics = once()  # warms up
    assert (int(metrics.images), int(metrics.tokens)) == (len(lengths), sum(lengths)) and np.isfinite(metrics.loss_sum)
    seconds = median_seconds(once, repeats)
    classes = config.task.classes or 0
    useful = 3 * sum(image_cost(config.model, classes, n) for n in lengths)  # the backward pass costs twice the forward
    row_tokens, row_images = config.data.packing.shape
    report(
        **{"name": "train_step", "preset": preset, "variant": variant, "unroll": config.model.unroll},
        **{"allocator": "on" if ALLOCATOR.items() <= os.environ.items() else "off"},
        **{"dtype": compute_dtype(config.model.dtype), "device": jax.devices()[0].device_kind},
        **{**config.model.sizes, "classes": classes, "images": len(lengths), "rows": len(rows)},
        **{"row_tokens": row_tokens, "row_images": row_images},
        images_per_second=len(lengths) / seconds.seconds,
        tokens_per_second=sum(lengths) / seconds.seconds,
        useful_gflops_per_second=useful / seconds.seconds / 1e9,
        padding=1 - sum(lengths) / (len(rows) * row_tokens),
        **{"compile_seconds": compile_seconds, "relative_error": error, **seconds._asdict()},
    )


if __name__ == "__main__":
    main()
