"""Which frames of a clip are read: how many, and when."""

import numpy as np
from jaxtyping import Float, Int


def frame_counts(wanted: Int[np.ndarray, " N"], frames: Int[np.ndarray, " N"], step: int) -> Int[np.ndarray, " N"]:
    """min(wanted, frames), rounded down to whole kernels of `step` frames, or 1 frame where there are fewer.

    A clip that is shorter than asked is never left out.
    """
    count = np.minimum(wanted, frames)
    return np.where(count >= step, count // step * step, 1)


def frame_times(
    frames: int, count: int, stride: float | None = None, start: float = 0.5, offset: float = 0.5
) -> Float[np.ndarray, " F"]:
    """Times of `count` frames, equally far apart, as shares of the clip in [0, 1).

    They are `stride` frames apart, fewer where the clip is too short; None spreads them over the whole clip. `start` is
    the place of the part within the clip, `offset` the place of each time within its step: ½ and ½ read the middle of
    every step in the middle of the clip, random numbers below 1 are for training.
    """
    step = frames / count if stride is None else min(stride, frames / count)
    first = start * (frames - count * step)
    return (first + (np.arange(count) + offset) * step) / frames


def frames_at(times: Float[np.ndarray, " F"], frames: int) -> Int[np.ndarray, " F"]:
    """Numbers of the frames that are shown at these times, where all are shown equally long."""
    return np.minimum((times * frames).astype(int), frames - 1)
