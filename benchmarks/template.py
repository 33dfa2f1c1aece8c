"""Training step of rows cut into windows (`data.packing.rule=Template`) against exact fit and the dense mask.

    python -m benchmarks.template [--presets digits ti16] [--count 4 8] [--quick]

Images are noise with the sizes, resolutions and drop rates of the preset; `digits` drops half of its tokens here. Three
arms: exact fit in the rows of the preset with the dense mask (`dense`), rows of a template with the dense mask
(`template_dense`), and with one product per window (`windows`). The last two have the same batch: their losses are
compared before anything is timed. Steps of the arms alternate; ratios are seconds per token, of neighbours, over those
of `windows`.
"""

import statistics
from dataclasses import replace

import numpy as np

from benchmarks.measure import arguments, clocked, report
from benchmarks.settings import preset_on_noise, stacked, training_stream
from benchmarks.train_step import FLOAT32, build, training
from data.manifest import Manifest
from data.sampling.dropping import Beta
from data.sampling.packing import Packing, Template
from data.tasks import DataTask
from harness.config import Config
from harness.process import tune_allocator
from harness.resolve import resolve
from navit_eqx.config import Dense, Windows

ROWS = {"digits": 16, "ti16": 4}


def main() -> None:
    parser = arguments(__doc__, "digits with two rows, one block, two repeats", repeats=15)
    parser.add_argument("--presets", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--count", nargs="+", type=int, default=[4, 8], help="windows of a row")
    args = parser.parse_args()
    tune_allocator()
    for preset in ["digits"] if args.quick else args.presets:
        for count in args.count[:1] if args.quick else args.count:
            measure(preset, count, args.quick, 2 if args.quick else args.repeats)


def measure(preset: str, count: int, quick: bool, repeats: int) -> None:
    arms = arms_of(preset, count, quick)
    losses = {name: arm.once() for name, arm in arms.items()}  # compiles; the first loss
    error = abs(losses["windows"] / losses["template_dense"] - 1)
    assert error <= FLOAT32, f"relative error {error:.3g}, limit {FLOAT32}"
    times = {name: [] for name in arms}
    for number in range(repeats):
        for name in sorted(arms, reverse=number % 2 == 1):  # alternate the order
            times[name].append(clocked(arms[name].once) / arms[name].tokens)
    ratios = {name: [t / w for t, w in zip(times[name], times["windows"])] for name in arms if name != "windows"}
    report(
        **{"name": "template", "preset": preset, "windows": arms["windows"].windows, "repeats": repeats},
        **{"relative_error": error},
        **{f"{name}_{key}": value for name, arm in arms.items() for key, value in arm.about.items()},
        **{f"{name}_us_per_token": 1e6 * statistics.median(values) for name, values in times.items()},
        **{f"{name}_ratio": statistics.median(values) for name, values in ratios.items()},
        **{f"{name}_ratio_min": min(values) for name, values in ratios.items()},
        **{f"{name}_ratio_max": max(values) for name, values in ratios.items()},
    )


def arms_of(preset: str, count: int, quick: bool) -> dict[str, "Arm"]:
    """The arms, with as many tokens in a batch."""
    rows = 2 if quick else ROWS[preset]
    config, source, task = preset_on_noise(preset, 4 * rows)
    dropping = Beta(0.5, 0.9) if preset == "digits" else config.data.dropping
    config = replace(config, data=replace(config.data, dropping=dropping), rows=rows, steps=1)
    config = replace(config, model=replace(config.model, depth=1)) if quick else config
    template = replace(config, data=replace(config.data, packing=Packing(rule=Template(count=count))))
    template = resolved(template, source.manifest, task)
    tokens = rows * config.data.packing.shape[0]
    template = replace(template, rows=max(1, round(tokens / template.data.packing.shape[0])))
    rule = template.data.packing.rule
    assert isinstance(rule, Template) and rule.windows
    return {
        "dense": Arm(config, source, task, Dense()),
        "template_dense": Arm(template, source, task, Dense()),
        "windows": Arm(template, source, task, Windows(rule.windows)),
    }


def resolved(config: Config, manifest: Manifest, task: DataTask) -> Config:
    return resolve(config, manifest, task)[0]


class Arm:
    """A training step and its batch."""

    def __init__(self, config: Config, source, task: DataTask, attention: Dense | Windows):
        self.windows = attention.sizes if isinstance(attention, Windows) else ()
        stream = training_stream(config, source, task)
        self.batch = stacked([stream[i] for i in range(config.rows)])
        self.tokens = int((self.batch.row.segment_ids > 0).sum())
        model = build(replace(config.model, attention=attention), config.task)
        self.step, self.state, self.device_batch, seconds = training(model, config.optim, 1000, self.batch)
        self.about = {
            "rows": config.rows,
            "row_tokens": config.data.packing.shape[0],
            "images": int((self.batch.row.image_ids >= 0).sum()),
            "padding": 1 - self.tokens / self.batch.row.segment_ids.size,
            "compile_seconds": seconds,
        }

    def once(self) -> float:
        """The loss of a step."""
        self.state, metrics = self.step(self.state, self.device_batch(self.batch))
        return float(np.asarray(metrics.loss_sum) / np.asarray(metrics.count))


if __name__ == "__main__":
    main()
