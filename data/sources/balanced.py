"""Images of small classes, repeated."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

from reference.sampling.balance import repeats

from ..errors import DataError
from ..randomness import Purpose, generator
from ..sampling.balance import ByClass
from .source import Source, clip_of, mask_of

MOST = 1 << 26  # images with repetitions


class Repeated:
    """A source whose images are those of `source` with the numbers `rows`, repetitions included.

    A repeated image is an image of its own to the plan: it has its own size, crop and tokens in each epoch.
    """

    def __init__(self, source: Source, rows: Int[np.ndarray, " K"], note: str):
        manifest = source.manifest
        self.source, self.rows = source, rows
        self.manifest = replace(manifest.select(rows), notes=(*manifest.notes, note))

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Raises BadImage."""
        return self.source.image(int(self.rows[index]), shrink)

    def mask(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Raises BadImage."""
        return mask_of(self.source, int(self.rows[index]))

    def clip(self, index: int, times: Float[np.ndarray, " F"]) -> Num[np.ndarray, "F h w C"]:
        """Raises BadImage."""
        return clip_of(self.source, int(self.rows[index]), times)


def balanced(source: Source, balance: ByClass | None, seed: int) -> Source:
    """The source with images repeated by the sizes of their classes.   Raises DataError where they are too many."""
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
    return Repeated(source, np.repeat(np.arange(len(manifest)), times), note)
