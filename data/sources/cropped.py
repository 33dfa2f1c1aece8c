"""The middle of every image of a source, as test images are cropped for a plain ViT."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, Num

from ..errors import DataError, check_in
from .source import Source


@dataclass(frozen=True)
class CentralCrop:
    """The middle part of an image."""

    share: float = 0.75
    """Share of each side that is kept; of a square, of the shorter side."""
    square: bool = False
    """Cut a square; else the aspect ratio stays."""

    def __post_init__(self):
        check_in("(0, 1]", share=self.share)

    def sizes(self, sizes: Int[np.ndarray, "N 2"]) -> Int[np.ndarray, "N 2"]:
        """Heights and widths of the parts, of one pixel at least."""
        sides = np.repeat(sizes.min(-1, keepdims=True), 2, -1) if self.square else sizes
        return np.maximum(1, np.rint(self.share * sides)).astype(np.int32)


class Cropped:
    """A source whose images are cropped.   Raises DataError for clips, boxes and masks, which are not."""

    def __init__(self, source: Source, crop: CentralCrop):
        manifest = source.manifest
        if manifest.has_clips or manifest.masks or manifest.boxes is not None:
            raise DataError(f"{manifest.where}: crops are of images alone, without boxes and masks")
        self.source, self.crop = source, crop
        self.manifest = replace(manifest, sizes=crop.sizes(manifest.sizes))

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """At full size, whatever `shrink` says.   Raises BadImage."""
        image, (height, width) = self.source.image(index), self.manifest.sizes[index].tolist()
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return image[top : top + height, left : left + width]
