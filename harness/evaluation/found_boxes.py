"""Boxes found in image files: lines of text, one COCO file, and a picture of each image with its boxes."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from data.boxes import corners_of
from data.manifest import printable
from navit_eqx.config import ModelConfig
from navit_eqx.files import check_overwrites_none, make_folder
from navit_eqx.pixels import read_image

from ..run.folder import write_json
from .overlays import draw_boxes, write_png
from .pictures import displayable

FILE = "boxes.json"
LONGEST = 50  # characters of the name of a picture: with all that is added, at most 255 bytes


class Found(NamedTuple):
    """The boxes found in an image, the highest score first."""

    path: str
    size: tuple[int, int]
    """Height and width in pixels."""
    corners: Float[np.ndarray, "K 4"]
    """Left, top, right and bottom in pixels of the image."""
    classes: Int[np.ndarray, " K"]
    scores: Float[np.ndarray, " K"]


def found_in(path: str, output: Float[np.ndarray, "K 6"], size: tuple[int, int], least: float) -> Found:
    """The boxes with a score of at least `least`, at the pixels of the image itself."""
    output = sure(output, least)
    return Found(path, size, corners_of(output[:, :4], size), output[:, 5].astype(int), output[:, 4])


def sure(output: Float[np.ndarray, "K 6"], least: float) -> Float[np.ndarray, "n 6"]:
    """The detections with a score of at least `least`, each box with its best class alone."""
    output = output[(output[:, 4] >= least) & (output[:, 5] >= 0)].astype(float)
    first = np.unique(output[:, :4], axis=0, return_index=True)[1]
    return output[np.sort(first)]


def in_words(found: Found, classes: Sequence[str]) -> str:
    """A line on one image."""
    boxes = (
        f"{printable(str(classes[label]))} {score:.2f} ({', '.join(f'{side:.0f}' for side in corners)})"
        for corners, label, score in zip(found.corners.tolist(), found.classes.tolist(), found.scores.tolist())
    )
    return f"{printable(found.path)}: {'; '.join(boxes) or 'nothing found'}"


def annotations(found: Found, image_id: int, first: int) -> list[dict[str, Any]]:
    """Boxes in COCO's form: left, top, width, height; categories are counted from 1."""
    return [
        {
            "id": first + k,
            "image_id": image_id,
            "category_id": int(label) + 1,
            "bbox": [round(float(x), 2) for x in (box[0], box[1], box[2] - box[0], box[3] - box[1])],
            "area": round(float((box[2] - box[0]) * (box[3] - box[1])), 2),
            "iscrowd": 0,
            "score": round(float(score), 5),
        }
        for k, (box, label, score) in enumerate(zip(found.corners, found.classes, found.scores))
    ]


def as_coco(every: Sequence[Found], classes: Sequence[str]) -> dict[str, Any]:
    """All boxes as a COCO file."""
    images, boxes = [], []
    for image_id, found in enumerate(every, 1):
        height, width = found.size
        images.append({"id": image_id, "file_name": printable(found.path), "height": height, "width": width})
        boxes += annotations(found, image_id, len(boxes) + 1)
    categories = [{"id": number, "name": printable(name)} for number, name in enumerate(classes, 1)]
    return {"images": images, "annotations": boxes, "categories": categories}


def picture_files(folder: Path, paths: Sequence[str]) -> dict[str, Path]:
    """The file of the picture of each image, by the path of the image; a name that is taken is numbered.

    Raises ConfigError where it is the file of an image.
    """
    files: dict[str, Path] = {}
    taken: set[str] = set()
    again: Counter[str] = Counter()
    for path in dict.fromkeys(paths):
        stem = name = Path(path).stem[:LONGEST]
        while name in taken:
            again[stem] += 1
            name = f"{stem}-{again[stem]}"
        taken.add(name)
        files[path] = folder / f"{name}.png"
    check_overwrites_none(files.values(), paths)
    return files


def publish(
    every: Iterable[Found], classes: Sequence[str], shape: ModelConfig, folder: Path, paths: Sequence[str]
) -> Iterator[Found]:
    """Each image as it comes, after its picture was drawn; the COCO file at the end."""
    make_folder(folder)
    files, done = picture_files(folder, paths), []
    for found in every:
        pixels = displayable(read_image(found.path, shape.channels), shape)
        captions = [f"{classes[label]} {score:.2f}" for label, score in zip(found.classes, found.scores)]
        picture = draw_boxes(pixels, found.corners, found.classes.tolist(), [printable(c) for c in captions])
        write_png(picture, files[found.path])
        done.append(found)
        yield found
    write_json(folder / FILE, as_coco(done, classes))


def in_json(found: Found, classes: Sequence[str]) -> str:
    """The boxes of one image as a JSON object."""
    boxes = [
        {"class": classes[a["category_id"] - 1], "score": a["score"], "bbox": a["bbox"]}
        for a in annotations(found, 1, 1)
    ]
    return json.dumps({"image": found.path, "boxes": boxes})
