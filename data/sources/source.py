"""What every source is; images in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Num

from ..errors import DataError, DataMissing
from ..manifest import Manifest, as_names


@runtime_checkable
class Source(Protocol):
    """Images with known sizes and labels."""

    manifest: Manifest

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Upright, uint8 or float32 as the manifest says; in full, or where the source can at 1 / shrink of its sides,
        rounded up.   Raises BadImage."""
        ...


def existing(root: str) -> Path:
    """Raises DataMissing where `root` is no folder."""
    if not root:
        raise DataMissing("data.root is not set: give the folder of the images, --data.root DIR")
    if not Path(root).is_dir():
        raise DataMissing(f"data.root={root} is not a folder: give the folder of the images, --data.root DIR")
    return Path(root)


class Renamed:
    """A source whose labels are the places of its class names in another list."""

    def __init__(self, source: Source, classes: tuple[str, ...]):
        self.source = source
        self.manifest = source.manifest.renamed(classes)

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Raises BadImage."""
        return self.source.image(index, shrink)


def with_classes(source: Source, classes: tuple[str, ...]) -> Source:
    """The source with labels by name: a number means the same class everywhere.

    Raises DataError where an image has a class that is not there.
    """
    return source if source.manifest.classes == classes else Renamed(source, classes)


class Arrays:
    """Images in memory, each h w C: uint8, or float32 that is normalized already. Raises DataError on other arrays."""

    def __init__(self, images: Sequence[np.ndarray], labels: Int[np.ndarray, "N *M"], classes: tuple[str, ...]):
        self.images = images
        channels, dtype = _kind(images)
        self.manifest = Manifest(
            names=as_names([str(i) for i in range(len(images))]),
            sizes=np.array([image.shape[:2] for image in images], np.int32).reshape(-1, 2),
            labels=np.asarray(labels, np.int32),
            classes=classes,
            where="arrays in memory",
            channels=channels,
            dtype=dtype,
        )

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        return self.images[index]


def _kind(images: Sequence[np.ndarray]) -> tuple[int, str]:
    """Channels and dtype that all images share."""
    kinds = {(image.ndim, image.shape[-1], image.dtype.name) for image in images}
    for ndim, _, dtype in kinds:
        if ndim != 3 or dtype not in ("uint8", "float32"):
            raise DataError(f"arrays in memory: an array of {ndim} axes and {dtype}, not h w C of uint8 or float32")
    if len(kinds) > 1:
        raise DataError(f"arrays in memory differ in channels or dtype: {sorted(kinds)}; convert them to one kind")
    return next(((channels, dtype) for _, channels, dtype in kinds), (3, "uint8"))
