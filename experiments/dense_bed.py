"""The test bed of masks and boxes: an embedded preset at its own aspect ratio, or squashed to squares of equal tokens.

Rows, steps and model are the same, so that both arms cost the same and see about as many images.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from data.sampling.resolution import Native, Square
from experiments.claims import Claim
from experiments.pictures import statistics
from experiments.settings import AnySetting, name
from experiments.trial import model_after, source
from harness.config import Config
from harness.evaluation.pictures import sheet
from harness.evaluation.predictions import context_of
from harness.evaluation.studies.sweep import evaluate_at

NATIVE, SQUARE = "native", "square"
RESOLUTIONS = (0.75, 1.0, 1.25)  # of both laws, the training of both included


def arms(preset: Config, steps: int) -> dict[str, Config]:
    """The preset with fewer steps, and the same on squares."""
    law = preset.data.resolution
    assert isinstance(law, Native)
    base = replace(preset, steps=steps)
    return {NATIVE: base, SQUARE: replace(base, data=replace(base.data, resolution=Square(law)))}


def trial(config: Config, settings: Sequence[AnySetting], keep: Path | None = None) -> dict:
    """Train, then judge every validation image at native pixels, at each resolution."""
    start = time.perf_counter()
    model, config, task, spent = model_after(config, keep)
    resolutions = [float(str(r)) for r in settings]
    context = context_of(model, config, source(config, "val"), task, tuple(resolutions))
    rows = [evaluate_at(context, r) for r in resolutions]
    found = {name(r): float(row["score"]) for r, row in zip(settings, rows)}
    tokens = {name(r): row["mean_tokens"] for r, row in zip(settings, rows)}
    return {"accuracy": found, **spent, "mean_tokens": tokens, "seconds": time.perf_counter() - start}


def read(trials: list[dict]) -> list[dict]:
    """An arm for each resolution."""
    return [
        t | {"arm": f"{t['arm']} at {r}", "accuracy": {"": value}} for t in trials for r, value in t["accuracy"].items()
    ]


def claims(metric: str, margin: float) -> tuple[Claim, ...]:
    """Native above square at each resolution, and at a smaller one."""
    at = [name(r) for r in RESOLUTIONS]
    return (
        Claim(f"At every resolution native {metric} is at least {100 * margin:g} points above that of squares", margin,
              tuple(((f"{NATIVE} at {r}",), (f"{SQUARE} at {r}",)) for r in at)),
        Claim("Native is as good as squares at the next larger resolution", 0.0,
              tuple(((f"{NATIVE} at {a}",), (f"{SQUARE} at {b}",)) for a, b in zip(at, at[1:]))),
    )  # fmt: skip


def draw(result: Mapping, path: Path, metric: str) -> None:
    """The metric of both arms over tokens."""
    known = {"trials": read(result["trials"])}
    with sheet(path, 1) as (axis,):
        for kind in (NATIVE, SQUARE):
            tokens = next(t["mean_tokens"] for t in result["trials"] if t["arm"] == kind)
            mean, error = zip(*(statistics(known, f"{kind} at {name(r)}") for r in RESOLUTIONS))
            axis.errorbar([*tokens.values()], mean, error, fmt="o-", capsize=2, label=kind)
        axis.set(xlabel="tokens of an image (mean)", ylabel=f"{metric}, % (bars: 95 % interval)")
        axis.grid(alpha=0.3)
        axis.legend()
