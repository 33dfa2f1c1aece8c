"""Cost of mixed patch sizes in a row, for the training step and for reading, relative to one patch size.

    python benchmarks/mixed_rows.py [--presets digits ti16] [--quick]

Both have rows of the same length, full to the last per cent, of one batch of images. Mixed patches reach the device as
they are stored in such a row, mapped to the model's own size as float16; those of the fixed size as bytes. Steps of the
two alternate, each with its batch brought to the device anew, and the ratio is that of neighbours: mixed over fixed.
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import jax

from benchmarks.measure import arguments, clocked, report
from benchmarks.settings import preset_on_noise, stacked, training_stream
from benchmarks.train_step import FLOAT32, build, relative_error, training
from data.sampling.packing import Packing
from data.sampling.patch_size import PerImage
from harness.config import Config
from harness.process import tune_allocator
from navit_eqx.config import Flexi, Sinusoidal
from navit_eqx.inference import forward
from navit_eqx.rows import to_device

SIZES = {"digits": (4, 6, 8, 10, 12, 14), "ti16": (12, 16, 20, 24, 32)}
ROWS = {"digits": 4, "ti16": 4}
PACKING = {"digits": Packing(row_tokens=416, row_images=48), "ti16": Packing(row_tokens=512, row_images=32)}


def main() -> None:
    parser = arguments(__doc__, "digits with one row, one block, two repeats", repeats=15)
    parser.add_argument("--presets", nargs="+", choices=SIZES, default=list(SIZES))
    args = parser.parse_args()
    tune_allocator()
    for preset in ["digits"] if args.quick else args.presets:
        measure(preset, args.quick, 2 if args.quick else args.repeats)


def measure(preset: str, quick: bool, repeats: int) -> None:
    kinds = {"fixed": False, "mixed": True}
    arms = {name: Arm(preset, quick, partial(flexible, mixed)) for name, mixed in kinds.items()}
    for arm in arms.values():
        arm.once()  # warms up
    times = {name: [] for name in arms}
    for number in range(repeats):
        for name in sorted(arms, reverse=number % 2 == 1):  # alternate the order
            times[name].append(arms[name].once())
    ratios = [mixed / fixed for mixed, fixed in zip(times["mixed"], times["fixed"])]
    reading = {name: arm.seconds_a_row(repeats) for name, arm in arms.items()}
    report(
        **{"name": "mixed_rows", "preset": preset, "sizes": SIZES[preset], "repeats": repeats},
        **{f"{name}_{key}": value for name, arm in arms.items() for key, value in arm.about.items()},
        **{f"{name}_step_seconds": statistics.median(values) for name, values in times.items()},
        **{f"{name}_read_seconds_per_row": seconds for name, seconds in reading.items()},
        step_ratio=statistics.median(ratios),
        step_ratio_min=min(ratios),
        step_ratio_max=max(ratios),
    )


class Arm:
    """A training step and its batch of the configuration that `change` makes of a preset; the first row is checked
    against the reference."""

    def __init__(self, preset: str, quick: bool, change: Callable[[Config, str], Config]):
        rows = 1 if quick else ROWS[preset]
        config, source, task = preset_on_noise(preset, 8 * rows)  # enough images to fill all rows
        config = replace(change(config, preset), rows=rows)
        config = replace(config, model=replace(config.model, depth=1)) if quick else config
        self.stream = training_stream(config, source, task)
        first = [self.stream[i] for i in range(rows)]
        self.batch = stacked(first)
        exact = build(replace(config.model, dtype="float32"), config.task)
        with jax.default_matmul_precision("highest"):
            logits = forward(exact, to_device(self.batch.row))[0]
        error = relative_error(exact, logits, first[0].row)
        assert error <= FLOAT32, f"relative error {error:.3g}, limit {FLOAT32}"
        model = build(config.model, config.task)
        self.step, self.state, self.device_batch, compile_seconds = training(model, config.optim, 1000, self.batch)
        places = rows * config.data.packing.shape[0]
        self.about: dict[str, Any] = {
            "rows": rows,
            "images": int(sum((row.grids[:, 0] > 0).sum() for row, _ in first)),
            "padding": 1 - sum(int((row.segment_ids > 0).sum()) for row, _ in first) / places,
            "patches": str(self.batch.row.patches.dtype),
            "compile_seconds": compile_seconds,
            "relative_error": error,
        }

    def once(self) -> float:
        """Seconds of a step, with the transfer of its batch to the device."""
        return clocked(self._once)

    def _once(self) -> None:
        self.state, metrics = self.step(self.state, self.device_batch(self.batch))
        jax.block_until_ready(metrics)

    def seconds_a_row(self, repeats: int, first: int = 0) -> float:
        """Seconds to read a row: resizing, patchifying, and mapping patches to the size of the model."""
        rows = range(first % len(self.stream), len(self.stream))
        return statistics.median(clocked(lambda i=i: self.stream[i]) for i in islice(rows, repeats))


def flexible(mixed: bool, config: Config, preset: str) -> Config:
    """The preset with rows long enough for its finest patches, with its own patch size or with all sizes."""
    packing = PACKING[preset]
    model = replace(config.model, posembed=Sinusoidal(64, "fractional"), flexi=Flexi(SIZES[preset]))
    data = replace(config.data, packing=packing)
    return replace(config, model=model, data=replace(data, patch_sizes=PerImage()) if mixed else data)


if __name__ == "__main__":
    main()
