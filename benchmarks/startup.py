"""Time to the first planned row of a run on millions of images, and time per image of later blocks.

    python benchmarks/startup.py [--images N] [--quick]

The manifest is synthetic, on disk in the format of `python -m data.cache`: names, sizes, labels. A process opens it,
computes its digest, resolves the automatic options of preset imagenet-s16 and plans the first block of an epoch; then
it plans more blocks, for the time per image. No pixel is read. On a busy machine use the CPU times.
"""

import resource
import sys
import tempfile
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from benchmarks.measure import arguments, report
from benchmarks.settings import SEED, photo_sizes
from data.manifest import Manifest
from data.sources.records import CachedImages, finish
from harness.presets import imagenet_s16
from harness.resolve import resolve
from harness.run.loading import open_task, training_rows

CLASSES = 21_841
NAMES = 100_000  # distinct names


def main() -> None:
    parser = arguments(__doc__, "20,000 images")
    parser.add_argument("--images", type=int, default=14_000_000)
    args = parser.parse_args()
    count = 20_000 if args.quick else args.images
    with tempfile.TemporaryDirectory() as folder:
        for job, options in ((write, (count,)), (measure, (args.repeats,))):
            process = get_context("spawn").Process(target=job, args=(Path(folder), *options))
            process.start()  # one process each, to measure its memory alone
            process.join()
            if process.exitcode:
                sys.exit(process.exitcode)


def write(folder: Path, count: int) -> None:
    """Write a manifest of photographs with names as long as those of ImageNet."""
    rng = np.random.default_rng(SEED)
    names = np.zeros(count, "S30")
    some = np.array([b"n%08d/n%08d_%05d.JPEG" % (i // 640, i // 640, i % 640) for i in range(min(count, NAMES))])
    for start in range(0, count, NAMES):
        names[start : start + NAMES] = some[: count - start]
    sizes = (photo_sizes(count) * rng.uniform(0.5, 2, (count, 1))).astype(np.int32)
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    manifest = Manifest(names, sizes, labels, tuple(map(str, range(CLASSES))), "photographs")
    finish(Unread(manifest), sizes, folder, [range(count)], {})


class Unread:
    """A source whose images nobody reads."""

    def __init__(self, manifest: Manifest):
        self.manifest = manifest

    def image(self, index: int, shrink: int = 1) -> np.ndarray:
        raise NotImplementedError


def measure(folder: Path, blocks: int) -> None:
    """Time the start, then `blocks` more blocks."""
    start, start_cpu = perf_counter(), process_time()
    source = CachedImages(folder)
    digest = source.manifest.digest
    opened = perf_counter()
    prepared, task = open_task(imagenet_s16(), source.manifest)
    config, _ = resolve(replace(imagenet_s16(), task=prepared.config), source.manifest, task)
    rows = training_rows(config, source, task)
    chosen = perf_counter()
    first = rows.epochs.locate(0)[1]
    started = perf_counter()
    cpu = process_time() - start_cpu
    used, images = process_time(), 0
    for block in range(1, 1 + min(blocks, rows.epochs.blocks - 1)):
        images += int((rows.epochs.plan(block).image_ids >= 0).sum())
    planned, used = perf_counter() - started, process_time() - used
    report(
        name="startup",
        images=len(source.manifest),
        digest=digest,
        seconds=started - start,
        cpu_seconds=cpu,
        seconds_opening=opened - start,
        seconds_choosing=chosen - opened,
        seconds_first_block=started - chosen,
        block_images=int((first.image_ids >= 0).sum()),
        padding=float(first.padding(config.data.packing.shape[0])),
        microseconds_per_image=1e6 * planned / images if images else None,
        cpu_microseconds_per_image=1e6 * used / images if images else None,
        peak_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )


if __name__ == "__main__":
    main()
