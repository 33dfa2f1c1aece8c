"""Frames of a clip: folders of images, animated GIF, WebP and PNG, NumPy files, and videos (`video_files.py`).

A frame is chosen by the time at which it is shown, so that a clip of a variable rate moves as it was recorded.
"""

import io
import os
import re
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from ..errors import BadImage
from .bands import array_header
from .decode import MAX_PIXELS, UPRIGHT, composited, decode, open_image, orientation_of, read_file, read_size
from .layout import SUFFIXES
from .video_files import SUFFIXES as VIDEOS
from .video_files import read_video, video_header

ANIMATED = {".gif", ".webp", ".png", ".apng"}
ARRAYS = {".npy", ".npz"}
STILLS = SUFFIXES - {".gif", ".webp"}  # of the frames in a folder; those two are clips of their own
CLIPS = VIDEOS | ANIMATED | ARRAYS
MOST_PIXELS = 3 * MAX_PIXELS  # of all frames of an animation, which are in memory at once: at most 768 MB
MOST_BYTES = 512_000_000  # of the frames of a NumPy file, which is in memory beside them

FRAMES = "frames"  # the array of a file with several
GIF_END = b";"  # Pillow reads what is there without it
LUMA = np.array([0.299, 0.587, 0.114])  # of ITU-R BT.601

Size = tuple[int, int, int]
"""Frames, height and width."""


class Timed(NamedTuple):
    """All frames of a clip and when each is first shown."""

    pixels: UInt8[np.ndarray, "f h w C"]
    starts: Float[np.ndarray, " f"]
    end: float

    def at(self, times: Float[np.ndarray, " F"]) -> UInt8[np.ndarray, "F h w C"]:
        """The frames that are shown at these shares of the clip."""
        return self.pixels[shown_at(times, self.starts, self.end)]


def shown_at(times: Float[np.ndarray, " F"], starts: Float[np.ndarray, " f"], end: float) -> Int[np.ndarray, " F"]:
    """The number of the last frame that starts at or before each share of the clip."""
    seconds = starts[0] + times * (end - starts[0])
    return np.maximum(np.searchsorted(starts, seconds + 1e-9 * (end - starts[0]), side="right") - 1, 0)


def is_clip_name(name: str) -> bool:
    """Whether a name has a suffix of clips."""
    return Path(name).suffix.lower() in CLIPS


def are_frames(names: Iterable[str]) -> bool:
    """Whether the files of a folder are the frames of a clip: images, and no clip of another kind beside them."""
    suffixes = {Path(name).suffix.lower() for name in names if not os.path.basename(name).startswith(".")}
    return bool(suffixes & STILLS) and not suffixes & (CLIPS - STILLS)


def clip_size(path: Path, channels: int) -> Size:
    """Frames, height and width of a clip.   Raises BadImage."""
    if path.is_dir():
        files = frames_in(path)
        return len(files), *read_size(read_file(files[0]), channels)
    if path.suffix.lower() in VIDEOS:
        return video_header(path)
    frames, height, width, _ = (array_of(path) if path.suffix.lower() in ARRAYS else animation(path, 1).pixels).shape
    return frames, height, width


def read_clip(path: Path, times: Float[np.ndarray, " F"], channels: int, frames: int) -> UInt8[np.ndarray, "F h w C"]:
    """The frames that are shown at these shares of a clip of `frames` frames.   Raises BadImage."""
    if path.is_dir():
        files = frames_in(path)
        check_length(len(files), frames)
        chosen = shown_at(times, np.arange(len(files), dtype=float), len(files))
        read = {k: decode(read_file(files[k]), channels=channels) for k in {*chosen.tolist()}}
        if len({image.shape for image in read.values()}) > 1:
            raise BadImage(f"its frames differ in size: {sorted({image.shape[:2] for image in read.values()})}")
        return np.stack([read[k] for k in chosen.tolist()])
    if path.suffix.lower() in VIDEOS:
        return in_channels(read_video(path, times, frames), channels)
    if path.suffix.lower() in ARRAYS:
        pixels = array_of(path)
        check_length(len(pixels), frames)
        return in_channels(pixels[shown_at(times, np.arange(len(pixels), dtype=float), len(pixels))], channels)
    clip = animation(path, channels)
    check_length(len(clip.pixels), frames)
    return clip.at(times)


