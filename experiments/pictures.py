"""What the pictures of trained experiments share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.claims import estimate, score
from experiments.settings import AnySetting


def statistics(result: Mapping, arm: str, at: Sequence[AnySetting] = ()) -> tuple[float, float]:
    """Mean accuracy in per cent of an arm over its seeds, and half the width of its 95 % interval."""
    seeds = [t["seed"] for t in result["trials"] if t["arm"] == arm]
    mean, _, interval = estimate([score(result["trials"], arm, s, at) for s in seeds])
    return 100 * mean, 100 * interval


def arms(result: Mapping) -> list[str]:
    """Names in the order of the experiment."""
    return list(dict.fromkeys(t["arm"] for t in result["trials"]))


def line(axis: Any, x: Sequence[float], points: Any, label: str, fmt: str = "o-", **style: Any) -> None:
    """Means over x, each with half the width of its interval: `points` are what `statistics` gives."""
    mean, error = zip(*points)
    axis.errorbar(x, mean, error, fmt=fmt, capsize=2, markersize=4, label=label, **style)


def curves(axis: Any, result: Mapping, names: Sequence[str] = (), relative_to: float | None = None) -> None:
    """Accuracy against resolution, one line per arm; divided by that at one resolution if it is given."""
    resolutions = result["resolutions"]
    for name in names or arms(result):
        points = np.array([statistics(result, name, (r,)) for r in resolutions])
        scale = 1.0 if relative_to is None else points[resolutions.index(relative_to), 0]
        line(axis, resolutions, points / scale, name)
    ylabel = "accuracy, % (bars: 95 % interval)" if relative_to is None else f"accuracy / that at {relative_to:g}"
    axis.set(xlabel="resolution at test time", ylabel=ylabel)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def dots(axis: Any, result: Mapping, names: Sequence[str] = (), at: Sequence[AnySetting] = ()) -> None:
    """Mean accuracy of each arm, one below the other."""
    names = list(names or arms(result))[::-1]
    mean, error = zip(*(statistics(result, name, at) for name in names))
    axis.errorbar(mean, names, xerr=error, fmt="o", capsize=2)
    for place, m in enumerate(mean):
        axis.annotate(f"{m:.1f}", (m, place), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    axis.set_xlabel("mean accuracy over resolutions, % (bars: 95 % interval)")
    axis.margins(y=0.08)
    axis.grid(alpha=0.3)
