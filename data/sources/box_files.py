"""Boxes in a file for each image: YOLO text files and Pascal VOC XML."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ..boxes import COUNTS, IGNORED
from ..errors import DataError
from ..manifest import printable
from .box_table import BoxTable, Entry
from .caption_tables import is_file
from .layout import files_below, is_image_name
from .measured import stamp
from .pairs import Files
from .parquet_columns import MAX_CLASSES

MAX_FILE = 1 << 24  # bytes of a text file or an XML file
NAME_FILES = ("classes.txt", "obj.names", "labels.txt")


# YOLO -----------------------------------------------------------------------------------------------


def yolo_table(images: Path, labels: Path, root: Path, suffixes: set[str]) -> BoxTable:
    """Images with a text file each: lines of class, middle, width and height in units of the image; a line of more
    numbers is an outline, whose hull is the box. An image without a file has no box. Raises DataError."""
    names = sorted(name for name in files_below(images) if is_image_name(name, suffixes))
    classes = class_list(root)
    found = [(labels / name).with_suffix(".txt") for name in names]
    entries = [yolo_boxes(file) if file.is_file() else [] for file in found]
    most = max((entry.label for each in entries for entry in each), default=-1)
    if classes and most >= len(classes):
        place = next(i for i, each in enumerate(entries) if any(e.label == most for e in each))
        raise DataError(f"{found[place]}: class {most}, but there are {len(classes)} names: fix the line, or add names")
    classes = classes or tuple(str(i) for i in range(most + 1))
    without = sum(not file.is_file() for file in found)
    notes = [f"boxes: YOLO text files in {labels}"]
    notes += [f"{without} images have no text file: nothing is in them"] if without else []
    key = [str(images.resolve()), *((n, stamp(images / n), stamp(file)) for n, file in zip(names, found))]
    return BoxTable(names, entries, classes, Files(images, names), key, notes, relative=True)


def yolo_boxes(file: Path) -> list[Entry]:
    """The boxes of one text file.   Raises DataError with the number of the line."""
    entries = []
    for number, line in enumerate(text_of(file).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            label, values = int(float(words[0])), [float(word) for word in words[1:]]
        except (ValueError, OverflowError):
            raise DataError(f"{file}, line {number}: {line[:40]!r} is not a class and numbers: fix it") from None
        if not 0 <= label < MAX_CLASSES:
            raise DataError(
                f"{file}, line {number}: classes run from 0 to below {MAX_CLASSES}, not {words[0]:.40}: fix it"
            )
        if len(values) < 4 or (len(values) > 5 and len(values) % 2):
            raise DataError(f"{file}, line {number}: class {label} and {len(values)} numbers, not 4: fix it")
        if len(values) <= 5:
            x, y, width, height = values[:4]
            corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        else:
            corners = [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
        entries.append(Entry(corners, label))
    return entries


def class_list(root: Path) -> tuple[str, ...]:
    """Names of the classes, of a YAML file with `names:` or a text file; none where there is none. Raises DataError."""
    for file in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        try:
            found = names_in_yaml(text_of(file))
        except ValueError as error:
            raise DataError(f"{file}: {error}") from None
        if found:
            return found
    for file in (root / name for name in NAME_FILES):
        if file.is_file():
            return tuple(line.strip() for line in text_of(file).splitlines() if line.strip())
    return ()


def names_in_yaml(text: str) -> tuple[str, ...]:
    """The entry `names` of a YAML text: a list, or a map from the numbers of the classes, in one line or in several.

    Raises ValueError where the numbers are not 0, 1, 2, … in any order.
    """
    head = re.search(r"^names\s*:[ \t]*(.*)$", text, re.M)
    if head is None:
        return ()
    inline = head.group(1).split("#")[0].strip()
    if inline[:1] in ("[", "{"):
        closing = {"[": "]", "{": "}"}[inline[0]]
        inside = text[head.start(1) :].split(closing)[0].lstrip("[{")
        parts = [part for part in inside.replace("\n", " ").split(",") if part.strip()]
    else:
        block = re.match(r"(?:[ \t]*(?:-|\d+\s*:).*\n?|[ \t]*#.*\n?|[ \t]*\n)*", text[head.end() + 1 :])
        lines = [line.split(" #")[0].strip() for line in (block.group(0) if block else "").splitlines()]
        parts = [line.removeprefix("-") for line in lines if line and not line.startswith("#")]
    entries = sorted(map(numbered, parts), key=lambda entry: entry[0])
    numbers = [number for number, _ in entries]
    if {*numbers} != {-1} and numbers != [*range(len(entries))]:
        raise ValueError(f"names are numbered {', '.join(map(str, numbers[:8]))}: number them 0, 1, 2 and so on")
    return tuple(name.strip().strip("'\"") for _, name in entries)


def numbered(entry: str) -> tuple[int, str]:
    """The number and the name of an entry of a map; −1 for one of a list."""
    number, colon, name = entry.partition(":")
    return (int(number), name) if colon and number.strip().isdecimal() else (-1, entry)


def text_of(file: Path) -> str:
    """The text of a file.   Raises DataError."""
    try:
        if file.stat().st_size > MAX_FILE:
            raise DataError(f"{file} has more than {MAX_FILE} bytes: it is no file of boxes")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read, {error}: save it again in UTF-8") from None


# Pascal VOC -----------------------------------------------------------------------------------------


def voc_table(files: list[Path], images: Path) -> BoxTable:
    """Images with an XML file each. A box has 1-based pixels, its last ones included; difficult ones are neither right
    nor wrong. Raises DataError."""
    names, found, sizes = [], [], []
    for file in files:
        tree = xml_of(file)
        names.append(image_of(file, tree, images))
        sizes.append(size_of(tree))
        found.append([voc_box(file, thing) for thing in tree.iter("object")])
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"two files of {files[0].parent} are for {printable(twice)}: remove one")
    classes = tuple(sorted({name for each in found for name, _, _ in each}))
    entries = [[Entry(box, classes.index(name), kind) for name, box, kind in each] for each in found]
    key = [str(images.resolve()), *((n, stamp(images / n), stamp(file)) for n, file in zip(names, files))]
    notes = [f"boxes: VOC files in {files[0].parent}"]
    return BoxTable(names, entries, classes, Files(images, names), key, notes, sizes)


def xml_of(file: Path) -> ElementTree.Element:
    """The tree of an XML file.   Raises DataError."""
    try:
        return ElementTree.fromstring(text_of(file))
    except ElementTree.ParseError as error:
        raise DataError(f"{file} is not XML, {error}: write it again") from None


def image_of(file: Path, tree: ElementTree.Element, images: Path) -> str:
    """The name of the image of an XML file: what it says, or the image with the same stem."""
    said = (tree.findtext("filename") or "").strip()
    if said and is_file(images, said):
        return said
    same = (path.name for path in sorted(images.glob(f"{glob_safe(file.stem)}.*")) if is_image_name(path.name))
    return next(same, said or f"{file.stem}.jpg")


def glob_safe(name: str) -> str:
    """A name without the special characters of patterns."""
    return re.sub(r"([*?[])", r"[\1]", name)


def size_of(tree: ElementTree.Element) -> tuple[int, int] | None:
    """Height and width by an XML file; None where it does not say."""
    try:
        height, width = (int(float(tree.findtext(f"size/{name}") or 0)) for name in ("height", "width"))
    except (ValueError, OverflowError):
        return None
    return (height, width) if height > 0 < width else None


def voc_box(file: Path, thing: ElementTree.Element) -> tuple[str, Any, int]:
    """Class, box and kind of an object.   Raises DataError where it has no class."""
    name = (thing.findtext("name") or "").strip()
    if not name:
        raise DataError(f"{file}: an object has no name: add it")
    values = [thing.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        left, top, right, bottom = (float(value or "nan") for value in values)
    except ValueError:
        return name, values, COUNTS
    difficult = (thing.findtext("difficult") or "0").strip() not in ("0", "")
    return name, [left - 1, top - 1, right, bottom], IGNORED if difficult else COUNTS
