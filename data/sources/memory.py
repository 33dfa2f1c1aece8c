"""Decoded images cached in memory, so that a small set is decoded once instead of once per epoch."""

import numpy as np
from jaxtyping import Float, Num, UInt8

from .source import Source, attributes_of, clip_of, mask_of


class CachedInMemory:
    """A source that caches the images read first, up to `limit` bytes of pixels.

    Each decoded size of an image is cached separately, so pixels equal those of `source`. Each process has its own
    cache. Nothing is evicted: in random order every image is equally likely to be read next.
    """

    def __init__(self, source: Source, limit: int):
        self.source = source
        self.limit = limit
        self.manifest = source.manifest
        self.attributes = attributes_of(source)
        self.kept: dict[tuple[int, int], Num[np.ndarray, "h w C"]] = {}
        self.rigid: set[int] = set()  # images that are always decoded at full size
        self.masks: dict[int, UInt8[np.ndarray, "h w"]] = {}
        self.bytes = 0

    def __getstate__(self) -> tuple[Source, int]:
        return self.source, self.limit

    def __setstate__(self, state: tuple[Source, int]) -> None:
        self.__init__(*state)

    def clip(self, index: int, times: Float[np.ndarray, " F"]) -> Num[np.ndarray, "F h w C"]:
        """Frames of a clip, which are not kept.   Raises BadImage."""
        return clip_of(self.source, index, times)

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Raises BadImage."""
        if index in self.rigid:
            shrink = 1
        if (index, shrink) in self.kept:
            return self.kept[index, shrink]
        image = self.source.image(index, shrink)
        if shrink > 1 and image.shape[:2] == tuple(self.manifest.sizes[index]):
            self.rigid.add(index)
            shrink = 1
        if (index, shrink) not in self.kept and self.bytes + image.nbytes <= self.limit:
            image.flags.writeable = False
            self.kept[index, shrink] = image
            self.bytes += image.nbytes
        return image

    def mask(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Raises BadImage."""
        if index in self.masks:
            return self.masks[index]
        mask = mask_of(self.source, index)
        if self.bytes + mask.nbytes <= self.limit:
            mask.flags.writeable = False
            self.masks[index] = mask
            self.bytes += mask.nbytes
        return mask
