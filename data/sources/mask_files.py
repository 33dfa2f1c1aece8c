"""Masks of images: decoded from files, drawn from outlines and run lengths, and surveyed once before training."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt8
from PIL import Image

from ..errors import BadImage
from .decode import read_size
from .measured import cache_folder
from .source import UNLABELED

LOSSLESS = ("PNG", "TIFF", "BMP", "GIF", "PPM", "TGA")
Kind = Literal["classes", "objects"]
FAR = 1e9  # pixels from its image at which no point of an outline lies
MOST_CLASSES = UNLABELED  # labels are bytes, and the last one says that a pixel has none


def read_mask(data: bytes) -> Integer[np.ndarray, "h w"]:
    """The numbers of a mask: gray levels, or the colors of a palette by number.   Raises BadImage."""
    read_size(data, 1)
    try:
        image = Image.open(io.BytesIO(data), formats=LOSSLESS)
        image.load()
    except Image.UnidentifiedImageError:
        raise BadImage("its mask is not PNG, TIFF, BMP, GIF, PPM or TGA, which keep numbers: save it as PNG") from None
    except Exception as error:  # the parsers of Pillow raise exceptions of any kind
        raise BadImage(f"its mask cannot be decoded: {error or type(error).__name__}") from error
    values = np.asarray(image)
    if values.ndim == 3 and (values[..., :1] == values[..., :3]).all():
        values = values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "bui" or values.min(initial=0) < 0:
        raise BadImage(f"its mask has {image.mode} pixels, not one number each: write class numbers as gray levels")
    return values.astype(np.uint8) if values.dtype == bool else values


def as_labels(values: Integer[np.ndarray, "h w"], kind: Kind, ignore: int | None) -> UInt8[np.ndarray, "h w"]:
    """Numbers of a mask as labels. objects: 1 wherever the number of an object stands, 255 included.

    Raises BadImage.
    """
    if kind == "objects":
        return (values != 0).astype(np.uint8)
    ignored = np.zeros(values.shape, bool) if ignore is None else values == ignore
    most = int(np.where(ignored, 0, values).max(initial=0))
    if most > UNLABELED:
        raise BadImage(f"its mask has class {most}, more than {MOST_CLASSES - 1}: are these objects?")
    return np.where(ignored, UNLABELED, values).astype(np.uint8)


# outlines and run lengths ----------------------------------------------------------------------------


def draw_outline(points: Sequence[float], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Pixels whose middles lie inside a polygon x, y, x, y, …, by the even-odd rule.   Raises BadImage."""
    try:
        x, y = np.asarray(points, float).reshape(-1, 2).T
    except (ValueError, TypeError, OverflowError):
        raise BadImage("an outline is not a list of numbers x, y, x, y") from None
    if len(x) < 3 or not (np.abs(x) < FAR).all() or not (np.abs(y) < FAR).all():
        raise BadImage(f"an outline has {len(x)} points, or points that are not finite or far away")
    height, width = size
    crossed = np.zeros((height, width + 1), bool)
    for (x0, y0), (x1, y1) in zip(zip(x, y), zip(np.roll(x, -1), np.roll(y, -1))):
        low, high = sorted((y0, y1))
        rows = np.arange(*np.clip(np.ceil([low - 0.5, high - 0.5]), 0, height).astype(int))
        if len(rows):
            at = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            crossed[rows, np.clip(np.ceil(at - 0.5), 0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(crossed, axis=1)[:, :width]


def run_lengths(counts: Any) -> list[int]:
    """Run lengths, alternately outside and inside, from COCO's list or its text of six-bit digits.

    Raises BadImage.
    """
    if isinstance(counts, list) and all(isinstance(count, int) for count in counts):
        return counts
    if not isinstance(counts, str):
        raise BadImage("run lengths are neither a list of integers nor a text")
    found: list[int] = []
    value, shift = 0, 0
    for letter in counts:
        digit = ord(letter) - 48
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        value -= (1 << shift) if digit & 16 else 0
        found.append(value + (found[-2] if len(found) > 2 else 0))
        value, shift = 0, 0
    return found


def draw_runs(counts: Any, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The mask of run lengths, column by column.   Raises BadImage where they do not fill it."""
    runs = run_lengths(counts)
    if min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
        raise BadImage(f"run lengths of {sum(runs)} pixels, for {size[0]} x {size[1]}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return inside.reshape(size[1], size[0]).T


class Thing(NamedTuple):
    """An object of a COCO file."""

    label: int
    """Its class; UNLABELED for a crowd, whose pixels belong to several objects."""
    segmentation: Any
    """Outlines, or run lengths with their size."""
    area: float
    number: Any
    """Its id, for messages."""


def draw_things(things: Sequence[Thing], size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    """Labels of an image: 0 where nothing is; smaller objects lie above larger ones, crowds below all.

    Raises BadImage, naming the object.
    """
    labels = np.zeros(size, np.uint8)
    for thing in sorted(things, key=lambda t: (t.label != UNLABELED, -t.area)):
        try:
            labels[drawn(thing.segmentation, size)] = thing.label
        except BadImage as error:
            raise BadImage(f"annotation {thing.number}: {error}") from None
    return labels


def drawn(segmentation: Any, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Pixels of an object.   Raises BadImage."""
    if isinstance(segmentation, dict):
        if segmentation.get("size", [*size]) != [*size]:
            raise BadImage(f"run lengths of {segmentation.get('size')}, the image has {[*size]}")
        return draw_runs(segmentation.get("counts"), size)
    if not isinstance(segmentation, list) or not segmentation:
        raise BadImage("it has no segmentation")
    return np.any([draw_outline(points, size) for points in segmentation], axis=0)


# survey ----------------------------------------------------------------------------------------------


class Survey(NamedTuple):
    """What masks hold, image by image."""

    present: Bool[np.ndarray, "N 256"]
    """Which labels occur."""
    reasons: list[str]
    """Why the mask of an image cannot be used; empty where it can."""


def survey(key: object, sizes: Int[np.ndarray, "N 2"], labels: Callable[[int], UInt8[np.ndarray, "h w"]]) -> Survey:
    """All masks are read once, or their survey is read from the cache where the same files were surveyed before."""
    digest = hashlib.sha256(repr((key, sizes.tolist())).encode()).hexdigest()[:24]
    file = cache_folder() / f"masks-{digest}.npz"
    found = _stored(file, len(sizes))
    if found is None:
        found = _surveyed(sizes, labels)
        _store(file, found)
    return found


def _surveyed(sizes: Int[np.ndarray, "N 2"], labels: Callable[[int], UInt8[np.ndarray, "h w"]]) -> Survey:
    present, reasons = np.zeros((len(sizes), 256), bool), []
    for i, (height, width) in enumerate(sizes.tolist()):
        try:
            mask = labels(i)
        except BadImage as error:
            reasons.append(str(error))
            continue
        present[i, np.unique(mask)] = True
        same = mask.shape == (height, width)
        reasons.append("" if same else f"its mask has {mask.shape[0]} x {mask.shape[1]} pixels, not {height} x {width}")
    return Survey(present, reasons)


def _stored(file: Path, count: int) -> Survey | None:
    """The survey of a file; None where it is missing or damaged."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            present, reasons = stored["present"], stored["reasons"]
    except Exception:  # a damaged file raises exceptions of any kind
        return None
    sound = present.shape == (count, 256) and present.dtype == bool and reasons.shape == (count,)
    return Survey(present, [str(why) for why in reasons]) if sound and reasons.dtype.kind == "U" else None


def _store(file: Path, found: Survey) -> None:
    """Failure to write is ignored: masks are surveyed again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f"{file.stem}-{hashlib.sha256(str(id(found)).encode()).hexdigest()[:8]}.npz")
        np.savez(beside, present=found.present, reasons=np.array(found.reasons, dtype=str))
        beside.rename(file)
    except OSError:
        pass
