"""A folder of clips, one class per subfolder: files of every kind, or folders of frames.

Clips that were cut from one recording are in the same split: UCF's groups (v_Run_g07_c02.avi), Kinetics' parts of a
video (ID_000010_000020.mp4). Kinetics' annotation tables are read where they lie beside the clips. A table index.csv
with the columns path and frames says how many frames a clip has; one with fewer is set aside by name.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from ..errors import BadImage, DataError, DataMissing, check_in
from ..manifest import Manifest, as_names, printable
from .clip_files import are_frames, clip_size, is_clip_name, read_clip
from .clip_lists import INDEX, Clips, annotated, annotation_tables, by_list, frames_listed, listed_in
from .folder import first_names, folder_of
from .layout import files_below, folders_in, held_out, missing, part_of
from .measured import cached_sizes, stamp
from .source import Source, existing

GROUP = re.compile(r"(_c\d+|_\d{6}_\d{6})$")  # the part of a name that tells clips of one recording apart


@dataclass(frozen=True)
class ClipFolder:
    """A folder of clips: ROOT/train/<class>/* and ROOT/val/<class>/*; or ROOT/<class>/* with UCF's lists, or a tenth of
    the recordings of each class held out; or clips anywhere and the tables of Kinetics (train.csv). A clip is a video
    (extra `video`), an animated GIF, WebP or PNG, a NumPy file, or a folder of frames."""

    fold: int = 1
    """Number of UCF's lists (trainlist01.txt, testlist01.txt), where there are such lists."""

    def __post_init__(self):
        check_in("[1, 99]", fold=self.fold)

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        """The clips of a split: train, val, test, or all of them."""
        return FolderOfClips(existing(root), split, channels, self.fold)


class FolderOfClips:
    """One class per folder; see `ClipFolder`."""

    def __init__(self, root: Path, split: str, channels: int, fold: int):
        tables = annotation_tables(root)
        self.root, clips, classes, notes = by_tables(root, tables, split) if tables else by_folders(root, split, fold)
        self.channels = channels
        pairs = [(name, label) for label, each in enumerate(classes) for name in clips.get(each, [])]
        if not pairs:
            raise DataMissing(missing("clip", split, self.root, "CLASS/NAME.mp4, .gif, …"))
        names, labels = zip(*pairs)
        expected = frames_listed(root, self.root, names)
        key = [str(self.root.resolve()), channels, *((name, stamp(self.root / name)) for name in names), expected]
        measured = lambda: measure(self.root, names, channels, expected)
        sizes, reasons = cached_sizes(repr(key), len(names), 3, measured)
        good = sizes.min(-1) > 0
        bad = zip(np.flatnonzero(~good), reasons)
        self.manifest = Manifest(
            names=as_names(list(names))[good],
            sizes=sizes[good],
            labels=np.array(labels, np.int32)[good],
            classes=tuple(classes),
            where=str(self.root),
            set_aside=tuple((printable(names[i]), why) for i, why in bad),
            channels=channels,
            notes=(*notes, first_names(classes)),
        )

    def clip(self, index: int, times: Float[np.ndarray, " F"]) -> UInt8[np.ndarray, "F h w C"]:
        """Raises BadImage."""
        path = self.root / os.fsdecode(self.manifest.names[index])
        return read_clip(path, times, self.channels, int(self.manifest.sizes[index, 0]))

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w C"]:
        """The frame in the middle.   Raises BadImage."""
        return self.clip(index, np.array([0.5]))[0]


class Listed(NamedTuple):
    """The clips of a split."""

    root: Path
    clips: Clips
    classes: list[str]
    """Those of training, in order."""
    notes: list[str]


def by_folders(root: Path, split: str, fold: int) -> Listed:
    """The clips in folders of classes, with UCF's lists or a tenth of the recordings held out where there are no
    folders of splits."""
    splits = clip_splits(root)
    folder = folder_of(root, splits, split)
    known = clips_in(splits.get("train", folder))
    clips = known if folder == splits.get("train", folder) else clips_in(folder)
    check_known(folder, clips, known, "folder")
    if split == "all" or splits.keys() - {"train"}:
        return Listed(folder, clips, sorted(known), [])
    listed = listed_in(root, split, fold)
    clips, note = by_list(clips, listed) if listed is not None else by_recording(clips, split)
    return Listed(folder, clips, sorted(known), [note])


def by_tables(root: Path, tables: list[Path], split: str) -> Listed:
    """The clips in Kinetics' tables; a tenth of the recordings is held out where these name a single split."""
    splits, notes = annotated(root, tables)
    part = folder_of(root, {name: root / name for name in splits}, split).name
    known = splits.get("train", splits[part])
    check_known(root, splits[part], known, "line")
    if split == "all" or splits.keys() - {"train"}:
        return Listed(root, splits[part], sorted(known), notes)
    clips, note = by_recording(splits[part], split)
    return Listed(root, clips, sorted(known), [*notes, note])


def check_known(where: Path, clips: Clips, known: Clips, what: str) -> None:
    """Raises DataError on a class that training does not have."""
    if unknown := sorted(clips.keys() - known.keys()):
        raise DataError(f"{where}: class {unknown[0]!r} has no {what} among the training classes: add or remove it")


def clip_splits(root: Path) -> dict[str, Path]:
    """Folders of the splits: those with the name of one and folders of classes, which hold clips."""
    nested = [path for path in folders_in(root)[0] if part_of(path.name) and clips_in(path)]
    return {part_of(path.name): path for path in nested}


def clips_in(folder: Path) -> dict[str, list[str]]:
    """The clips of each class by their path below `folder`."""
    found = {path.name: sorted(clips_of(path)) for path in folders_in(folder)[0]}
    return {name: [f"{name}/{clip}" for clip in clips] for name, clips in found.items() if clips}


def clips_of(folder: Path) -> Iterator[str]:
    """Clips of a class: files with a suffix of clips, and folders of frames."""
    files, inside = list(files_below(folder)), dict[str, list[str]]()
    for name in files:
        inside.setdefault(os.path.dirname(name), []).append(name)
    of_frames = {below for below, names in inside.items() if below and are_frames(names)}
    yield from of_frames
    yield from (name for name in files if is_clip_name(name) and os.path.dirname(name) not in of_frames)


def recording_of(name: str) -> str:
    """The recording that a clip was cut from, by its name."""
    return GROUP.sub("", os.path.splitext(os.path.basename(name))[0])


def by_recording(clips: dict[str, list[str]], split: str) -> tuple[dict[str, list[str]], str]:
    """Hold out about a tenth of the recordings of each class, with all clips that were cut from them, and a note.

    A recording that several classes share is held out in all of them, or in none.
    """
    out = set().union(*(held_out(sorted({*map(recording_of, names)})) for names in clips.values()))
    kept = {c: [n for n in names if (recording_of(n) in out) == (split != "train")] for c, names in clips.items()}
    total, taken = sum(map(len, clips.values())), sum(recording_of(n) in out for names in clips.values() for n in names)
    return kept, f"no validation split: {taken} of {total} clips are held out, about a tenth of the recordings"


def measure(folder: Path, names: tuple[str, ...], channels: int, expected: list[int]) -> tuple[np.ndarray, list[str]]:
    """Frames, heights and widths, 0 for clips that cannot be used, and the reasons for these in order."""
    sizes, reasons = np.zeros((len(names), 3), np.int32), []
    for i, name in enumerate(names):
        try:
            size = clip_size(folder / name, channels)
            if expected[i] and size[0] < expected[i]:
                raise BadImage(f"cut short: {size[0]} frames, {INDEX} says {expected[i]}")
            sizes[i] = size
        except BadImage as error:
            reasons.append(str(error))
    return sizes, reasons
