"""Layout of a set of captions: which files there are for each split."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError, DataMissing
from ..manifest import printable
from .layout import files_below, folders_in, is_image_name, part_of
from .parquet_columns import column_names
from .remote import Location, RemotePath, relative

Layout = Literal["tar", "parquet", "table", "text"]
P = Any  # a Path or a RemotePath: what a function gives is of the kind that it got
Parts = dict[str, list[Path]]
"""Files or folders of train, val and test; of "" where nothing names a split."""
Located = Mapping[str, Sequence[Location]]
"""The same, on disk or behind a URL."""

TABLES = {".csv", ".tsv", ".jsonl", ".ndjson", ".json"}
WORDS = {"captions", "caption", "metadata"}  # in the name of a table
ORDER = {"train": ("train",), "test": ("test",), "val": ("val", "test", "train"), "all": ("val", "test", "train")}


def files_by_part(root: P, chosen: Callable[[P], bool], *folders: str) -> dict[str, list[P]]:
    """Chosen files of each split: in ROOT or one of its `folders` by their names, or else in folders of splits."""
    for folder in (root, *(root / name for name in folders)):
        parts: dict[str, list[P]] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_file() and not path.name.startswith(".") and chosen(path):
                parts.setdefault(part_of(path.stem), []).append(path)
        if parts:
            return parts
    parts = {}
    for part, folder in split_folders(root).items():
        if found := sorted(path for path in folder.iterdir() if path.is_file() and chosen(path)):
            parts[part] = found
    return parts


def split_folders(root: P) -> dict[str, P]:
    """Folders of splits, by their names.   Raises DataError where two folders are the same split."""
    found: dict[str, P] = {}
    for folder in root.folders() if isinstance(root, RemotePath) else folders_in(root)[0]:
        if part := part_of(folder.name):
            if part in found:
                raise DataError(f"{root} has {found[part].name}/ and {folder.name}/, both for {part}: move one away")
            found[part] = folder
    return found


def tar_parts(root: Location, table: str, suffixes: set[str]) -> Located:
    """Tar files."""
    return files_by_part(root, lambda path: path.suffix.lower() == ".tar", "data")


def parquet_parts(root: Location, table: str, suffixes: set[str]) -> Located:
    """Parquet files with encoded images; others are tables beside images."""
    parts = files_by_part(root, lambda path: path.suffix.lower() == ".parquet", "data")
    return parts if any(column_names(paths[0], encoded=True) for paths in parts.values()) else {}


def table_parts(root: Location, table: str, suffixes: set[str]) -> Located:
    """Tables of captions: the one that is named, or those with a name such as captions.csv or metadata.jsonl."""
    if isinstance(root, RemotePath):
        return {}  # images in files of their own are read from disk alone

    def chosen(path: Path) -> bool:
        if table:
            return path.name == table
        words = {*path.stem.lower().replace("-", "_").split("_")}
        return path.suffix.lower() in TABLES and bool(words & WORDS) or path.name.lower() == "captions.txt"

    return files_by_part(root, chosen, "annotations")


def text_parts(root: Location, table: str, suffixes: set[str]) -> Located:
    """Folders of images with a text file beside each."""
    if isinstance(root, RemotePath):
        return {}
    parts = {part: [folder] for part, folder in split_folders(root).items() if has_texts(folder, suffixes)}
    return parts or ({"": [root]} if has_texts(root, suffixes) else {})


def has_texts(folder: Path, suffixes: set[str]) -> bool:
    """Whether there is an image with a text file below a folder."""
    files = {*files_below(folder)}
    return any(is_image_name(f, suffixes) and f"{Path(f).with_suffix('.txt')}" in files for f in files)


LAYOUTS: dict[Layout, Callable[[Location, str, set[str]], Located]] = {
    "tar": tar_parts,
    "parquet": parquet_parts,
    "table": table_parts,
    "text": text_parts,
}


def recognized(root: Location, layout: Layout | None, table: str, suffixes: set[str]) -> tuple[Layout, Located]:
    """The layout of a folder and its files.   Raises DataMissing where there is none."""
    names: list[Layout] = [layout] if layout else ["table"] if table else [*LAYOUTS]
    for name in names:
        if parts := LAYOUTS[name](root, table, suffixes):
            return name, parts
    inside = ", ".join(printable(path.name) for path in sorted(root.iterdir())[:8]) or "nothing"
    wanted = table or "tar shards, parquet files, a table such as captions.csv, or a .txt beside each image"
    raise DataMissing(f"no captions in {root}: it has {inside}, not {wanted}; layouts are listed in docs/data.md")


def part_for(parts: Located, split: str, root: Location) -> tuple[str, bool, list[str]]:
    """The part that has a split, whether it is divided to get both train and val, and notes.   Raises DataMissing."""
    notes = []
    if parts.keys() - {""} and "" in parts:
        notes = [f"left out beside the splits: {', '.join(printable(path.name) for path in parts[''])}"]
        parts = {part: files for part, files in parts.items() if part}
    if "" in parts:
        if split == "test":
            raise DataMissing(f"{root} has no test part: evaluate on --split val, or on all")
        return "", split in ("train", "val"), notes
    part = next((part for part in ORDER[split] if part in parts), None)
    if part is None:
        found = ", ".join(printable(str(relative(path, root))) for files in parts.values() for path in files[:2])
        raise DataMissing(f"{root} has nothing for {split}; found are {found}: name files or folders so")
    return part, parts.keys() == {"train"} and split in ("train", "val"), notes
