"""Decoded images in ArrayRecord files, written by `data/cache.py`; runs that read them skip decoding.

    ROOT/<split>/about.json                      classes, records per file, images set aside with the reasons
    ROOT/<split>/names.npy sizes.npy labels.npy  one entry per record
    ROOT/<split>/00000.array_record …            h · w · C numbers per record, in that order

Tables are memory-mapped, so processes share one copy.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import grain
import numpy as np
from jaxtyping import Int, Num

from ..checksums import checked_line, checksum, read_lines
from ..errors import BadImage, DataError, DataMissing
from ..manifest import Manifest
from .decode import resize
from .source import Source, existing

ABOUT = "about.json"  # written last: a folder without it is unfinished
TABLES = ("names", "sizes", "labels")
FILE_RECORDS = 10_000  # per file: random reads slow down with the number of records
OPTIONS = "group_size:1,uncompressed"  # one read per record


@dataclass(frozen=True)
class Cached:
    """Decoded, resized images in ROOT/train and ROOT/val, as written by `python -m data.cache`. Their sizes count as
    native sizes."""

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        folder = existing(root) / split
        if split == "val" and not folder.is_dir():
            folder = existing(root) / "test"
        return CachedImages(existing(root) / "val" if split == "all" else folder)


class CachedImages:
    """Images of one split; see `Cached`."""

    def __init__(self, folder: Path):
        self.folder = folder
        about = _about(folder)
        try:
            names, sizes, labels = (_table(folder, name, about["checksums"][name]) for name in TABLES)
            self.counts = [int(count) for count in about["counts"]]
            aside = tuple((str(name), str(why)) for name, why in about["set_aside"])
            kind = {"channels": int(about["channels"]), "dtype": str(about["dtype"])}
            self.manifest = Manifest(names, sizes, labels, tuple(about["classes"]), str(folder), aside, **kind)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{folder} is damaged: {error}; remove it and run `python -m data.cache` again") from error
        if sum(self.counts) != len(self.manifest):
            raise DataError(f"{folder}: {sum(self.counts)} records, {len(self.manifest)} names; write it again")

    def __reduce__(self):
        return CachedImages, (self.folder,)

    @cached_property
    def records(self) -> grain.sources.ArrayRecordDataSource:
        """The record files, opened on first use."""
        files = [f"{_file(self.folder, k)}[0:{count}]" for k, count in enumerate(self.counts) if count]
        return grain.sources.ArrayRecordDataSource(files)

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """The image at its stored size; `shrink` is ignored."""
        height, width = self.manifest.sizes[index]
        try:
            record = self.records[int(index)]
        except Exception as error:  # a damaged file raises exceptions of any kind
            raise BadImage(f"cannot be read from the cache: {error}; write it again") from error
        dtype, channels = np.dtype(self.manifest.dtype), self.manifest.channels
        if len(record) != channels * height * width * dtype.itemsize:
            raise BadImage(f"{len(record)} bytes in the cache are no {height} x {width} pixels; write it again")
        return np.frombuffer(record, dtype).reshape(height, width, channels)


def _table(folder: Path, name: str, expected: int) -> np.ndarray:
    """A table, mapped.   Raises DataError where it is not what was written."""
    file = folder / f"{name}.npy"
    if checksum(file.read_bytes()) != expected:
        raise DataError(f"{file} differs from what was written: remove {folder} and run `python -m data.cache` again")
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _about(folder: Path) -> dict:
    try:
        lines, bad = read_lines(folder / ABOUT)
        if not (folder / ABOUT).exists():
            raise FileNotFoundError
        if bad or len(lines) != 1:
            raise ValueError("it differs from what was written")
        return lines[0]
    except FileNotFoundError:
        raise DataMissing(f"{folder} holds no finished cache: run `python -m data.cache` into it") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{folder / ABOUT} is damaged: {error}; write the cache again") from None


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.array_record"


def scaled(sizes: Int[np.ndarray, "N 2"], side: int, longest: bool) -> Int[np.ndarray, "N 2"]:
    """Sizes scaled to at most `side` pixels on the longest (or shortest) side, aspect ratio kept; never enlarged."""
    reference = sizes.max(-1) if longest else sizes.min(-1)
    return np.maximum(1, np.rint(sizes * np.minimum(1, side / reference)[:, None])).astype(np.int32)


def shard_ranges(count: int, most: int = FILE_RECORDS) -> list[range]:
    """Ranges of image indices, one per file."""
    return [range(start, min(start + most, count)) for start in range(0, count, most)]


def write_file(
    source: Source, sizes: Int[np.ndarray, "N 2"], folder: Path, number: int, images: Iterable[int]
) -> dict[int, str]:
    """Write one file of images; the images that cannot be decoded, with the reasons."""
    from array_record.python.array_record_module import ArrayRecordWriter

    unreadable = {}
    writer = ArrayRecordWriter(str(_file(folder, number)), OPTIONS)
    for i in images:
        try:
            writer.write(resize(source.image(i), (int(sizes[i, 0]), int(sizes[i, 1]))).tobytes())
        except BadImage as error:
            unreadable[i] = str(error)
    writer.close()
    return unreadable


def finish(
    source: Source, sizes: Int[np.ndarray, "N 2"], folder: Path, files: list[range], unreadable: dict[int, str]
) -> None:
    """Write the tables of a finished cache.   Raises DataMissing where no image was written."""
    whole, good = source.manifest, np.ones(len(sizes), bool)
    good[list(unreadable)] = False
    aside = [*whole.set_aside, *((whole.name(i), why) for i, why in sorted(unreadable.items()))]
    kind = {"channels": whole.channels, "dtype": whole.dtype}
    done = Manifest(
        whole.names[good], sizes[good], whole.labels[good], whole.classes, whole.where, tuple(aside), **kind
    )
    for table in TABLES:
        np.save(folder / f"{table}.npy", getattr(done, table))
    counts = [int(good[file.start : file.stop].sum()) for file in files]
    checksums = {table: checksum((folder / f"{table}.npy").read_bytes()) for table in TABLES}
    about = {"from": whole.where, "classes": done.classes, "counts": counts, "set_aside": aside, "checksums": checksums}
    beside = folder / f"{ABOUT}.{os.getpid()}"
    beside.write_text(checked_line(about | kind))
    beside.rename(folder / ABOUT)
