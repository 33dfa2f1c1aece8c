"""Layout of a folder of images: splits, classes, files, and what is left out by name."""

import glob
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import DataError
from ..manifest import printable

SUFFIXES: set[str] = set(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2 .j2k .tga".split()
)
BANDS = {".npy", ".npz"}
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing"),
}
JUNK = {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information"}
OUTPUTS = (  # files of a run, a saved model, a cache and an evaluation of this project
    {"config.json", "metrics.jsonl"},
    {"config.json", "lock"},
    {"config.json", "model.safetensors"},
    {"about.json", "names.npy"},
    {"sweep.csv", "sweep.json"},
)
HELD_OUT = 10  # without a validation split, about one image in ten of each class is held out


def splits_of(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Folders of the splits train, val and test, and notes on what was left out.

    A folder is a split if its name has a word of SPLITS, in any case, and it has subfolders but no images: a folder
    `train` with images is a class. Raises DataError where two folders are the same split.
    """
    found: dict[str, Path] = {}
    notes = []
    nested = [path for path in folders_in(root)[0] if holds_folders(path)]
    for path in nested:
        part = part_of(path.name)
        if part in found:
            raise DataError(f"{root} has {found[part].name}/ and {path.name}/, both for {part}: move one of them away")
        if part:
            found[part] = path
    if found:
        others = [printable(p.name) for p in folders_in(root)[0] if p not in found.values()]
        notes += [f"left out beside the splits: {', '.join(others)}"] if others else []
    return found, notes


def part_of(name: str) -> str:
    """The split (train, val or test) in the name of a folder or file; empty where it names none or several."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    parts = [part for part, known in SPLITS.items() if words & {*known}]
    return parts[0] if len(parts) == 1 else ""


def holds_folders(folder: Path) -> bool:
    """Whether a folder has subfolders and no images."""
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    images = sum(is_image_name(path.name) for path in inside if path.is_file())
    return sum(path.is_dir() for path in inside) > images


def folders_in(root: Path) -> tuple[list[Path], list[str]]:
    """Subfolders in sorted order without system folders and outputs of this project, and notes on those left out."""
    kept, left = [], []
    for path in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        (left if path.name.lower() in JUNK or is_ours(path) else kept).append(path)
    notes = [f"left out: {', '.join(printable(p.name) for p in left)}/, no folder of images"] if left else []
    return kept, notes


def is_ours(folder: Path) -> bool:
    """Whether a folder is an output of this project, or has outputs and no image beside them."""
    if is_output(os.listdir(folder)):
        return True
    within = [entry.path for entry in os.scandir(folder) if entry.is_dir()]
    return any(is_output(os.listdir(path)) for path in within) and not any(map(is_image_name, files_below(folder)))


def is_output(names: Iterable[str]) -> bool:
    """Whether a folder with files of these names is a run, a saved model, a cache or an evaluation of this project."""
    found = {*names}
    return any(marks <= found for marks in OUTPUTS)


def classes_in(folder: Path, suffixes: set[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Image files of each class, by their path below `folder`, and notes. Class names are NFC on every system."""
    folders, notes = folders_in(folder)
    found: dict[str, list[str]] = {}
    others: Counter[str] = Counter()
    for path in folders:
        files = [f"{path.name}/{file}" for file in files_below(path)]
        images = sorted(file for file in files if is_image_name(file, suffixes))
        others.update(Path(file).suffix or "no suffix" for file in files if not is_image_name(file, suffixes))
        found.setdefault(unicodedata.normalize("NFC", path.name), []).extend(images)
    empty = [printable(name) for name, files in found.items() if not files]
    notes += [f"classes without an image, left out: {', '.join(empty)}"] if empty else []
    notes += [f"{folder}: {not_read(others)}"] if others else []
    return {name: files for name, files in found.items() if files}, notes


def not_read(others: Counter[str]) -> str:
    """A note on files without a suffix of images."""
    kinds = ", ".join(f"{count} {printable(suffix)}" for suffix, count in others.most_common())
    return f"{others.total()} files are not read, by their suffix: {kinds}"


def held_out(names: Sequence[str]) -> set[str]:
    """The images of a class that are held out: those whose name has a hash in the lowest tenth, but at least one, and
    never all.

    The side of an image depends on its own name, so it stays where the class grows, with one exception: while no hash
    is in the lowest tenth, the lowest one is held out, and while all are, the highest one is not. So of the images that
    were there, at most one changes sides. The result is the same in every process.
    """
    place = {name: hash_of(name) for name in names}
    count = sum(value * HELD_OUT < 2**64 for value in place.values())
    return set(sorted(names, key=lambda name: place[name])[: min(len(names) - 1, max(1, count))])


def hash_of(name: str) -> int:
    """A hash of a name, uniform below 2⁶⁴."""
    return int.from_bytes(hashlib.sha1(os.fsencode(name)).digest()[:8], "big")


def files_below(folder: Path) -> Iterator[str]:
    """Paths of all files below `folder`, without hidden files and folders and without outputs of this project.

    Links are followed; each folder is visited once, also in a loop of links.
    """
    visited = set()
    for path, folders, files in os.walk(folder, followlinks=True, onerror=_stop):
        here = os.stat(path)
        if (here.st_dev, here.st_ino) in visited:
            folders.clear()
            continue
        visited.add((here.st_dev, here.st_ino))
        if path != str(folder) and is_output(files):
            folders.clear()
            continue
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        inside = os.path.relpath(path, folder)
        yield from (os.path.normpath(f"{inside}/{file}") for file in sorted(files) if not file.startswith("."))


def missing(what: str, split: str, folder: Path, layout: str) -> str:
    """That a folder has no image or clip of a split, and what it should have."""
    use = "" if split == "all" else f" for the split {split}"
    return f"no {what}{use} in {folder}: name the folder that holds the folders of the classes, {layout}"


def matching(name: str) -> list[str]:
    """What an argument stands for: the file or folder of this name, or where there is none all that match it as a
    pattern (* ? [] and ** for folders), sorted. A name without a match stays."""
    if os.path.exists(name) or not glob.has_magic(name):
        return [name]
    return sorted(glob.iglob(name, recursive=True)) or [name]


def is_image_name(name: str, suffixes: set[str] = SUFFIXES) -> bool:
    """Whether a name has a suffix of images."""
    return os.path.splitext(name)[1].lower() in suffixes


def suffixes_for(channels: int) -> set[str]:
    """Suffixes of files that may have images of `channels` channels."""
    return SUFFIXES | BANDS if channels in (1, 3, 4) else BANDS | {".tif", ".tiff"}


def _stop(error: OSError) -> None:
    """Raise where a folder cannot be listed, instead of skipping it."""
    raise error
