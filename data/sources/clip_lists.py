"""Lists that come with collections of clips: UCF's splits, the annotation tables of Kinetics, numbers of frames."""

import csv
import os
import re
from pathlib import Path

from ..errors import DataError, DataMissing
from .clip_files import is_clip_name
from .csv_tables import Cells, csv_lines
from .layout import files_below, part_of

INDEX = "index.csv"
COLUMNS = {"label", "youtube_id", "time_start", "time_end"}  # of Kinetics' tables; `split` may be missing

Clips = dict[str, list[str]]
"""The clips of each class, by their path below a folder."""


# UCF ----------------------------------------------------------------------------------------------


def listed_in(root: Path, split: str, fold: int) -> set[str] | None:
    """Names of UCF's list of a split, by class and file; None where there is no list."""
    name = f"{'train' if split == 'train' else 'test'}list{fold:02}.txt"
    file = next((path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_file()), None)
    if file is None:
        return None
    lines = filter(str.strip, file.read_text(encoding="utf-8").splitlines())
    return {re.sub(r" \d+$", "", line.strip()) for line in lines}  # lists of training end with the label


def by_list(clips: Clips, listed: set[str]) -> tuple[Clips, str]:
    """The clips of a list, and a note."""
    kept = {name: [clip for clip in inside if clip in listed] for name, inside in clips.items()}
    return kept, f"{sum(map(len, kept.values()))} clips of {len(listed)} in the list of the split"


# Kinetics -----------------------------------------------------------------------------------------


def annotation_tables(root: Path) -> list[Path]:
    """Tables of Kinetics in `root` or a folder of it, known by their columns."""
    found = (path for path in sorted([*root.glob("*.csv"), *root.glob("*/*.csv")]) if path.is_file())
    return [path for path in found if COLUMNS <= columns_of(path)]


def columns_of(table: Path) -> set[str]:
    """Names of the columns; none where the file is no table: it may be anything that lies beside clips."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            return {*next(csv.reader(file, strict=True), ())}
    except (UnicodeDecodeError, csv.Error):
        return set()


def annotated(root: Path, tables: list[Path]) -> tuple[dict[str, Clips], list[str]]:
    """The clips of each split by the lines of tables, and a note for each table.

    A line names the file ID_START_END, anywhere below `root`, whatever its folder is called; lines of clips that
    nobody could download are counted.   Raises DataError on a line without times or of no split, or on a clip of two
    labels; DataMissing where no line has a file.
    """
    clips = sorted(filter(is_clip_name, files_below(root)), reverse=True)  # of two with a name the first counts
    files = {os.path.splitext(os.path.basename(name))[0]: name for name in clips}
    placed: dict[str, tuple[str, str, Path]] = {}
    notes = []
    for table in tables:
        lines = [placed_line(table, number, cells) for number, cells in csv_lines(table)[1]]
        here = [(split, label, files[clip]) for split, label, clip in lines if clip in files]
        notes.append(f"{table.name}: {len(here)} of {len(lines)} lines have a clip below {root}")
        for split, label, name in here:
            split_before, label_before, where = placed.setdefault(name, (split, label, table))
            if (split, label) != (split_before, label_before):
                raise DataError(
                    f"{table}: {name} is {label!r} in {split}, and {label_before!r} in {split_before} in {where.name}: "
                    "keep one of the lines"
                )
    if not placed:
        raise DataMissing(f"{root}: no clip has the name of a line of {tables[0].name}: ID_000010_000020.mp4, …")
    found: dict[str, Clips] = {}
    for name, (split, label, _) in placed.items():
        found.setdefault(split, {}).setdefault(label, []).append(name)
    return found, notes


def placed_line(table: Path, number: int, row: Cells) -> tuple[str, str, str]:
    """Split, label and name of the clip of a line.   Raises DataError."""
    row = {name: cell for name, cell in row.items() if cell.strip()}
    split = part_of(row.get("split", table.stem))
    needs = DataError(
        f"{table}: line {number}: {row}: needs a label, youtube_id, time_start and time_end in seconds, and a "
        "split (train, validate, test) there or in the name of the table"
    )
    try:
        name = f"{row['youtube_id']}_{int(float(row['time_start'])):06}_{int(float(row['time_end'])):06}"
        label = row["label"].strip()
    except (KeyError, ValueError, OverflowError):
        raise needs from None
    if not split:
        raise needs
    return split, label, name


# numbers of frames --------------------------------------------------------------------------------


def frames_listed(root: Path, folder: Path, names: tuple[str, ...]) -> list[int]:
    """The number of frames of each clip in index.csv of `root` or above it; 0 where it is not listed.

    Raises DataError where the table is damaged or has a number that is none.
    """
    file = next((place / INDEX for place in (folder, root, root.parent) if (place / INDEX).is_file()), None)
    if file is None:
        return [0] * len(names)
    columns, lines = csv_lines(file)
    if not {"path", "frames"} <= {*columns}:
        return [0] * len(names)
    try:
        known = {cells["path"]: int(cells["frames"]) for _, cells in lines}
    except ValueError as error:
        raise DataError(f"{file}: column frames holds {error}: write whole numbers") from None
    inside = (os.path.relpath(folder / name, file.parent) for name in names)
    ends = {tail(path, 3): count for path, count in known.items()}
    return [known.get(path, ends.get(tail(path, 3), 0)) for path in inside]


def tail(path: str, parts: int) -> str:
    """The last parts of a path."""
    return "/".join(path.split("/")[-parts:])
