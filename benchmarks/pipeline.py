"""Speed from pixels to packed rows: one thread alone, then the batch pipeline with 0, 1, 2 workers.

    python benchmarks/pipeline.py [--root DIR] [--quick]

Digit strips, and with --root a folder of images, ROOT/train/<class>/* or ROOT/<class>/*: decoded as in training,
decoded at full size, and from a cache of sides up to 256 pixels, which the benchmark writes.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from benchmarks.measure import arguments, median_seconds, report
from data.cache import write_split
from data.pipeline import batches
from data.sampling.augment import Augment
from data.sources.decode import Whole
from data.sources.digits import Digits
from data.sources.folder import Folder
from data.sources.records import Cached
from data.tasks.task import Batches
from harness.config import Config
from harness.digit_presets import large_digits
from harness.presets import folder
from harness.resolve import resolve
from harness.run.loading import open_source, open_task, training_rows
from reference.rows import Batch

WORKERS = (0, 1, 2)
CACHED_SIDE = 256  # pixels
CHECKED = 4  # batches compared before timing
READ_AHEAD = 24  # more batches than a process buffers: reading this many empties the buffers
STEPS = 1_000_000  # more than any measurement reads


def main() -> None:
    parser = arguments(__doc__, "few digit strips, small batches")
    parser.add_argument("--root", default="", help="folder of images")
    args = parser.parse_args()

    strips = Digits(train_images=2_000) if args.quick else Digits()
    configs = {"digits": replace(large_digits(), data=replace(large_digits().data, source=strips))}
    with tempfile.TemporaryDirectory() as out:
        if args.root:
            configs |= of_folder(args.root, out)
        for name, config in configs.items():
            config = replace(config, rows=4) if args.quick else config
            measure_source(name, config, 12 if args.quick else 60, args.repeats)


def of_folder(root: str, out: str) -> dict[str, Config]:
    """Preset `folder` without color jitter, which costs more than decoding; its cache is written to `out`."""
    source = Folder().open(root, "train")
    start = time.process_time()
    write_split(source, Path(out) / "train", CACHED_SIDE, longest=True)
    seconds = time.process_time() - start
    size = sum(file.stat().st_size for file in Path(out).rglob("*"))
    report(
        name="write_cache",
        images=len(source.manifest),
        cpu_seconds=seconds,
        bytes_per_image=size / len(source.manifest),
    )
    data = replace(folder().data, root=root, augment=Augment(flip=True, crop=0.25, stretch=0.33))
    return {
        "folder": replace(folder(), data=data),
        "folder, whole": replace(folder(), data=replace(data, decoding=Whole())),
        "folder, cached": replace(folder(), data=replace(data, source=Cached(), root=out)),
    }


def measure_source(name: str, config: Config, per_repeat: int, repeats: int) -> None:
    """Measure a source, with `per_repeat` batches per repeat."""
    source = open_source(config, "train")
    prepared, task = open_task(config, source.manifest)
    config, _ = resolve(replace(config, steps=STEPS, task=prepared.config), source.manifest, task)
    planned = training_rows(config, source, task)
    rows, (row_tokens, row_images) = task.batches(planned), config.data.packing.shape
    about = {
        **{"source": name, "source_images": len(source.manifest)},
        "row_tokens": row_tokens,
        "row_images": row_images,
        "batch_rows": config.rows,
        "padding": float(planned.epochs.locate(0)[1].padding(row_tokens)),
    }
    load = lambda: sum(images(rows[i]) for i in range(per_repeat * config.rows))
    load()
    report(name="planned_rows", **about, **measure(load, repeats))

    for workers in WORKERS:
        measure_batches(rows, config.rows, workers, per_repeat, repeats, about)


def measure_batches(rows: Batches, size: int, workers: int, per_repeat: int, repeats: int, about: dict) -> None:
    start = time.perf_counter()
    stream = batches(rows, size, workers=workers)
    first = next(stream)
    first_seconds = time.perf_counter() - start  # workers start, and each plans the epoch
    for s in range(CHECKED):
        check_batch(next(stream) if s else first, rows, s, size)
    for _ in range(READ_AHEAD * max(1, workers)):
        next(stream)
    load = lambda: sum(images(next(stream)) for _ in range(per_repeat))
    report(name="batches", workers=workers, **about, first_batch_seconds=first_seconds, **measure(load, repeats))
    stream.close()


def check_batch(batch: Batch, rows: Batches, step: int, size: int) -> None:
    """Check that batch `step` equals rows step · size … of the plan, bit by bit."""
    for r in range(size):
        for got, want in zip(jax.tree.leaves(batch), jax.tree.leaves(rows[step * size + r]), strict=True):
            np.testing.assert_array_equal(got[r], want)


def measure(load: Callable[[], int], repeats: int) -> dict:
    """Images per second of `load`, which returns the number of images."""
    counts: list[int] = []
    before = cpu_seconds()
    seconds = median_seconds(lambda: counts.append(load()), repeats)
    after = cpu_seconds()
    mean = sum(counts) / repeats
    cpu = None if before is None or after is None else (after - before) / sum(counts)
    rate = {"images": mean, "images_per_second": mean / seconds.seconds, "cpu_seconds_per_image": cpu}
    return rate | seconds._asdict()


def images(batch: Batch) -> int:
    return int((batch.row.grids[..., 0] > 0).sum())


def cpu_seconds() -> float | None:
    """CPU time of this process and its running children; None where it is unknown."""
    children, ticks = multiprocessing.active_children(), 0
    if children and sys.platform != "linux":
        return None
    for child in children:
        after_name = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(after_name[11]) + int(after_name[12])  # utime, stime: proc(5)
    return time.process_time() + (ticks / os.sysconf("SC_CLK_TCK") if children else 0)


if __name__ == "__main__":
    main()
