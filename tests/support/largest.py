"""Peak memory of decoding, by kind of file: python -m tests.support.largest FOLDER SHARES [KIND ...]

The largest files that are read, their pixels times each of SHARES, as 0.1,1. One line of JSON a file: pixels, and peak
memory in MiB of each of the two readers, or its refusal. Files are made and read in processes of their own, so that one
does not count what another took.
"""

import io
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.sources.bands import MAX_BYTES
from data.sources.decode import HEAVY, MAX_PIXELS, decode, limit_pillow, read_file, resize
from navit_eqx.pixels import read_image

ORIENTATION = 274
Maker = Callable[[int, int], bytes]  # width and height → a file


def saved(mode: str, kind: str, **options) -> Maker:
    """An image of one color, as Pillow writes it."""

    def make(width: int, height: int) -> bytes:
        file = io.BytesIO()
        Image.new(mode, (width, height)).save(file, kind, **options)
        return file.getvalue()

    return make


def turned(mode: str, kind: str, **options) -> Maker:
    """The same, lying on its side by its EXIF tag."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return saved(mode, kind, exif=exif, **options)


def animated(kind: str) -> Maker:
    """Two frames."""

    def make(width: int, height: int) -> bytes:
        file, (first, second) = io.BytesIO(), (Image.new("RGB", (width, height), color) for color in ("red", "blue"))
        first.save(file, kind, save_all=True, append_images=[second])
        return file.getvalue()

    return make


def array(dtype: str, save: Callable) -> Maker:
    """A NumPy file of three channels."""

    def make(width: int, height: int) -> bytes:
        file = io.BytesIO()
        save(file, np.zeros((height, width, 3), dtype))
        return file.getvalue()

    return make


def pages(mode: str) -> Maker:
    """A TIFF file with a page for each of twelve channels."""

    def make(width: int, height: int) -> bytes:
        file, page = io.BytesIO(), Image.new(mode, (width, height))
        page.save(file, "TIFF", save_all=True, append_images=[page] * 11, compression="tiff_deflate")
        return file.getvalue()

    return make


class Kind(NamedTuple):
    """How a file is made, and the most pixels that are read."""

    make: Maker
    pixels: int = MAX_PIXELS
    channels: int = 4


def many(dtype: str, channels: int) -> int:
    """The most pixels of so many channels."""
    kept = 1 if dtype == "uint8" else 4
    return MAX_BYTES // (channels * max(np.dtype(dtype).itemsize, kept))


half = MAX_PIXELS // 2
PICTURES: dict[str, Maker] = {
    "JPEG": saved("RGB", "JPEG"),
    "JPEG progressive": saved("RGB", "JPEG", progressive=True),
    "JPEG turned": turned("RGB", "JPEG"),
    "JPEG CMYK": saved("CMYK", "JPEG"),
    "PNG": saved("RGB", "PNG", compress_level=1),
    "PNG RGBA, turned": turned("RGBA", "PNG", compress_level=1),
    "PNG gray with alpha": saved("LA", "PNG", compress_level=1),
    "PNG 16 bits": saved("I;16", "PNG", compress_level=1),
    "GIF animated": animated("GIF"),
    "BMP": saved("RGB", "BMP"),
    "TIFF CMYK": saved("CMYK", "TIFF", compression="tiff_deflate"),
    "TIFF RGBA, turned": saved("RGBA", "TIFF", compression="tiff_deflate", tiffinfo={ORIENTATION: 6}),
    "TIFF 16 bits": saved("I;16", "TIFF", compression="tiff_deflate"),
    "PPM": saved("RGB", "PPM"),
    "TGA": saved("RGBA", "TGA", compression="tga_rle"),
    "AVIF": saved("RGB", "AVIF", speed=10),
    "AVIF RGBA": saved("RGBA", "AVIF", speed=10),
    "WEBP": saved("RGB", "WEBP", method=0),
    "WEBP RGBA, turned": turned("RGBA", "WEBP", method=0),
    "WEBP lossless": saved("RGBA", "WEBP", lossless=True, quality=0, method=0),
    "WEBP animated": animated("WEBP"),
    "JPEG2000": saved("RGB", "JPEG2000"),
    "JPEG2000 RGBA": saved("RGBA", "JPEG2000"),
}
KINDS = {name: Kind(make, half if name.split()[0] in HEAVY else MAX_PIXELS) for name, make in PICTURES.items()}
KINDS |= {"npy uint8": Kind(array("uint8", np.save), many("uint8", 3), 3)}
KINDS |= {
    f"npz {dtype}": Kind(array(dtype, np.savez_compressed), many(dtype, 3), 3)
    for dtype in ("uint8", "uint16", "float16", "float32", "float64", "longdouble")
}
KINDS |= {
    f"TIFF pages {dtype}": Kind(pages(mode), many(dtype, 12), 12)
    for dtype, mode in (("uint8", "L"), ("uint16", "I;16"), ("float32", "F"))
}


def by_data(file: Path, channels: int) -> np.ndarray:
    """As training reads an image."""
    return resize(decode(read_file(file), channels=channels), (16, 16))


def by_model(file: Path, channels: int) -> np.ndarray:
    """As `navit_eqx` does."""
    return resize(read_image(file, channels), (16, 16))


def write(kind: Kind, file: Path, width: int, height: int) -> None:
    file.write_bytes(kind.make(width, height))


def in_child(work: Callable[[], object]) -> float | str:
    """Peak memory in MiB of a process that did this alone; what was wrong where something was."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            work()
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode()[:4096])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status, used = os.wait4(child, 0)
    return said or (f"status {status}" if status else used.ru_maxrss / 1024)


def main(folder: Path, shares: list[float], kinds: list[str]) -> None:
    limit_pillow()
    for name, share in product(kinds or KINDS, shares):
        kind, file = KINDS[name], folder / "file"
        side = int((share * kind.pixels) ** 0.5) // 16 * 16
        if isinstance(said := in_child(partial(write, kind, file, side, side)), str):
            sys.exit(f"{name} was not made: {said}")
        peaks = [in_child(partial(read, file, kind.channels)) for read in (by_data, by_model)]
        print(json.dumps({"kind": name, "pixels": side**2, "limit": kind.pixels, "peaks": peaks}), flush=True)
        file.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [float(share) for share in sys.argv[2].split(",")], sys.argv[3:])
