"""Files that are expensive to read: the largest takes less than 1 GiB, beyond that they are refused by name."""

import io
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data.errors import BadImage
from data.sources.decode import MAX_BYTES, MAX_SCANS, decode, read_file
from navit_eqx.pixels import ImageError, read_header, read_image
from tests.support.largest import KINDS

GIB = 1024  # MiB
EXPENSIVE = ("WEBP RGBA, turned", "npz uint16", "npz longdouble")


def peaks(folder, shares: str, *kinds: str) -> list[dict]:
    """What `python -m tests.support.largest` measured."""
    command = [sys.executable, "-m", "tests.support.largest", str(folder), shares, *kinds]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in said.stdout.splitlines()]


def test_no_pixel_takes_so_many_bytes_that_the_largest_file_takes_a_gibibyte(tmp_path):
    """From two small files: memory grows with the pixels, and strips of a million take as much in both."""
    found = peaks(tmp_path, "0.06,0.1", *EXPENSIVE)
    for small, large in zip(found[::2], found[1::2], strict=True):
        for a, b in zip(small["peaks"], large["peaks"], strict=True):
            for_a_pixel = (b - a) / (large["pixels"] - small["pixels"])
            assert 0 < b + for_a_pixel * (large["limit"] - large["pixels"]) < GIB, (large["kind"], a, b)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_file_takes_less_than_a_gibibyte(tmp_path, kind):
    [found] = peaks(tmp_path, "1", kind)
    assert max(found["peaks"]) < GIB, found


def jpeg_of_scans() -> bytes:
    """A progressive JPEG whose last scan is there many times."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * MAX_SCANS + data[-2:]


def tiff_of_tiles() -> bytes:
    """A TIFF of 2 x 1 pixels in a tile of 2^16 x 2^16."""
    tags = {256: 2, 257: 1, 258: 8, 259: 1, 262: 1, 277: 1, 322: 1 << 16, 323: 1 << 16, 324: 8, 325: 2}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + b"\0\0"


def empty_array(dtype: str, *shape: int) -> bytes:
    """A NumPy file of zeros: a header of so many numbers, and none of them."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape})
    return file.getvalue()


def webp(width: int, height: int) -> bytes:
    """A lossless WebP of one color that declares another size."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "WEBP", lossless=True)
    data = bytearray(file.getvalue())
    at = data.index(b"VP8L") + 9  # past the length and a signature of one byte
    [bits] = struct.unpack_from("<I", data, at)
    struct.pack_into("<I", data, at, bits >> 28 << 28 | (height - 1) << 14 | width - 1)
    return bytes(data)


REFUSED = {
    "scans": jpeg_of_scans(),
    "tiles": tiff_of_tiles(),
    "pixels": webp(5_700, 5_700),
    "doubles": empty_array("float64", 4_000, 4_000, 3),
    "long doubles": empty_array("longdouble", 3_000, 3_000, 3),
    "many bytes": empty_array("uint8", 10_000, 10_000, 3),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_both_readers_refuse_what_is_expensive_by_its_header(tmp_path, kind):
    (file := tmp_path / "expensive").write_bytes(REFUSED[kind])
    with pytest.raises(BadImage, match="limit|more than 100 scans"):
        decode(read_file(file))
    for read in (read_header, read_image):
        with pytest.raises(ImageError, match="expensive .*(the limit is|more than 100 scans)"):
            read(file, 3)


def test_both_readers_refuse_files_without_an_end(tmp_path):
    """A pipe is never opened: it would be waited for. A device comes first: a reader that opens it ends at once."""
    os.symlink(os.devnull, tmp_path / "device")
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    irregular = "not a regular file"
    for name, why in (("device", irregular), ("pipe", irregular), ("large", f"limit (of|is) {MAX_BYTES}")):
        with pytest.raises(BadImage, match=why):
            read_file(tmp_path / name)
        for read in (read_header, read_image):
            with pytest.raises(ImageError, match=f"{name} .*{why}"):
                read(tmp_path / name, 3)
