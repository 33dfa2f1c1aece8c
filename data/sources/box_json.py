"""Boxes in COCO JSON, and in parquet files as on the Hugging Face hub."""

import json
from pathlib import Path
from typing import Any

from ..boxes import COUNTS, CROWD
from ..errors import DataError
from ..manifest import printable
from .box_table import BoxTable, Entry, from_corner
from .caption_parquet import Encoded
from .measured import stamp
from .pairs import Files
from .parquet_columns import column_names, nested_names, read_objects

MAX_JSON = 1 << 31  # bytes
BOX_FIELDS = ("bbox", "boxes", "box", "bboxes")
LABEL_FIELDS = ("category", "categories", "label", "labels", "category_id", "class", "class_id", "name")


def coco_table(file: Path, root: Path, part: str) -> BoxTable:
    """The images and boxes of a COCO file.   Raises DataError on a file that contradicts itself."""
    data = read_coco(file)
    categories = sorted(data.get("categories", []), key=lambda c: c["id"])
    classes = tuple(str(c["name"]) for c in categories)
    if len({*classes}) < len(classes) or not classes:
        raise DataError(f"{file} has {len(classes)} categories, {len({*classes})} of different names: name each once")
    place = {c["id"]: i for i, c in enumerate(categories)}
    number = {image["id"]: i for i, image in enumerate(data["images"])}
    names = [str(image["file_name"]) for image in data["images"]]
    repeated = next((name for name in names if names.count(name) > 1), None) if len({*names}) < len(names) else None
    if repeated is not None:
        raise DataError(f"{file} lists {printable(repeated)} twice: unite its entries")
    entries: list[list[Entry]] = [[] for _ in names]
    lost = 0
    for a in data["annotations"]:
        if a.get("category_id") not in place:
            raise DataError(
                f"{file}: annotation {a.get('id')} has category {a.get('category_id')}, which is not in `categories`: "
                "add it there, or remove the annotation"
            )
        if a.get("image_id") not in number:
            lost += 1
            continue
        kind = CROWD if a.get("iscrowd") else COUNTS
        area = a.get("area", -1.0)
        area = float(area) if isinstance(area, int | float) and area > 0 else -1.0
        entries[number[a["image_id"]]].append(Entry(from_corner(a.get("bbox")), place[a["category_id"]], kind, area))
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
    return data


def size_in(image: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of an entry; None where it does not say."""
    height, width = image.get("height"), image.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and height > 0 < width else None


def folder_of(file: Path, root: Path, part: str, names: list[str]) -> Path:
    """The folder of the images of a COCO file: the first in which one of them lies.   Raises DataError."""
    inside = [file.stem, part, f"{part}2017", "images", f"images/{file.stem}", f"images/{part}", f"images/{part}2017"]
    words = [word for word in file.stem.replace("instances_", "").split(".") if word]
    places = [file.parent, root, *(base / name for base in (file.parent, root) for name in [*inside, *words])]
    found = next((folder for folder in places if any((folder / name).is_file() for name in names[:20])), None)
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
    used = {label for each in labels for label in each}
    text = all(isinstance(label, str) for label in used)
    if not text and not all(isinstance(label, int) for label in used):
        raise DataError(f"{files[0]}: labels of {objects} are neither all names nor all integers: use one kind")
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
    return record[found] or []
