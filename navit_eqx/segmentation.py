"""Masks: the class of every pixel, of images of any size, at their own pixels."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from . import images as packing
from . import inference
from .errors import ConfigError, check
from .front import info_of, packing_options
from .pixels import Source, read_header
from .preprocessing import CenterCrop
from .tasks.model import Model
from .tasks.segment import Segment


def segment(
    model: Model, images: Sequence[Source], *, report: Callable[[int, str], None] | None = None, **options: Any
) -> Iterator[UInt8[np.ndarray, "h w"] | None]:
    """The class of every pixel of each image, by its place in `model.info.classes`, in order.

    Images are packed 64 at a time. `options` are those of `pack`. An image that cannot be used is reported by its
    index, and None stands in its place. Raises ConfigError where the model gives pixels no class, ImageError where
    there is no `report`.

        masks = [*navit.segment(model, ["a.jpg", "b.jpg"])]
    """
    task, how = segmenter(model), packing_options(model, options)
    check(
        not isinstance(how["preprocessing"].size, CenterCrop),
        "preprocessing.size=CenterCrop leaves out pixels at the edges, which then have no class: choose another size",
    )
    found: dict[int, np.ndarray | None] = {}
    following = 0
    for batch, values in inference.outputs(model, packing.batches(images, **how, report=report)):
        coords = np.asarray(batch.coords)
        for r, slot in np.argwhere(batch.image_ids >= 0):
            image, grid = int(batch.image_ids[r, slot]), batch.grids[r, slot].astype(int).tolist()
            here = batch.segment_ids[r] == slot + 1
            if not here.any():
                found[image] = None
                continue
            size = read_header(images[image], info_of(model).preprocessing.channels).size
            logits = task.native_logits(values[r][here], coords[r][here], grid, size)
            found[image] = logits.argmax(-1).astype(np.uint8)
        while following in found:
            yield found.pop(following)
            following += 1


def segmenter(model: Model) -> Segment:
    """The task of a model that gives pixels classes.   Raises ConfigError where it is another."""
    if not isinstance(model.task, Segment):
        raise ConfigError(f"{type(model.task).__name__} gives no class to pixels: train with --task segment")
    return model.task
