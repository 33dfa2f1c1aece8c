"""What every source is; images in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from ..errors import DataMissing
from ..manifest import Manifest, as_names

SPLITS = {"train": ("train",), "val": ("val", "validation", "valid", "test")}


@runtime_checkable
class Source(Protocol):
    """Images with known sizes and labels."""

    manifest: Manifest

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        """In full, or where the source can at 1 / shrink of its sides, rounded up.   Raises BadImage."""
        ...


def existing(root: str) -> Path:
    """Raises DataMissing where `root` is no folder."""
    if not root:
        raise DataMissing("data.root is not set: give the folder of the images, --data.root DIR")
    if not Path(root).is_dir():
        raise DataMissing(f"data.root={root} is not a folder: give the folder of the images, --data.root DIR")
    return Path(root)


class Arrays:
    """Images in memory, each h w 3 uint8."""

    def __init__(self, images: Sequence[np.ndarray], labels: Int[np.ndarray, " N"], classes: tuple[str, ...]):
        self.images = images
        self.manifest = Manifest(
            names=as_names([str(i) for i in range(len(images))]),
            sizes=np.array([image.shape[:2] for image in images], np.int32).reshape(-1, 2),
            labels=np.asarray(labels, np.int32),
            classes=classes,
            where="arrays in memory",
        )

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        return self.images[index]
