"""Decoded images kept in memory, so that a small set is decoded once and not once an epoch."""

import numpy as np
from jaxtyping import UInt8

from .sources import Source


class Remembered:
    """The images of `source`; the first ones asked for, up to `limit` bytes of pixels, are decoded once.

    Each process keeps its own. Nothing is thrown out: in random order any image is as good to keep as another.
    """

    def __init__(self, source: Source, limit: int):
        self.source = source
        self.limit = limit
        self.manifest = source.manifest
        self.kept: dict[int, UInt8[np.ndarray, "h w 3"]] = {}
        self.bytes = 0

    def __getstate__(self) -> tuple[Source, int]:
        return self.source, self.limit

    def __setstate__(self, state: tuple[Source, int]) -> None:
        self.__init__(*state)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Raises BadImage."""
        if index in self.kept:
            return self.kept[index]
        image = self.source.image(index)
        if self.bytes + image.nbytes <= self.limit:
            image.flags.writeable = False
            self.kept[index] = image
            self.bytes += image.nbytes
        return image
