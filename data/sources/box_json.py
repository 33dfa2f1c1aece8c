"""Boxes in COCO JSON, and in parquet files as on the Hugging Face hub."""

import json
import math
from pathlib import Path
from typing import Any, TypeGuard

from ..boxes import COUNTS, CROWD
from ..errors import DataError
from ..manifest import printable
from .box_table import BoxTable, Entry, from_corner
from .caption_parquet import Encoded
from .caption_tables import is_file, is_name
from .measured import stamp
from .pairs import Files
from .parquet_columns import MAX_CLASSES, column_names, nested_names, read_objects

MAX_JSON = 1 << 31  # bytes
BOX_FIELDS = ("bbox", "boxes", "box", "bboxes")
LABEL_FIELDS = ("category", "categories", "label", "labels", "category_id", "class", "class_id", "name")


def coco_table(file: Path, root: Path, part: str) -> BoxTable:
    """The images and boxes of a COCO file.   Raises DataError on a file that contradicts itself."""
    data = read_coco(file)
    names, classes = [image["file_name"] for image in data["images"]], classes_in(file, data)
    objects, lost = objects_in(file, data)
    entries = [
        [
            Entry(from_corner(a.get("bbox")), label, CROWD if a.get("iscrowd") else COUNTS, area_in(a))
            for a, label in own
        ]
        for own in objects
    ]
    folder = folder_of(file, root, part, names)
    sizes = [size_in(image) for image in data["images"]]
    notes = [f"boxes: {file.name}, images: {folder}"]
    notes += [f"{lost} boxes of images that are not listed are left out"] if lost else []
    key = [str(file.resolve()), stamp(file), *((name, stamp(folder / name)) for name in names)]
    return BoxTable(names, entries, classes, Files(folder, names), key, notes, sizes)


def read_coco(file: Path) -> dict[str, Any]:
    """The object in a COCO file.   Raises DataError where it is none."""
    if file.stat().st_size > MAX_JSON:
        raise DataError(f"{file} has more than {MAX_JSON} bytes: split it")
    try:
        data = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON, {error}: write it again") from None
    lists = {"images", "annotations", "categories"}
    if not isinstance(data, dict) or not all(isinstance(data.get(name), list) for name in lists):
        raise DataError(f"{file} is no COCO file: it needs the lists images, annotations and categories")
    needed = {"images": ("id", "file_name"), "categories": ("id", "name"), "annotations": ()}
    for name, keys in needed.items():
        bad = next((i for i, e in enumerate(data[name]) if not isinstance(e, dict) or not {*keys} <= e.keys()), None)
        if bad is not None:
            raise DataError(f"{file}: {name}[{bad}] has no {' and '.join(keys) or 'fields'}: fix it")
    names = [image["file_name"] for image in data["images"]]
    bad = next((i for i, name in enumerate(names) if not is_name(name)), None)
    if bad is not None:
        raise DataError(f"{file}: images[{bad}] has file_name {names[bad]!r:.60}, not the name of a file: fix it")
    if (repeated := first_repeated(names)) is not None:
        raise DataError(f"{file} lists {printable(names[repeated])} twice: unite its entries")
    for name in ("images", "categories"):
        ids = [entry["id"] for entry in data[name]]
        bad = next((i for i, value in enumerate(ids) if not is_id(value)), None)
        bad = first_repeated(ids) if bad is None else bad
        if bad is not None:
            raise DataError(f"{file}: {name}[{bad}] has id {ids[bad]!r:.60}, which is no number or not its own: fix it")
    return data


def is_id(value: Any) -> TypeGuard[int | float | str]:
    """Whether a value can tell entries apart: NaN is not equal to itself."""
    return isinstance(value, int | float | str) and value == value


def first_repeated(values: list[Any]) -> int | None:
    """The place of the first value that occurred before; None where each is its own."""
    seen: set[Any] = set()
    return next((i for i, value in enumerate(values) if value in seen or seen.add(value)), None)