def check_length(found: int, expected: int) -> None:
    """Raises BadImage where a clip has another number of frames than when it was measured."""
    if found != expected:
        raise BadImage(f"{found} frames, but {expected} when it was measured: start again")


def frames_in(folder: Path) -> list[Path]:
    """The images of a folder in the order of the numbers in their names.   Raises BadImage where there is none, or it
    cannot be listed."""
    try:
        every = [*folder.iterdir()]
    except OSError as error:
        raise BadImage(f"a folder that cannot be listed, {error.strerror}") from None
    inside = (path for path in every if path.suffix.lower() in STILLS and not path.name.startswith("."))
    number = lambda path: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]
    files = sorted(inside, key=number)
    if not files:
        raise BadImage("a folder without an image")
    return files


def animation(path: Path, channels: int) -> Timed:
    """All frames of an animated image, upright, and their times; a still image has one.   Raises BadImage."""
    data = read_file(path)
    image = open_image(data)
    if image.format == "GIF" and not data.rstrip(b"\x00\r\n ").endswith(GIF_END):
        raise BadImage("cut short: the file does not end where a GIF ends")
    count = getattr(image, "n_frames", 1)
    if count * image.width * image.height > MOST_PIXELS:
        raise BadImage(f"{count} frames of {image.height} x {image.width} exceed {MOST_PIXELS} pixels: cut it")
    number, lengths = 0, []
    try:
        pixels = np.empty((count, image.height, image.width, channels), np.uint8)
        for number in range(count):
            image.seek(number)
            pixels[number] = np.asarray(composited(image.copy(), channels)).reshape(pixels.shape[1:])
            lengths.append(float(image.info.get("duration", 0) or 0))
        transpose = UPRIGHT.get(orientation_of(image.getexif))  # tags may follow the frames
    except Exception as error:  # parsers raise exceptions of any kind
        raise BadImage(f"frame {number} of {count} cannot be decoded: {error or type(error).__name__}") from error
    ends = np.cumsum(lengths if min(lengths) > 0 else np.ones(count))
    if transpose is not None:
        pixels = np.moveaxis(transpose(np.moveaxis(pixels, 0, -1)), -1, 0)
    return Timed(pixels, np.concatenate([[0.0], ends[:-1]]), float(ends[-1]))


def array_of(path: Path) -> UInt8[np.ndarray, "f h w C"]:
    """Frames of a NumPy file, f h w or f h w C, uint8; of an .npz, the only array or the one called frames.

    Raises BadImage.
    """
    data = read_file(path)
    shape, dtype = array_header(data, FRAMES)
    if len(shape) not in (3, 4) or dtype != np.uint8 or not 0 < prod(shape) <= MOST_BYTES:
        raise BadImage(
            f"an array of {shape} and {dtype}: frames are uint8, frame x height x width x channel, and take at most "
            f"{MOST_BYTES} bytes"
        )
    try:
        stored = np.load(io.BytesIO(data), allow_pickle=False)
        if not isinstance(stored, np.ndarray):
            stored = stored[FRAMES if FRAMES in stored else stored.files[0]]
    except Exception as error:  # a damaged file raises exceptions of any kind
        raise BadImage(f"not a NumPy file of frames: {error or type(error).__name__}") from error
    return stored[..., None] if stored.ndim == 3 else stored


def in_channels(pixels: UInt8[np.ndarray, "F h w A"], channels: int) -> UInt8[np.ndarray, "F h w C"]:
    """Frames with the channels of the model: gray repeated, or colors as gray.   Raises BadImage."""
    found = pixels.shape[-1]
    if found == channels:
        return pixels
    if found == 1 and channels == 3:
        return np.repeat(pixels, 3, -1)
    if found == 3 and channels == 1:
        return np.rint(pixels @ LUMA).astype(np.uint8)[..., None]
    raise BadImage(f"frames of {found} channels, the model reads {channels}")
