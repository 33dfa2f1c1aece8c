"""Training step of S/16, B/16 and L/16 on one accelerator: tokens per second, share of its peak, memory.

    python benchmarks/accelerator.py [--presets s16 b16 l16] [--attention auto dense pallas cudnn] [--quick]

Images are those of the case "mixed" of the contest in rows of 288 tokens; the training step is that of train.py.
Useful FLOPs count real tokens and attention within images, three times the forward pass:
MFU = useful / (seconds · peak). Peaks (--peaks) are in TFLOP/s; the defaults are the bfloat16 peak of an H200 by its
data sheet, and the reported peak of its matrix products. Steps are dispatched without waiting, as in training; the
clock stops when the last is done.
"""

from dataclasses import replace
from itertools import product
from typing import Any

import jax
import numpy as np

from benchmarks.contest.rows import steady
from benchmarks.contest.stream import CASES, CLASSES, PATCH
from benchmarks.measure import arguments, median_seconds, report
from benchmarks.settings import packed
from benchmarks.train_step import FLOAT32, build, relative_error, training
from harness.cost import image_cost
from harness.run.folder import machine as about_machine
from navit_eqx import to_device
from navit_eqx.config import Auto, Backend, CuDNN, Dense, ModelConfig, Pallas, Splash, variant
from navit_eqx.errors import ConfigError
from navit_eqx.inference import forward
from navit_eqx.layers import compute_dtype
from navit_eqx.tasks.config import Classify
from navit_eqx.training.attention_choice import choose
from navit_eqx.training.config import OptimConfig

PRESETS = {"s16": variant("S/16"), "b16": variant("B/16"), "l16": variant("L/16")}
TASK = Classify(classes=CLASSES)
ATTENTION = {"auto": Auto(), "dense": Dense(), "pallas": Pallas(), "cudnn": CuDNN(), "splash": Splash()}
STEP_TOKENS = {"s16": 131_072, "b16": 65_536, "l16": 32_768}  # token places; GEMMs need at least 32 thousand
BFLOAT16 = 3e-2  # largest relative error of logits against the reference
QUICK = {"width": 32, "depth": 1, "heads": 1, "mlp_width": 64}


def main() -> None:
    parser = arguments(__doc__, "one block of width 32, two rows", repeats=5)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--attention", nargs="+", choices=ATTENTION, default=["auto"])
    parser.add_argument("--step-tokens", type=int, help=f"places in a step; default {STEP_TOKENS}")
    parser.add_argument("--peaks", type=float, nargs="+", default=[989.0, 790.0], help="TFLOP/s")
    parser.add_argument("--steps", type=int, default=10, help="in each of the --repeats")
    parser.add_argument("--unroll", type=int, default=1, help="blocks in an iteration of the scan")
    args = parser.parse_args()
    for preset, attention in product(args.presets, args.attention):
        try:
            measure(preset, ATTENTION[attention], args)
        except (jax.errors.JaxRuntimeError, ConfigError) as error:  # too large, or not for this device: continue
            report(name="accelerator", preset=preset, asked=attention, failed=str(error).splitlines()[0])


def measure(preset: str, attention: Backend, args: Any) -> None:
    config = replace(PRESETS[preset], unroll=args.unroll, attention=attention)
    config = replace(config, **QUICK) if args.quick else config
    case = CASES["mixed"]
    count = 2 if args.quick else (args.step_tokens or STEP_TOKENS[preset]) // case.row_tokens
    images = steady("mixed", count)
    rows = packed(images.pixels, images.labels, images.rows, case.row_tokens, case.row_images, (PATCH, PATCH))
    lengths = images.lengths
    backend, found = choose(config, rows.row.segment_ids, case.row_images)
    config = replace(config, attention=backend)
    error = agreement(config, rows.row)

    step, state, device_batch, compile_seconds = training(build(config, TASK), OptimConfig(), 1000, rows)
    batch = device_batch(rows)
    steps = 2 if args.quick else args.steps

    def several():
        nonlocal state
        for _ in range(steps):
            state, metrics = step(state, batch)
        return jax.block_until_ready(metrics)

    metrics = several()  # warms up
    if not np.isfinite(metrics.loss_sum):
        raise FloatingPointError(f"the loss of {preset} is {metrics.loss_sum}")
    seconds = median_seconds(several, args.repeats)
    each = seconds.seconds / steps
    useful = 3 * sum(image_cost(config, CLASSES, n) for n in lengths)
    memory = jax.devices()[0].memory_stats() or {}
    report(
        **{"name": "accelerator", "preset": preset, **config.sizes, "classes": CLASSES, "unroll": config.unroll},
        dtype=compute_dtype(config.dtype),
        **{"device": jax.devices()[0].device_kind, "images": len(lengths), "rows": count, "relative_error": error},
        **{"row_tokens": case.row_tokens, "row_images": case.row_images, "state": "donated"},
        **{"attention": str(backend), "asked": type(attention).__name__.lower(), "found": found},
        **{k: v for k, v in about_machine().items() if k != "device"},
        padding=1 - sum(lengths) / (count * case.row_tokens),
        step_seconds=each,
        step_seconds_min=seconds.seconds_min / steps,
        step_seconds_max=seconds.seconds_max / steps,
        tokens_per_second=sum(lengths) / each,
        images_per_second=len(lengths) / each,
        useful_tflops_per_second=useful / each / 1e12,
        **{f"mfu_of_{peak:g}": useful / each / (1e12 * peak) for peak in args.peaks},
        peak_bytes=memory.get("peak_bytes_in_use"),
        compile_seconds=compile_seconds,
    )


def agreement(config: ModelConfig, rows: Any) -> float:
    """Relative error of the logits of the first row, in the timed arithmetic.   Raises AssertionError."""
    model, first = build(config, TASK), type(rows)(*(leaf[0] for leaf in rows))
    error = relative_error(model, forward(model, to_device(first)), first)
    limit = FLOAT32 if compute_dtype(config.dtype) == "float32" else BFLOAT16
    if error > limit:
        raise AssertionError(f"relative error {error:.3g} against the reference, limit {limit}")
    return error


if __name__ == "__main__":
    main()
