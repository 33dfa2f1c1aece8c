"""Tables of captions: CSV, JSON Lines, COCO captions, a text file beside each image.

A name in a table is a path below the folder of the table, or the name of a file anywhere below it.
"""

import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import DataError
from ..manifest import printable
from .layout import files_below, is_image_name, part_of
from .measured import stamp
from .pairs import CAPTION_COLUMNS, IMAGE_COLUMNS, Files, Pairs
from .remote import Location

DELIMITERS = ",\t;|"
MAX_TEXT = 1 << 20  # bytes of a text file
NO_CAPTIONS = {"readme", "license", "licence", "classes", "labels", "requirements", "copying", "notice", "attribution"}

Rows = dict[str, list[Any]]  # values of captions by name of the image


def table_pairs(path: Path, folder: Path, part: str, suffixes: set[str], image: str, caption: str) -> Pairs:
    """Images below `folder` with the captions of a table.   Raises DataError where the table is damaged."""
    rows, aside = reader_of(path)(path, image, caption)
    if not rows:
        first = f"; first: {': '.join(aside[0])}" if aside else ""
        raise DataError(f"{path} names no image with a caption: add a line for each{first}")
    files, problems, notes = located([*rows], folder, part, suffixes)
    of_file: Rows = {}
    for name, file in files.items():
        of_file.setdefault(file, []).extend(rows[name])
    notes.insert(0, f"captions: {path.name}")
    return file_pairs(folder, dict(sorted(of_file.items())), aside + problems, notes)


def table_values(path: Path, folder: Path, part: str, suffixes: set[str], image: str, column: str) -> dict[str, Any]:
    """The first value of a column of a table for each image file, by path below `folder`.   Raises DataError."""
    rows, _ = reader_of(path)(path, image, column)
    files, _, _ = located([*rows], folder, part, suffixes)
    found: dict[str, Any] = {}
    for name, file in files.items():
        found.setdefault(file, next((value for value in rows[name] if value not in (None, "")), None))
    return found


def reader_of(path: Path) -> Callable[[Path, str, str], tuple[Rows, list[tuple[str, str]]]]:
    """The function that reads a table, by its suffix."""
    return read_coco if path.suffix.lower() == ".json" else read_lines if is_jsonl(path) else read_csv


def text_pairs(folder: Path, suffixes: set[str]) -> Pairs:
    """Images below `folder`, each with the lines of the text file of the same name."""
    files = list(files_below(folder))
    texts = {name for name in files if os.path.splitext(name)[1].lower() == ".txt"}
    images = sorted(name for name in files if is_image_name(name, suffixes))
    of_image = {name: f"{os.path.splitext(name)[0]}.txt" for name in images}
    alone = sorted(texts - {*of_image.values()})
    others = [name for name in alone if Path(name).stem.lower() in NO_CAPTIONS]
    aside = [(printable(name), "is the caption of a missing image") for name in alone if name not in others]
    captions: Rows = {}
    for name in images:
        values, why = read_text(folder / of_image[name]) if of_image[name] in texts else ([], "")
        if why:
            aside.append((printable(name), why))
        else:
            captions[name] = values
    notes = ["captions: a text file beside each image"]
    notes += [f"not taken for captions: {', '.join(map(printable, others))}"] if others else []
    return file_pairs(folder, captions, aside, notes)


def file_pairs(folder: Path, captions: Rows, aside: list[tuple[str, str]], notes: list[str]) -> Pairs:
    """Images in files with their captions, by path below `folder`."""
    paths = [*captions]
    key = [str(folder.resolve()), *((path, stamp(folder / path)) for path in paths)]
    return Pairs(paths, [*captions.values()], Files(folder, paths), key, aside, notes)


def read_text(path: Path) -> tuple[list[str], str]:
    """Captions of a text file, one a line, and why there are none."""
    try:
        with path.open("rb") as file:
            return lines_of(file.read(MAX_TEXT + 1))
    except OSError as error:
        return [], f"its text cannot be read: {error.strerror}"


def lines_of(data: bytes) -> tuple[list[str], str]:
    """Captions of the bytes of a text file, one a line; the empty text if it has none."""
    if len(data) > MAX_TEXT:
        return [], f"its text has more than {MAX_TEXT} bytes: shorten it"
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        return [], f"its text is not UTF-8, byte {error.start}: save it again"
    return [line for line in lines if line.strip()] or [""], ""


def read_csv(path: Path, image: str, caption: str) -> tuple[Rows, list[tuple[str, str]]]:
    """Captions by image, and lines set aside.   Raises DataError with the number of the line."""
    rows: Rows = {}
    aside = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            delimiter = max(DELIMITERS, key=head.count)
            columns = [name.strip() for name in next(csv.reader([head], delimiter=delimiter, strict=True), [])]
            of_image, of_caption = columns_of(path, columns, image, caption)
            lines = csv.reader(file, delimiter=delimiter, strict=True, skipinitialspace=delimiter == "|")
            for line in lines:
                if not line:
                    continue
                if len(line) != len(columns):
                    why = f"{len(line)} fields, the first line {len(columns)}: put captions in quotes"
                    aside.append((f"{path.name}, line {lines.line_num + 1}", f"has {why}"))
                    continue
                found = dict(zip(columns, line))
                rows.setdefault(found[of_image].strip(), []).append(found[of_caption])
    except (UnicodeDecodeError, csv.Error) as error:
        place = f", line {lines.line_num + 1}" if "lines" in locals() else ""
        raise DataError(f"{path}{place} is not a table in UTF-8, {error}: fix the line, or save it again") from None
    return rows, aside


