"""JPEG → packed rows with and without the extra `jpeg`, against plain Pillow, in one run.

    python -m benchmarks.decoders --root DIR [--workers 0 1 2] [--quick]

    pillow        decode in full, crop, flip, resize to the planned size: what a loader of single images does; no rows
    rows          the rows of training, decoded by Pillow at a half, a quarter or an eighth where that suffices
    rows, jpeg    the same by simplejpeg, where it is installed

All read the images that the plan names, at its sizes. Rows of both decoders are compared bit by bit before anything is
timed. Rounds alternate; lines of JSON, then a table on the standard error. `planning` is the time to plan an epoch.
"""

import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from benchmarks.measure import arguments, report
from benchmarks.pipeline import STEPS
from data.pipeline import batches
from data.rows import PlannedRows
from data.sampling.augment import Augment
from data.sources import jpeg
from data.sources.folder import ImageFolder
from data.tasks import DataTask
from harness.config import Config
from harness.presets import folder
from harness.resolve import resolve
from harness.run.loading import open_source, open_task, training_rows

CROP, STRETCH = 0.25, 0.33
LIBRARY = jpeg.simplejpeg
BUFFERED = 12  # batches that each worker, and the thread that reads ahead, may hold


class Arm(NamedTuple):
    """A way to read images."""

    images: Callable[[int], int]
    """Read so many batches; the number of their images."""
    ahead: int = 0
    """Batches that may lie ready before a round: they are read untimed."""


def main() -> None:
    parser = arguments(__doc__, "two rounds of two batches of four rows", repeats=7)
    parser.add_argument("--root", required=True, help="ROOT/train/<class>/*, JPEG files")
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2], help="processes that read")
    args = parser.parse_args()
    config, source, task = opened(args.root, args.quick)
    start = time.perf_counter()
    planned = training_rows(config, source, task)
    images = int((planned.epochs.locate(0)[1].image_ids >= 0).sum())
    spent = time.perf_counter() - start
    report(name="planning", images=images, microseconds_per_image=1e6 * spent / images)
    check(planned, 2 * config.rows)
    streams: list[Any] = []
    try:
        arms = arms_of(planned, config.rows, args.workers, streams)
        measure(arms, 2 if args.quick else 40, 2 if args.quick else args.repeats)
    finally:
        for stream in streams:
            stream.close()


def opened(root: str, quick: bool) -> tuple[Config, ImageFolder, DataTask]:
    """The preset `folder` with crops and flips alone, and no decoded image kept."""
    preset = folder()
    data = replace(preset.data, root=root, memory=0, augment=Augment(flip=True, crop=CROP, stretch=STRETCH))
    config = replace(preset, data=data, steps=STEPS, minutes=None, rows=4 if quick else preset.rows)
    source: Any = open_source(config, "train")
    prepared, task = open_task(config, source.manifest)
    return resolve(replace(config, task=prepared.config), source.manifest, task)[0], source, task


@dataclass
class By:
    """Rows whose JPEG files are decoded by simplejpeg, or not, in whatever process they are made."""

    rows: PlannedRows
    library: bool

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        jpeg.simplejpeg = LIBRARY if self.library else None
        return self.rows[index]


def check(planned: PlannedRows, count: int) -> None:
    """Raises AssertionError where the rows of the decoders differ."""
    for r in range(count if LIBRARY else 0):
        pair = (By(planned, library)[r] for library in (True, False))
        for got, want in zip(*map(jax.tree.leaves, pair), strict=True):
            np.testing.assert_array_equal(got, want)


def arms_of(planned: PlannedRows, rows: int, workers: list[int], streams: list[Any]) -> dict[str, Arm]:
    """All ways by name; opened streams are added to `streams`."""
    numbers = iter(range(len(planned)))
    arms = {"pillow": Arm(lambda count: sum(plain(planned, next(numbers)) for _ in range(count * rows)))}
    for name, library in {"rows": False, **({"rows, jpeg": True} if LIBRARY else {})}.items():
        for number in workers:
            stream = batches(By(planned, library), rows, workers=number)
            streams.append(stream)
            read = lambda count, stream=stream: sum(filled(next(stream)) for _ in range(count))
            arms[f"{name}, {number}"] = Arm(read, BUFFERED * (1 + number))
    return arms


def filled(batch: Any) -> int:
    """Number of images in a batch."""
    return int((batch.grids[..., 0] > 0).sum())


def plain(planned: PlannedRows, index: int) -> int:
    """Read the images of a planned row one by one; their number."""
    _, plan, row = planned.epochs.locate(index)
    source: Any = planned.source
    used = np.flatnonzero(plan.image_ids[row] >= 0)
    for slot in used.tolist():
        name = os.fsdecode(source.manifest.names[plan.image_ids[row, slot]])
        height, width = (plan.grids[row, slot] * planned.pixels.patch).tolist()
        with Image.open(source.folder / name) as file:
            image = file.convert("RGB")
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=crop(image.size))
        np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image)
    return len(used)


def crop(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A random box with at least a quarter of the area."""
    share, stretch = random.uniform(CROP, 1), (1 + STRETCH) ** random.uniform(-1, 1)
    width, height = (min(n, n * (share * s) ** 0.5) for n, s in zip(size, (stretch, 1 / stretch)))
    left, top = random.uniform(0, size[0] - width), random.uniform(0, size[1] - height)
    return left, top, left + width, top + height


def measure(arms: dict[str, Arm], count: int, repeats: int) -> None:
    """A line for each arm and for each ratio, then a table."""
    rates: dict[str, list[float]] = {name: [] for name in arms}
    names = list(arms)
    for number in range(repeats):
        for i in range(len(names)):  # rotate the order
            name = names[(number + i) % len(names)]
            arms[name].images(arms[name].ahead)
            start = time.perf_counter()
            images = arms[name].images(count)
            rates[name].append(images / (time.perf_counter() - start))
    for name, values in rates.items():
        spread = {"slowest": min(values), "fastest": max(values), "repeats": repeats}
        report(name="decoders", arm=name, images_per_second=median(values), **spread)
    pairs = [(name, "pillow") for name in names if name.endswith(", 0")]
    pairs += [(f"{name}, 2", f"{name}, 1") for name in ("rows", "rows, jpeg") if f"{name}, 2" in rates]
    table = ["| | over | ratio |", "| --- | --- | --- |"]
    for first, second in (pair for pair in pairs if {*pair} <= rates.keys()):
        each = [a / b for a, b in zip(rates[first], rates[second])]
        found_ratio = {"value": median(each), "value_min": min(each), "value_max": max(each)}
        report(name="decoders_ratio", arm=first, over=second, **found_ratio)
        table.append(f"| {first} | {second} | {median(each):.2f} ({min(each):.2f} to {max(each):.2f}) |")
    print("\n".join(table), file=sys.stderr)


if __name__ == "__main__":
    main()
