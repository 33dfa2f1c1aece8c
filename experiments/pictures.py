"""What the pictures of trained experiments share."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.pictures import sheet

from .claims import mean_and_error, score

__all__ = ["bars", "curves", "sheet", "statistics"]


def statistics(result: Mapping, arm: str, at: Sequence[float] = ()) -> tuple[float, float]:
    """Mean accuracy in per cent of an arm over its seeds, and the standard error."""
    seeds = [t["seed"] for t in result["trials"] if t["arm"] == arm]
    mean, error = mean_and_error([score(result["trials"], arm, s, at) for s in seeds])
    return 100 * mean, 100 * error


def arms(result: Mapping) -> list[str]:
    """Names in the order of the experiment."""
    return list(dict.fromkeys(t["arm"] for t in result["trials"]))


def curves(axis: Any, result: Mapping, names: Sequence[str] = (), relative_to: float | None = None) -> None:
    """Accuracy against resolution, one line per arm; divided by that at one resolution if it is given."""
    resolutions = result["resolutions"]
    for name in names or arms(result):
        mean, error = zip(*(statistics(result, name, (r,)) for r in resolutions))
        scale = 1.0 if relative_to is None else mean[resolutions.index(relative_to)]
        axis.errorbar(
            resolutions, [m / scale for m in mean], [e / scale for e in error], fmt="o-", capsize=2, label=name,
            markersize=4,
        )  # fmt: skip
    ylabel = "accuracy, % (bars: one standard error)" if relative_to is None else f"accuracy / that at {relative_to:g}"
    axis.set(xlabel="resolution at test time", ylabel=ylabel)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def bars(axis: Any, result: Mapping, names: Sequence[str] = (), at: Sequence[float] = ()) -> None:
    """Mean accuracy of each arm, from the lowest a little below the smallest."""
    names = list(names or arms(result))[::-1]
    mean, error = zip(*(statistics(result, name, at) for name in names))
    axis.barh(names, mean, xerr=error, capsize=2, color="tab:blue", alpha=0.7)
    low, high = min(mean), max(mean)
    axis.set_xlim(max(0.0, low - max(2.0, 0.4 * (high - low))), high + max(1.0, 0.15 * (high - low)))
    axis.set_xlabel("mean accuracy over resolutions, % (bars: one standard error)")
    for place, (m, e) in enumerate(zip(mean, error)):
        axis.annotate(f"{m:.1f}", (m + e, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
