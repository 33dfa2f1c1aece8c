"""Clips of any length and size → packed rows, as in training."""

from collections.abc import Sequence
from math import prod

import numpy as np
from jaxtyping import Float

from .errors import ConfigError, check
from .images import GROUP, TOKEN_STEP, empty_rows, pack_lengths
from .pixels import ImageError, resize
from .preprocessing import Frames
from .rows import Row, to_device
from .tasks.model import Model
from .tubelets import token_counts, tubelets

Tokens = tuple[Float[np.ndarray, "T P"], Float[np.ndarray, "T 4"], Float[np.ndarray, " 4"]]


def pack_clips(clips: Sequence[np.ndarray], model: Model, rule: Frames | None = None) -> Row:
    """Pack clips (uint8 arrays: frame, height, width, channel) into rows on the device.

    Frames, sizes and rows follow `model.info.preprocessing`, as in training, or another `rule`; `navit.unpack` gives
    values per clip. A row is as long as in training, or long enough for the longest clip. Raises ImageError, naming the
    clip, where an array is no clip, and ConfigError for a model of images.

        row = navit.pack_clips([np.zeros((16, 40, 60, 3), np.uint8)], model)
    """
    rule = rule or rule_of(model)
    row_tokens, row_images = model.info.preprocessing.row_tokens, model.info.preprocessing.row_images  # pyright: ignore[reportOptionalMemberAccess]
    tokens = [tokens_of(clip, model, rule, f"clip {i}") for i, clip in enumerate(clips)]
    lengths = [len(patches) for patches, _, _ in tokens]
    if (longest := max(lengths, default=0)) > row_tokens:
        row_tokens = -(-longest // TOKEN_STEP) * TOKEN_STEP
    packed, step = pack_lengths(lengths, row_tokens, row_images), max(1, GROUP // row_tokens)
    count = -(-max(1, len(packed)) // step) * step
    empty = empty_rows(count, row_tokens, row_images, prod(model.config.patch) * model.config.channels, 4, np.float16)
    batch = empty._replace(coords=empty.coords.astype(np.float32), grids=empty.grids.astype(np.float32))
    for r, members in enumerate(packed):
        end = 0
        for slot, index in enumerate(members):
            patches, coords, grid = tokens[index]
            start, end = end, end + len(patches)
            batch.patches[r, start:end], batch.coords[r, start:end] = patches, coords
            batch.segment_ids[r, start:end], batch.grids[r, slot], batch.image_ids[r, slot] = slot + 1, grid, index
    return to_device(batch)


def rule_of(model: Model) -> Frames:
    """The rule for frames of a model of clips.   Raises ConfigError where the model reads images."""
    check(model.config.tubelets is not None, "the model reads images: navit.pack packs them")
    rule = model.info.preprocessing.size if model.info else None
    if not isinstance(rule, Frames):
        raise ConfigError("info.preprocessing.size has no number of frames: Frames(rule, frames)")
    return rule


def tokens_of(clip: np.ndarray, model: Model, rule: Frames, name: str) -> Tokens:
    """Patches, coords and grid of one clip.   Raises ImageError, naming the clip."""
    config, array = model.config, np.asarray(clip)
    shape = " x ".join(map(str, array.shape))
    if array.ndim != 4 or array.shape[3] != config.channels or array.dtype != np.uint8 or not array.size:
        raise ImageError(
            f"{name} is an array of {shape} and {array.dtype}, the model reads frames x height x width x "
            f"{config.channels} of uint8: convert it"
        )
    count = rule.count(len(array), config.patch[0])
    numbers = [int(time * len(array)) for time in rule.times(len(array), count)]
    height, width = config.spatial_patch
    rows, columns = rule.grid((array.shape[1], array.shape[2]), (height, width))
    size, space = (rows * height, columns * width), np.array([count, rows * height, columns * width])
    expected = int(token_counts(space, config.tubelet_shapes, config.tubelet_strides))
    most = max(4096, 4 * model.info.preprocessing.row_tokens) if model.info else 4096
    if max(rows, columns) > config.posembed.longest_side or expected > most:
        raise ImageError(f"{name} has {rows} x {columns} patches, {expected} tokens: choose a smaller size, or crop it")
    pixels = np.stack([resize(array[k], size) for k in numbers]).astype(np.float64) / 255
    normalized = ((pixels - np.array(config.mean)) / np.array(config.std)).astype(np.float32)
    cut = tubelets(normalized, config.patch, config.tubelet_shapes, config.tubelet_strides, config.interpolation)
    return cut[0].astype(np.float16), *cut[1:]
