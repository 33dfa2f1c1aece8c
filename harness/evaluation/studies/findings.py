"""Result of a study, and functions shared by studies."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.checksums import checksum
from navit_eqx.errors import ConfigError, check

from ...run.folder import read_results, write_sealed
from ..pictures import accuracy_axis, accuracy_curve, sheet
from ..predictions import Predictions, measures, on_common_images

FINDINGS = "findings.json"


class Findings(NamedTuple):
    """A table, a summary and a picture."""

    title: str
    rows: list[dict]
    """One dict of columns per row; inner dicts are further columns."""
    summary: str
    """The main result in one sentence."""
    picture: str
    """File name of the picture."""
    draw: Callable[[Path], None]
    most: int | None = None
    """Largest number of printed rows; None: all. Files have all rows."""


class Published(NamedTuple):
    """What a study left in a folder besides its table, for reports."""

    title: str = ""
    summary: str = ""
    picture: str = ""
    command: tuple[str, ...] = ()
    impossible: str = ""
    """Why the study was not possible."""
    table: int | None = None
    """Checksum of its table, NAME.json; None: by an earlier version."""


def published(folder: Path) -> dict[str, Published]:
    """What the studies left in a folder, by name; nothing, and a line, where the file is damaged."""
    if not (folder / FINDINGS).is_file():
        return {}
    try:
        return {name: Published(**said) for name, said in read_results(folder / FINDINGS).items()}
    except (ConfigError, TypeError) as error:
        print(f"earlier studies are left out of the report: {error}", flush=True)
        return {}


def record(name: str, said: Published, folder: Path) -> None:
    """Add to what the studies left in a folder."""
    file = folder / f"{name}.json"
    table = checksum(file.read_bytes()) if file.is_file() else None
    known = published(folder) | {name: said._replace(command=tuple(sys.argv), table=table)}
    write_sealed(folder / FINDINGS, {name: said._asdict() for name, said in known.items()})


def table_in(folder: Path, name: str, said: Published) -> list[dict]:
    """The rows that a study left in a folder.   Raises ConfigError where they are missing or damaged."""
    file = folder / f"{name}.json"
    check(
        file.is_file() and said.table in (None, checksum(file.read_bytes())),
        f"{file} is missing, or differs from what was saved: make it again, --studies {name}",
    )
    return json.loads(file.read_bytes())


def cheapest_within(rows: Sequence[dict], points: float) -> dict:
    """The row with the fewest FLOPs within `points` percentage points of the best accuracy."""
    known = [row for row in rows if row["score"] is not None]
    enough = max(row["score"] for row in known) - points / 100 - 1e-12
    return min((row for row in known if row["score"] >= enough), key=lambda row: row["mean_gflops"])


def compare(names: Iterable[str], one: Predictions, other: Predictions) -> dict:
    """Columns of two settings side by side, on common images, with the gain of the first and its paired standard
    error."""
    one, other = on_common_images([one, other])
    sides = {name: measures(each) for name, each in zip(names, (one, other))}
    columns = ("mean_tokens", "mean_gflops", "images_per_second", "score", "score_se")
    gain, error = difference(one, other)
    return {
        **{f"{name}_{column}": sides[name][column] for column in columns for name in sides},
        "gain": gain,
        "gain_se": error,
        "images": len(one.image_ids),
    }


def difference(one: Predictions, other: Predictions) -> tuple[float, float]:
    """Difference of the metric on the same images, and its standard error: paired where the metric is a mean over
    images, else as if both were independent, which is too large."""
    if one.together(one.outputs, one.image_ids) is None:
        gain = one.scores - other.scores
        return float(gain.mean()), float(gain.std() / np.sqrt(len(gain)))
    (a, a_error), (b, b_error) = one.score, other.score
    return a - b, float(np.hypot(a_error, b_error))


def largest(rows: Sequence[dict]) -> tuple[dict, str]:
    """The comparison with the largest difference, and the gain of the first side in words."""
    most = max(rows, key=lambda row: abs(row["gain"]))
    return most, f"{100 * most['gain']:+.1f} points (standard error {100 * most['gain_se']:.1f})"


def draw_sides(rows: Sequence[dict], labels: dict[str, str], title: str, path: Path, **others: dict) -> None:
    """Plot accuracy against tokens for both sides of a comparison, and for single points in `others`."""
    first, second, *_ = labels
    with sheet(path, 1) as (axis,):
        note = lambda row: f"{row['resolution']:g}"
        accuracy_curve(axis, *curve(rows, first), label=labels[first], notes=[note(row) for row in rows])
        accuracy_curve(axis, *curve(rows, second), label=labels[second])
        for name, row in others.items():
            accuracy_curve(axis, *curve([row]), label=labels[name], notes=[note(row)])
        accuracy_axis(axis, [*curve(rows, first)[0], *(row["mean_tokens"] for row in others.values())])
        axis.legend(frameon=False)
        axis.set_title(f"{title}\n(number: resolution)", fontsize=11)


def curve(rows: Sequence[dict], name: str = "") -> tuple[list[float], list[float], list[float]]:
    """Tokens, accuracy and standard error of the rows, for the side `name` of a comparison if there is one."""
    start = f"{name}_" if name else ""
    tokens, accuracy, error = ([row[start + c] for row in rows] for c in ("mean_tokens", "score", "score_se"))
    return tokens, accuracy, error
