"""What a study returns, and what several studies share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..looks import Look, measures, on_common_images


class Findings(NamedTuple):
    """A table, a sentence and a picture."""

    title: str
    rows: list[dict]
    """One dict of columns a row; a dict inside holds further columns."""
    says: str
    picture: str
    """File name."""
    draw: Callable[[Path], None]


def cheapest_within(rows: Sequence[dict], points: float) -> dict:
    """The row with the fewest FLOPs among those at most `points` per cent points below the best accuracy."""
    enough = max(row["accuracy"] for row in rows) - points / 100 - 1e-12
    return min((row for row in rows if row["accuracy"] >= enough), key=lambda row: row["mean_gflops"])


def compare(names: tuple[str, str], one: Look, other: Look) -> dict:
    """Two looks at the same images side by side, and the gain of the first with its paired standard error."""
    one, other = on_common_images([one, other])
    sides = {name: measures(each) for name, each in zip(names, (one, other))}
    columns = ("mean_tokens", "mean_gflops", "images_per_second", "accuracy", "accuracy_se")
    gain = one.correct.astype(float) - other.correct
    return {
        **{f"{name}_{column}": sides[name][column] for column in columns for name in names},
        "gain": float(gain.mean()),
        "gain_se": float(gain.std() / np.sqrt(len(gain))),
        "images": len(gain),
    }


def curve(rows: Sequence[dict], name: str = "") -> tuple[list[float], list[float], list[float]]:
    """Tokens, accuracy and its standard error along the rows, of one side of a comparison where it has a name."""
    start = f"{name}_" if name else ""
    tokens, accuracy, error = ([row[start + c] for row in rows] for c in ("mean_tokens", "accuracy", "accuracy_se"))
    return tokens, accuracy, error