def categories_in(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Categories by id, numbers before texts."""
    return sorted(data["categories"], key=lambda c: (isinstance(c["id"], str), c["id"]))


def classes_in(file: Path, data: dict[str, Any]) -> tuple[str, ...]:
    """Names of the categories, by id.   Raises DataError where there is none, or two have one name."""
    classes = tuple(str(c["name"]) for c in categories_in(data))
    if len({*classes}) < len(classes) or not classes:
        raise DataError(f"{file} has {len(classes)} categories, {len({*classes})} of different names: name each once")
    return classes


def objects_in(file: Path, data: dict[str, Any]) -> tuple[list[list[tuple[dict[str, Any], int]]], int]:
    """The annotations of each image with the place of their category, and how many are of images that are not listed.

    Raises DataError where an annotation is of no category.
    """
    place = {c["id"]: i for i, c in enumerate(categories_in(data))}
    number = {image["id"]: i for i, image in enumerate(data["images"])}
    found: list[list[tuple[dict[str, Any], int]]] = [[] for _ in number]
    lost = 0
    for a in data["annotations"]:
        category, image = a.get("category_id"), a.get("image_id")
        if not is_id(category) or category not in place:
            raise DataError(
                f"{file}: annotation {a.get('id')} has category {category!r:.60}, which is not in `categories`: add it "
                "there, or remove the annotation"
            )
        if is_id(image) and image in number:
            found[number[image]].append((a, place[category]))
        else:
            lost += 1
    return found, lost


def area_in(annotation: dict[str, Any]) -> float:
    """The area of an object, as its annotation says; −1 where it says none."""
    said = annotation.get("area")
    try:
        area = float(said) if isinstance(said, int | float) else -1.0
    except OverflowError:
        return -1.0
    return area if 0 < area < math.inf else -1.0


def begin(path: Path) -> bytes:
    """The file, or the first and last 16 MiB of a larger one, in which a COCO file shows what it holds."""
    most = 1 << 24
    with path.open("rb") as file:
        first = file.read(most)
        file.seek(max(most, path.stat().st_size - most))
        return first + file.read(most)


def size_in(image: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of an entry; None where it does not say."""
    height, width = image.get("height"), image.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and height > 0 < width else None


def folder_of(file: Path, root: Path, part: str, names: list[str]) -> Path:
    """The folder of the images of a COCO file: the first in which one of them lies.   Raises DataError."""
    inside = [file.stem, part, f"{part}2017", "images", f"images/{file.stem}", f"images/{part}", f"images/{part}2017"]
    words = [word for word in file.stem.replace("instances_", "").split(".") if word]
    places = [file.parent, root, *(base / name for base in (file.parent, root) for name in [*inside, *words])]
    found = next((folder for folder in places if any(is_file(folder, name) for name in names[:20])), None)
    if found is None:
        raise DataError(
            f"{file} lists {len(names)} images, first {printable(names[0]) if names else 'none'}, which is in none of "
            f"{file.parent}, its images/ or the folders of splits: put the images there"
        )
    return found


def parquet_table(files: list[Path], image: str, objects: str, form: str) -> BoxTable:
    """The images and boxes of parquet files.   Raises DataError."""
    image = image or next(iter(column_names(files[0], encoded=True)), "image")
    reader = Encoded(files, image)
    stored = nested_names(files[0], objects)
    records = [record for file in files for record in read_objects(file, objects)]
    names = [f"{file.name}:{i}" for file in files for i in range(len(read_objects(file, objects)))]
    labels = [field(record, LABEL_FIELDS, names[i], objects) for i, record in enumerate(records)]
    all_of_them = [label for each in labels for label in each]
    text = all(isinstance(label, str) for label in all_of_them)
    if not text and not all(isinstance(label, int) for label in all_of_them):
        raise DataError(f"{files[0]}: labels of {objects} are neither all names nor all integers: use one kind")
    used = {*all_of_them}
    if not text and max(used) >= MAX_CLASSES:
        raise DataError(f"{files[0]}: label {max(used)} of {objects}: integers run from 0 to below {MAX_CLASSES}")
    classes = stored or tuple(sorted(used) if text else map(str, range(max(used, default=-1) + 1)))
    place: dict[Any, int] = {name: i for i, name in enumerate(classes)} if text else {i: i for i in range(len(classes))}
    entries = []
    for name, record, mine in zip(names, records, labels):
        unknown = next((label for label in mine if label not in place), None)
        if unknown is not None:
            raise DataError(f"{name}: label {unknown!r} of {objects}, but the file has {len(classes)} class names")
        boxes = field(record, BOX_FIELDS, name, objects)
        if len(boxes) != len(mine):
            raise DataError(f"{name}: {len(boxes)} boxes and {len(mine)} labels in {objects}: fix the record")
        crowd = record.get("iscrowd") or [0] * len(mine)
        if not isinstance(crowd, list) or len(crowd) != len(mine):
            raise DataError(f"{name}: iscrowd of {objects} has not one entry for each of {len(mine)} boxes: fix it")
        corners = boxes if form == "corners" else map(from_corner, boxes)
        entries.append([Entry(b, place[y], CROWD if c else COUNTS) for b, y, c in zip(corners, mine, crowd)])
    key = [[[str(file.resolve()), stamp(file)] for file in files], image, objects, form]
    return BoxTable(names, entries, classes, reader, key, [f"boxes: column {objects}"])


def field(record: dict[str, Any], known: tuple[str, ...], name: str, objects: str) -> list[Any]:
    """The first known field of a record; none of it where the record is empty.   Raises DataError."""
    if not record:
        return []
    found = next((key for key in known if key in record), None)
    if found is None:
        raise DataError(f"{name}: {objects} has {', '.join(record)}, none of {', '.join(known)}: rename one")
    values = record[found]
    if values is not None and not isinstance(values, list):
        raise DataError(f"{name}: {found} of {objects} is {values!r:.60}, not a list with an entry for each box")
    return values or []
