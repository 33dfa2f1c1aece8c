"""Images of small classes, repeated."""

import numpy as np

from reference.sampling.balance import repeats

from ..errors import DataError
from ..randomness import Purpose, generator
from ..sampling.balance import ByClass
from .source import Chosen, Source

MOST = 1 << 26  # images with repetitions


def balanced(source: Source, balance: ByClass | None, seed: int) -> Source:
    """The source with images repeated by the sizes of their classes.   Raises DataError where they are too many.

    A repeated image is an image of its own to the plan: it has its own size, crop and tokens in each epoch.
    """
    if balance is None:
        return source
    manifest = source.manifest
    sets = manifest.labels.reshape(len(manifest), -1)
    times = repeats(sets, balance.power, generator(Purpose.BALANCE, seed))
    if times.sum() > MOST:
        raise DataError(
            f"{manifest.where}: balanced classes make {times.sum()} images of {len(manifest)}, at most {MOST} can be "
            "planned: lower data.balance.power"
        )
    note = (
        f"balanced by class: {times.sum()} images, each of {len(manifest)} stands {times.min()} to {times.max()} times"
    )
    return Chosen(source, np.repeat(np.arange(len(manifest)), times), note)
