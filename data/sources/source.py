"""Interface of a source; arrays in memory."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

from ..errors import DataError, DataMissing
from ..manifest import Manifest, as_names

UNLABELED = 255  # class of pixels without one


@runtime_checkable
class Source(Protocol):
    """Images with a manifest of names, sizes and labels."""

    manifest: Manifest

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """An upright image with the dtype of the manifest, at full size or, where the source can do so, decoded at
        1 / shrink of its sides, rounded up.   Raises BadImage."""
        ...


@runtime_checkable
class ClipSource(Source, Protocol):
    """Clips with a manifest that holds frames, heights and widths; `image` is the frame in the middle."""

    def clip(self, index: int, times: Float[np.ndarray, " F"]) -> Num[np.ndarray, "F h w C"]:
        """The frames that are shown at these times, shares of the clip in [0, 1), in any order.   Raises BadImage."""
        ...


@runtime_checkable
class Masked(Source, Protocol):
    """A source that knows the class of every pixel."""

    def mask(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """The class of every pixel of an upright image at full size; 255 where there is none.   Raises BadImage."""
        ...


def mask_of(source: Source, index: int) -> UInt8[np.ndarray, "h w"]:
    """The class of every pixel of an image.   Raises BadImage, and DataError where the source has no masks."""
    if not isinstance(source, Masked):
        raise DataError(f"{source.manifest.where} has no masks: segmentation reads them by --data.source masks")
    return source.mask(index)


def clip_of(source: Source, index: int, times: Float[np.ndarray, " F"]) -> Num[np.ndarray, "F h w C"]:
    """The frames of a clip at these times.   Raises BadImage, and DataError where the source has no clips."""
    if not isinstance(source, ClipSource):
        raise DataError(f"{source.manifest.where} has no clips: --data.source clipfolder reads them")
    return source.clip(index, times)


class Attribute(NamedTuple):
    """A property of images with named values, for probes; the names are texts for zero-shot classification."""

    name: str
    values: tuple[str, ...]
    """The name of each value."""
    labels: Int[np.ndarray, " N"]
    """The value of each image; −1 where it has none."""
    prompts: tuple[tuple[str, ...], ...] = ()
    """One or several texts for each value; empty: its name alone."""
    floor: float | None = None
    """Accuracy of simple methods, as the authors of the images measured it."""

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """All texts of each value."""
        return self.prompts or tuple((value,) for value in self.values)


class Foils(NamedTuple):
    """True captions of images, each beside a false one that differs in one respect."""

    name: str
    """What differs: the order of things, their number, …"""
    images: Int[np.ndarray, " K"]
    """The image of each pair of texts."""
    captions: tuple[str, ...]
    foils: tuple[str, ...]
    floor: float | None = None
    """Share of true captions that simple methods prefer, as the authors of the images measured it."""


def attributes_of(source: Source) -> tuple[Attribute, ...]:
    """The attributes that a source knows; none where it knows none."""
    known: Any = getattr(source, "attributes", ())
    return known


def existing(root: str) -> Path:
    """The folder `root`.   Raises DataMissing where it is not a folder."""
    if not root:
        raise DataMissing("data.root is not set: give the folder of the images, --data.root DIR")
    if "://" in root:
        raise DataMissing(
            f"data.root={root} is a URL, and this source reads files on disk: tar and parquet shards behind a URL are "
            "read by --data.source captions and parquet"
        )
    if not Path(root).is_dir():
        raise DataMissing(f"data.root={root} is not a folder: give the folder of the images, --data.root DIR")
    return Path(root)


class Renamed:
    """A source with labels that index another list of classes, matched by class name."""

    def __init__(self, source: Source, classes: tuple[str, ...]):
        self.source = source
        self.manifest = source.manifest.renamed(classes)
        self.attributes = attributes_of(source)
        place = {name: i for i, name in enumerate(classes)}
        self.table = np.full(256, UNLABELED, np.uint8)
        if self.manifest.masks:
            self.table[: len(source.manifest.classes)] = [place.get(c, UNLABELED) for c in source.manifest.classes]

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Raises BadImage."""
        return self.source.image(index, shrink)

    def clip(self, index: int, times: Float[np.ndarray, " F"]) -> Num[np.ndarray, "F h w C"]:
        """Raises BadImage."""
        return clip_of(self.source, index, times)

    def mask(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Raises BadImage."""
        mask = mask_of(self.source, index)
        return self.table[mask] if self.manifest.masks else mask


class Chosen:
    """The images of a source with the numbers `ids`, in this order; one may stand there several times."""

    def __init__(self, source: Source, ids: Sequence[int] | Int[np.ndarray, " n"], note: str = ""):
        self.source, self.ids = source, np.asarray(ids, np.int64)
        part = source.manifest.select(self.ids)
        self.manifest = replace(part, notes=(*part.notes, note)) if note else part

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        """Raises BadImage."""
        return self.source.image(int(self.ids[index]), shrink)

    def mask(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Raises BadImage."""
        return mask_of(self.source, int(self.ids[index]))

    def clip(self, index: int, times: Float[np.ndarray, " F"]) -> Num[np.ndarray, "F h w C"]:
        """Raises BadImage."""
        return clip_of(self.source, int(self.ids[index]), times)


def with_classes(source: Source, classes: tuple[str, ...]) -> Source:
    """The source with labels that index `classes`, matched by class name.

    Raises DataError where an image has a class that is not in `classes`.
    """
    return source if source.manifest.classes == classes else Renamed(source, classes)


class Arrays:
    """Images in memory, each h w C: uint8, or float32 that is already normalized.   Raises DataError otherwise."""

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
    """Number of channels and dtype, shared by all images."""
    kinds = {(image.ndim, image.shape[-1], image.dtype.name) for image in images}
    for ndim, _, dtype in kinds:
        if ndim != 3 or dtype not in ("uint8", "float32"):
            raise DataError(f"arrays in memory: an array of {ndim} axes and {dtype}, not h w C of uint8 or float32")
    if len(kinds) > 1:
        raise DataError(f"arrays in memory differ in channels or dtype: {sorted(kinds)}; convert them to one kind")
    return next(((channels, dtype) for _, channels, dtype in kinds), (3, "uint8"))
