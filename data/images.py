"""The short way for images in memory: pack them into a batch, and unpack one vector per image."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Num, UInt8

from reference.types import Row

from .laws import Resolution
from .plan import Packing, plan_evaluation
from .rows import Epochs, PlannedRows
from .sources import Arrays


def pack_images(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    *,
    patch_size: int,
    resolution: Resolution,
    packing: Packing,
    longest_side: int,
) -> Row:
    """A batch of packed rows that holds every image once, at its own aspect ratio.

    Slots of `image_ids` say where each image went.   Raises DataError where one does not fit.
    """
    source = Arrays(images, np.zeros(len(images), np.int32), classes=("",))
    plan = plan_evaluation(
        source.manifest.sizes,
        patch_size=patch_size,
        resolution=resolution,
        packing=packing,
        longest_side=longest_side,
    ).complete()
    count = len(plan.image_ids)
    rows = PlannedRows(source, Epochs(lambda epoch: plan), count, patch_size, packing.row_tokens, 0, None)
    return Row(*(np.stack(leaf) for leaf in zip(*(rows[r] for r in range(count)))))


def unpack_images(batch: Row, values: Num[np.ndarray, "B I *n"]) -> Num[np.ndarray, "N *n"]:
    """The value of each image's slot, in the order in which the images were given to `pack_images`."""
    used = batch.image_ids >= 0
    return values[used][np.argsort(batch.image_ids[used])]
