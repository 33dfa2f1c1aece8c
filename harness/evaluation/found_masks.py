"""Masks found in image files: lines of text, a picture of each image under its mask, one COCO file of run lengths."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from data.manifest import printable
from navit_eqx.config import ModelConfig
from navit_eqx.files import make_folder
from navit_eqx.pixels import read_image

from ..run.folder import write_json
from .found_boxes import picture_files
from .overlays import draw_mask, plain_classes, write_png
from .pictures import displayable

FILE = "masks.json"


class FoundMask(NamedTuple):
    """The class of every pixel of an image."""

    path: str
    mask: UInt8[np.ndarray, "h w"]


def in_words(found: FoundMask, classes: Sequence[str]) -> str:
    """A line on one image: the share of its pixels of each class, largest first."""
    return f"{printable(found.path)}: " + ", ".join(
        f"{printable(c)} {p:.1%}" for c, p in shares(found, classes).items()
    )


def in_json(found: FoundMask, classes: Sequence[str]) -> str:
    """The same as a JSON object."""
    return json.dumps({"image": found.path, "shares": shares(found, classes)})


def shares(found: FoundMask, classes: Sequence[str]) -> dict[str, float]:
    """The share of pixels of each class that occurs, largest first."""
    counts = np.bincount(found.mask.ravel(), minlength=len(classes)) / found.mask.size
    return {str(classes[y]): float(counts[y]) for y in np.argsort(-counts, kind="stable").tolist() if counts[y]}


def runs_of(inside: Bool[np.ndarray, "h w"]) -> list[int]:
    """COCO's run lengths of a mask, column by column: outside, inside, outside, …"""
    flat = inside.T.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], ends, [len(flat)]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def annotations(found: FoundMask, classes: Sequence[str], image_id: int, first: int) -> list[dict[str, Any]]:
    """One annotation for each class that occurs: its pixels as run lengths, and the box around them."""
    hidden, made = plain_classes(classes), []
    for label in (y for y in np.unique(found.mask).tolist() if y not in hidden):
        inside = found.mask == label
        rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
        box = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
        made.append(
            {
                "id": first + len(made),
                "image_id": image_id,
                "category_id": label + 1,
                "segmentation": {"size": [*inside.shape], "counts": runs_of(inside)},
                "area": int(inside.sum()),
                "bbox": box,
                "iscrowd": 0,
            }
        )
    return made


def publish(
    every: Iterable[FoundMask], classes: Sequence[str], shape: ModelConfig, folder: Path, paths: Sequence[str]
) -> Iterator[FoundMask]:
    """Each image as it comes, after its picture was drawn; the COCO file at the end. Categories count from 1."""
    make_folder(folder)
    files, plain = picture_files(folder, paths), plain_classes(classes)
    images, regions = [], []
    for found in every:
        photo = displayable(read_image(found.path, shape.channels), shape)
        write_png(draw_mask(photo, found.mask, plain), files[found.path])
        height, width = found.mask.shape
        images.append({"id": len(images) + 1, "file_name": printable(found.path), "height": height, "width": width})
        regions += annotations(found, classes, len(images), len(regions) + 1)
        yield found
    categories = [{"id": y + 1, "name": printable(name)} for y, name in enumerate(classes) if y not in plain]
    write_json(folder / FILE, {"images": images, "annotations": regions, "categories": categories})
