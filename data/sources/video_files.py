"""Frames of videos by PyAV, the extra `video`: mp4, webm, mkv, avi, mov.

A file that was cut short may decode without any error, only with fewer frames: what the file says of its own length is
compared with its packets.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ..errors import BadImage, DataMissing
from .decode import MAX_PIXELS, MAX_SIDE

SUFFIXES = {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"}
MISSING = "videos are read by PyAV: pip install 'navit-eqx[video]'"
SLACK = 2.5  # frames by which the packets may end before the stated duration


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream; the container is closed afterwards.   Raises BadImage, or DataMissing."""
    try:
        import av
        import av.error
    except ImportError:
        raise DataMissing(MISSING) from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadImage("no video in the file")
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "SLICE", 1  # workers are processes of their own
            yield container, stream
    except (av.error.FFmpegError, OSError) as error:
        raise BadImage(f"cannot be decoded: {error.strerror or error}") from error


def starts_of(container: Any, stream: Any) -> tuple[Float[np.ndarray, " f"], float]:
    """When each frame is first shown, in seconds, from the packets alone, and the end of the last one.

    Without times in the file, frames are shown equally long. Raises BadImage where frames are missing at the end.
    """
    packets = [packet for packet in container.demux(stream) if packet.size]
    stamps = sorted(packet.pts for packet in packets if packet.pts is not None)
    count, base = len(packets), float(stream.time_base or 1)
    timed = len({*stamps}) == count
    starts = np.array(stamps if timed else range(count), float) * (base if timed else 1.0)
    step = (starts[-1] - starts[0]) / (count - 1) if count > 1 else base
    end = float(starts[-1] + step) if count else 0.0
    stated = stream.frames
    if stated > count:
        raise BadImage(f"cut short: {count} frames, its header says {stated}")
    duration = (container.duration or 0) / 1e6 if timed and len(container.streams) == 1 else 0.0  # sound may be longer
    if duration > end - starts[:1].sum() + SLACK * step:
        raise BadImage(f"cut short: its frames end after {end:.3g} s of {duration:.3g} s")
    if not count:
        raise BadImage("cut short: no frame")
    return starts, end


def video_header(path: Path) -> tuple[int, int, int]:
    """Frames, upright height and width.   Raises BadImage."""
    with opened(path) as (container, stream):
        starts, _ = starts_of(container, stream)
    with opened(path) as (container, stream):
        frame = next(container.decode(stream), None)
        if frame is None:
            raise BadImage("no frame can be decoded")
        height, width = (frame.width, frame.height) if frame.rotation % 180 else (frame.height, frame.width)
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise BadImage(f"frames of {height} x {width} pixels exceed the limit of {MAX_PIXELS} pixels: scale it down")
    return len(starts), height, width


def read_video(path: Path, times: Float[np.ndarray, " F"], frames: int) -> UInt8[np.ndarray, "F h w 3"]:
    """The upright frames that are shown at these shares of a video of `frames` frames; others are not kept.

    Raises BadImage, also where the file has another number of frames.
    """
    with opened(path) as (container, stream):
        starts, end = starts_of(container, stream)
    if len(starts) != frames:
        raise BadImage(f"{len(starts)} frames, but {frames} when it was measured: start again")
    seconds = starts[0] + times * (end - starts[0]) + 1e-9 * (end - starts[0])
    wanted, found, number = np.argsort(times, kind="stable").tolist(), {}, 0
    last = None
    with opened(path) as (container, stream):
        for frame in container.decode(stream):  # in the order of time, to the last frame
            start = starts[min(number, frames - 1)]
            while wanted and last is not None and seconds[wanted[0]] < start:
                found[wanted.pop(0)] = last
            if not wanted:
                break
            last, number = frame, number + 1
    if last is None:
        raise BadImage("no frame can be decoded")
    if wanted and number < frames:
        raise BadImage(f"cut short: {number} of {frames} frames can be decoded")
    found |= dict.fromkeys(wanted, last)
    pixels = {id(frame): upright(frame) for frame in found.values()}
    return np.stack([pixels[id(found[k])] for k in range(len(times))])


def upright(frame: Any) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a frame, turned as the file says."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90 % 4))
