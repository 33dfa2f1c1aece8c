"""Write decoded, resized images once; runs then skip decoding.

    python -m data.cache DIR OUT --longest-side 256
    python train.py folder --data.source cached --data.root OUT

DIR is the former `--data.root`; --channels is that of the model. Images are never enlarged; unreadable images are set
aside by name.
Exit codes: 0 done · 2 wrong command line · 65 data unusable · 66 no image in DIR · 74 input or output failed, or OUT
already has a cache.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from .check import positive
from .errors import DataError, DataMissing
from .sources.decode import limit_pillow
from .sources.folder import Folder
from .sources.parquet import Parquet
from .sources.records import ABOUT, finish, scaled, shard_ranges, write_file
from .sources.source import Source

SPLITS = ("train", "val")


def write_split(source: Source, folder: Path, side: int, longest: bool, workers: int = 0) -> None:
    """Write all images of a source and print progress.   Raises FileExistsError where a cache exists."""
    if (folder / ABOUT).exists():
        raise FileExistsError(f"{folder} holds a cache already: remove it, or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    sizes = scaled(source.manifest.sizes, side, longest)
    files = shard_ranges(len(sizes))
    unreadable: dict[int, str] = {}
    start = time.perf_counter()
    write = partial(write_file, source, sizes, folder)
    for number, found in enumerate(_each(write, range(len(files)), files, workers=workers)):
        unreadable |= found
        done = files[number].stop
        print(f"{folder}: {done} of {len(sizes)}, {done / (time.perf_counter() - start):.0f} a second", flush=True)
    finish(source, sizes, folder, files, unreadable)


def _each(f: Callable[..., Any], *arguments: Iterable[Any], workers: int = 0) -> Iterable[Any]:
    """`map` in `workers` processes; 0: in this process."""
    if not workers:
        yield from map(f, *arguments)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=limit_pillow) as pool:
        yield from pool.map(f, *arguments)


def command_line() -> argparse.ArgumentParser:
    """Options of the program."""
    parser = argparse.ArgumentParser("python -m data.cache", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("dir", help="folder of the images")
    parser.add_argument("out", type=Path, help="folder of the cache")
    side = parser.add_mutually_exclusive_group(required=True)
    side.add_argument("--longest-side", type=int, help="largest length of the longer side, in pixels")
    side.add_argument("--shortest-side", type=int, help="largest length of the shorter side, in pixels")
    parser.add_argument("--source", choices=("folder", "parquet"), default="folder", help="kind of the source")
    parser.add_argument("--label", default=Parquet().label, help="column of the labels in parquet files")
    parser.add_argument("--channels", type=positive, default=3, help="channels of an image (default: 3)")
    parser.add_argument("--workers", type=int, default=0, help="worker processes; 0: none")
    return parser


def main(arguments: list[str]) -> int:
    """Write the cache; the exit code."""
    args = command_line().parse_args(arguments)
    limit_pillow()
    kind = Folder() if args.source == "folder" else Parquet(label=args.label)
    side, longest = args.longest_side or args.shortest_side, args.longest_side is not None
    try:
        for split in SPLITS:
            source = kind.open(args.dir, split, args.channels)
            for name, why in source.manifest.set_aside:
                print(f"set aside {name}: {why}")
            write_split(source, args.out / split, side, longest, args.workers)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 66 if isinstance(error, DataMissing) else 65 if isinstance(error, DataError) else 74
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