def read_lines(path: Path, image: str, caption: str) -> tuple[Rows, list[tuple[str, str]]]:
    """Captions by image of a file with one JSON object per line, and lines set aside.   Raises DataError."""
    objects, aside = [], []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                objects.append((number, json.loads(line)))
            except (ValueError, RecursionError) as error:
                aside.append((f"{path.name}, line {number}", f"is not JSON, {error}"))
    return rows_of(path, objects, image, caption, aside)


def rows_of(
    path: Path, objects: list[tuple[int, Any]], image: str, caption: str, aside: list[tuple[str, str]]
) -> tuple[Rows, list[tuple[str, str]]]:
    """Captions by image of JSON objects."""
    good = [(number, row) for number, row in objects if isinstance(row, dict)]
    aside += [(f"{path.name}, line {n}", "is not a JSON object") for n, row in objects if not isinstance(row, dict)]
    if not good:
        return {}, aside
    of_image, of_caption = columns_of(path, list(dict.fromkeys(k for _, row in good for k in row)), image, caption)
    rows: Rows = {}
    for number, row in good:
        name = row.get(of_image)
        if is_name(name):
            rows.setdefault(name, []).append(row.get(of_caption))
        else:
            aside.append((f"{path.name}, line {number}", f"has {of_image} {name!r:.60}, not the name of a file"))
    return rows, aside


def read_coco(path: Path, image: str, caption: str) -> tuple[Rows, list[tuple[str, str]]]:
    """Captions by image of a COCO captions file, or of a list of objects; or another field of annotations or images.

    Raises DataError.
    """
    field = caption or "caption"
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON, {error}: download or write it again") from None
    if isinstance(data, list):
        return rows_of(path, list(enumerate(data, 1)), image, caption, [])
    files: dict[Any, str] = {}
    rows: Rows = {}
    aside = []
    try:
        for entry in data["images"]:
            if entry["id"] in files or entry["file_name"] in rows:
                raise DataError(f"{path}: image {entry['id']}, {entry['file_name']!r}, occurs twice: remove one")
            files[entry["id"]] = entry["file_name"]
            rows[entry["file_name"]] = [entry[field]] if field in entry else []
        for entry in data["annotations"]:
            if entry["image_id"] in files:
                rows[files[entry["image_id"]]].append(entry.get(field))
            else:
                aside.append((f"{path.name}, image_id {entry['image_id']!r}", "is the caption of a missing image"))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} has no images with id and file_name, or no annotations with image_id, as COCO captions have, and "
            f"is no list of objects ({type(error).__name__} {error}): name another file, --data.source.table FILE"
        ) from None
    if caption:
        column_of(
            path, [key for entry in data["annotations"] + data["images"] for key in entry], caption, (), "caption"
        )
    if wrong := [name for name in rows if not is_name(name)]:
        raise DataError(f"{path} has an image with file_name {wrong[0]!r:.60}, not the name of a file: fix it")
    return rows, aside


def columns_of(path: Path, columns: list[str], image: str, caption: str) -> tuple[str, str]:
    """The columns of images and captions.   Raises DataError where there is none."""
    return (
        column_of(path, columns, image, IMAGE_COLUMNS, "image"),
        column_of(path, columns, caption, CAPTION_COLUMNS, "caption"),
    )


def column_of(path: Location, columns: list[str], name: str, known: Sequence[str], option: str) -> str:
    """The column called `name`, or the first known one.   Raises DataError."""
    found = next((c for c in ([name] if name else known) if c in columns), None)
    if found is None:
        wanted = f"column {name!r}" if name else f"column of {option}s ({', '.join(known)})"
        has = ", ".join(map(printable, dict.fromkeys(columns))) or "none"
        raise DataError(f"{path} has no {wanted}; it has {has}: name it, --data.source.{option} COLUMN")
    return found


def is_name(value: Any) -> TypeGuard[str]:
    """Whether a value can be the name of a file."""
    try:
        return isinstance(value, str) and 0 < len(os.fsencode(value)) and "\0" not in value
    except UnicodeEncodeError:
        return False


def is_jsonl(path: Path) -> bool:
    """Whether a file has one JSON object per line, by its suffix."""
    return path.suffix.lower() in (".jsonl", ".ndjson")


def located(
    names: list[str], folder: Path, part: str, suffixes: set[str]
) -> tuple[dict[str, str], list[tuple[str, str]], list[str]]:
    """The file of each name, by its path or else its last part; names that have none, with reasons; notes."""
    below = list(files_below(folder))
    known, of_base = {*below}, by_base(below, suffixes)
    files: dict[str, str] = {}
    aside = []
    for name in names:
        path = os.path.normpath(name)
        places = [path] if path in known or is_file(folder, path) else of_base.get(os.path.basename(path), [])
        inside = [place for place in places if part and part in map(part_of, Path(place).parts[:-1])]
        places = inside if len(places) > 1 and inside else places
        if len(places) == 1:
            files[name] = places[0]
        else:
            why = f"is in several folders: {', '.join(places[:3])}" if places else "has captions, but there is no image"
            aside.append((printable(name), why))
    taken = {*files.values()}
    unnamed = sorted(place for places in of_base.values() for place in places if place not in taken)
    notes = [f"{len(unnamed)} images have no caption there, first {printable(unnamed[0])}"] if unnamed else []
    return files, aside, notes


def by_base(files: list[str], suffixes: set[str]) -> dict[str, list[str]]:
    """Paths of images by their last part."""
    found: dict[str, list[str]] = {}
    for file in files:
        if is_image_name(file, suffixes):
            found.setdefault(os.path.basename(file), []).append(file)
    return found


def is_file(folder: Path, path: str) -> bool:
    """Whether a name, which may be anything, is a file."""
    try:
        return (folder / path).is_file()
    except (ValueError, OSError):
        return False
