"""How long a run on millions of images takes to its first planned row, and what planning costs afterwards.

    python benchmarks/startup.py [--images N] [--quick]

The manifest is synthetic and lies on disk as `python -m data.cache` leaves it: names, sizes, labels. A process is timed
that opens it, takes its digest, lets the data decide what preset imagenet-s16 leaves open, and plans the first block of
an epoch; then some blocks more, for the time per image. No pixel is read. On a busy machine read the CPU times.
"""

import resource
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from benchmarks.measure import arguments, report
from benchmarks.settings import SEED, photo_sizes
from data.sources.records import ABOUT, CachedImages
from harness import resolve as choose
from harness.presets import imagenet_s16
from harness.run.loading import blocks_of, training_rows

CLASSES = 21_841
NAMES = 100_000  # that differ


def main() -> None:
    parser = arguments(__doc__, "20,000 images")
    parser.add_argument("--images", type=int, default=14_000_000)
    args = parser.parse_args()
    count = 20_000 if args.quick else args.images
    with tempfile.TemporaryDirectory() as folder:
        for job, options in ((write, (count,)), (measure, (args.repeats,))):
            process = get_context("spawn").Process(target=job, args=(Path(folder), *options))
            process.start()  # each in a process of its own, so that memory is that of one
            process.join()
            if process.exitcode:
                sys.exit(process.exitcode)


def write(folder: Path, count: int) -> None:
    """A manifest of photographs with names as long as those of ImageNet."""
    rng = np.random.default_rng(SEED)
    names = np.lib.format.open_memmap(folder / "names.npy", "w+", "S30", (count,))
    some = np.array([b"n%08d/n%08d_%05d.JPEG" % (i // 640, i // 640, i % 640) for i in range(min(count, NAMES))])
    for start in range(0, count, NAMES):
        names[start : start + NAMES] = some[: count - start]
    np.save(folder / "sizes.npy", (photo_sizes(count) * rng.uniform(0.5, 2, (count, 1))).astype(np.int32))
    np.save(folder / "labels.npy", rng.integers(0, CLASSES, count).astype(np.int32))
    classes = ", ".join(f'"{i}"' for i in range(CLASSES))
    (folder / ABOUT).write_text(f'{{"classes": [{classes}], "counts": [{count}], "set_aside": []}}')


def measure(folder: Path, blocks: int) -> None:
    """Start, then `blocks` more blocks."""
    began, began_cpu = perf_counter(), process_time()
    source = CachedImages(folder)
    digest = source.manifest.digest
    opened = perf_counter()
    config, _ = choose.resolve(imagenet_s16(), source.manifest)
    rows = training_rows(config, source)
    chosen = perf_counter()
    first = rows.epochs.locate(0)[1]
    started = perf_counter()
    cpu = process_time() - began_cpu
    used, images = process_time(), 0
    for block in range(1, 1 + min(blocks, blocks_of(source) - 1)):
        images += int((rows.epochs.plan(block).image_ids >= 0).sum())
    planned, used = perf_counter() - started, process_time() - used
    report(
        name="startup",
        images=len(source.manifest),
        digest=digest,
        seconds=started - began,
        cpu_seconds=cpu,
        seconds_opening=opened - began,
        seconds_choosing=chosen - opened,
        seconds_first_block=started - chosen,
        block_images=int((first.image_ids >= 0).sum()),
        padding=float(first.padding(config.data.packing.row_tokens)),
        microseconds_per_image=1e6 * planned / images if images else None,
        cpu_microseconds_per_image=1e6 * used / images if images else None,
        peak_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )


if __name__ == "__main__":
    main()
