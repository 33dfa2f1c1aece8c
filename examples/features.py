"""Write frozen features of image files, in constant memory for any number of files.

    python examples/features.py runs/digits photos/ features.parquet
    python examples/features.py runs/digits a.jpg b.png features.npz

A folder means all image files below it. The result has a name and a vector for each image; files that cannot be read
are reported and left out.
"""

import sys
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

import navit_eqx as navit

AT_ONCE = 64
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".npy", ".npz"}


def files(paths: list[str]) -> Iterator[str]:
    """Files of the paths, with folders replaced by the images below them."""
    for path in map(Path, paths):
        if path.is_dir():
            yield from (str(p) for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES)
        else:
            yield str(path)


def usable(model: navit.Model, paths: Iterator[str]) -> Iterator[str]:
    """Files that the model can read, by their headers; others are reported."""
    for path in paths:
        if why := navit.refusal(model, path):
            print(f"left out: {why}", file=sys.stderr)
        else:
            yield path


def chunks(model: navit.Model, paths: Iterator[str]) -> Iterator[tuple[list[str], np.ndarray]]:
    """Names and vectors, in chunks of AT_ONCE images."""
    while names := list(islice(paths, AT_ONCE)):
        bad: dict[int, str] = {}
        vectors = np.asarray(navit.features(model, names, report=bad.__setitem__))
        for why in bad.values():
            print(f"left out: {why}", file=sys.stderr)
        good = [i for i in range(len(names)) if i not in bad]
        yield [names[i] for i in good], vectors[good]


def write_parquet(found: Iterator[tuple[list[str], np.ndarray]], width: int, out: Path) -> int:
    """Write columns `file` and `features`; returns the number of images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("file", pa.string()), ("features", pa.list_(pa.float32(), width))])
    count = 0
    with pq.ParquetWriter(out, schema) as writer:
        for names, vectors in found:
            flat = pa.array(vectors.astype(np.float32).ravel())
            writer.write_table(
                pa.table([pa.array(names), pa.FixedSizeListArray.from_arrays(flat, width)], schema=schema)
            )
            count += len(names)
    return count


def write_npz(found: Iterator[tuple[list[str], np.ndarray]], width: int, out: Path) -> int:
    """Write arrays `files` and `features`; returns the number of images. Vectors are buffered on disk."""
    names: list[str] = []
    with tempfile.TemporaryFile() as raw:
        for chunk, vectors in found:
            names += chunk
            raw.write(vectors.astype("<f4").tobytes())
        raw.seek(0)
        with zipfile.ZipFile(out, "w") as archive:
            with archive.open("features.npy", "w", force_zip64=True) as member:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(names), width)}
                np.lib.format.write_array_header_1_0(member, header)
                while block := raw.read(1 << 20):
                    member.write(block)
            with archive.open("files.npy", "w") as member:
                np.lib.format.write_array(member, np.array(names), allow_pickle=False)
    return len(names)


def main(folder: str, paths: list[str], out: str) -> int:
    """Write the features of all images; returns their number."""
    model = navit.load(folder)
    found = chunks(model, usable(model, files(paths)))
    write = write_npz if out.endswith(".npz") else write_parquet
    count = write(found, model.config.out_width, Path(out))
    print(f"{count} images, {model.config.out_width} numbers each: {out}")
    return count


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:-1], sys.argv[-1])
