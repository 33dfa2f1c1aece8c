"""Overhead of merging where nothing is merged, and the cost of scoring: reading a row, and a training step.

    python benchmarks/merged_rows.py [--presets digits ti16] [--quick]

Every arm has rows of the same length, full to the last per cent, of one batch of images. At rate 0 rows and program are
those without merging (`data.sampling.merge.law_of`), and there is nothing to time. The arms `nothing` have a rate of
1 %, at which no image of these presets has a quad to merge, but rows have the form of merged ones; `half` merges half
of the quads, so that every image is scored and cut, and a row holds nearly twice the images: compare `read_per_image`.
Steps of the arms alternate, each with its batch brought to the device anew, and the overhead is that of neighbours:
the reading and the step together, over those without merging. The bar is 3 % for `nothing`; [APT, arXiv:2510.18091]
reports 5 to 10 %.
"""

import statistics
from dataclasses import replace
from functools import partial

from benchmarks.measure import arguments, report
from benchmarks.mixed_rows import PACKING, Arm
from data.sampling.merge import Merge
from harness.config import Config
from harness.process import tune_allocator
from navit_eqx.config import Levels

ARMS = {
    "plain": None,
    "nothing_pi": Merge(0.01),
    "nothing_area": Merge(0.01, rule="area"),
    "half_pi": Merge(0.5),
    "half_area": Merge(0.5, rule="area"),
}


def main() -> None:
    parser = arguments(__doc__, "digits with one row, one block, two repeats", repeats=15)
    parser.add_argument("--presets", nargs="+", choices=PACKING, default=list(PACKING))
    args = parser.parse_args()
    tune_allocator()
    for preset in ["digits"] if args.quick else args.presets:
        measure(preset, args.quick, 2 if args.quick else args.repeats)


def merging(merge: Merge | None, config: Config, preset: str) -> Config:
    """The preset, merged or not."""
    model = replace(config.model, levels=Levels()) if merge else config.model
    return replace(config, model=model, data=replace(config.data, packing=PACKING[preset], merge=merge))


def measure(preset: str, quick: bool, repeats: int) -> None:
    arms = {name: Arm(preset, quick, partial(merging, merge)) for name, merge in ARMS.items()}
    for arm in arms.values():
        arm.once()  # warms up
    steps: dict[str, list[float]] = {name: [] for name in arms}
    reading: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(repeats):
        for name in sorted(arms, reverse=number % 2 == 1):  # alternate the order
            steps[name].append(arms[name].once())
            reading[name].append(arms[name].seconds_a_row(1, number))
    about = arms["plain"].about
    for name in list(ARMS)[1:]:
        rows = about["rows"]
        whole = {n: [s + rows * r for s, r in zip(steps[n], reading[n])] for n in ("plain", name)}
        report(
            **{"name": "merged_rows", "preset": preset, "arm": name, "repeats": repeats, "rows": rows},
            **{f"plain_{key}": about[key] for key in ("images", "padding", "patches", "relative_error")},
            **{key: arms[name].about[key] for key in ("images", "padding", "patches", "relative_error")},
            plain_step_seconds=statistics.median(steps["plain"]),
            plain_read_seconds_per_row=statistics.median(reading["plain"]),
            step_seconds=statistics.median(steps[name]),
            read_seconds_per_row=statistics.median(reading[name]),
            plain_read_per_image=statistics.median(reading["plain"]) * rows / about["images"],
            read_per_image=statistics.median(reading[name]) * rows / arms[name].about["images"],
            merged=merged_blocks(arms[name]),
            step_overhead=overhead(steps, name),
            read_overhead=overhead(reading, name),
            overhead=overhead(whole, name),
        )


def merged_blocks(arm: Arm) -> int:
    """Merged patches of the batch that is timed."""
    return int((arm.batch.row.coords[..., 0] > 0).sum())


def overhead(times: dict[str, list[float]], name: str) -> float:
    """The median of an arm over its neighbor without merging, minus 1."""
    return statistics.median([mine / plain - 1 for mine, plain in zip(times[name], times["plain"])])


if __name__ == "__main__":
    main()
