"""The same experiment on an accelerator, `--accelerator`: models eight times as wide, sixteen times the rows of a step.

What the arms differ in stays, depth and patches too, and so does the share of compute between them: `enlarged` gives
each arm the steps that keep it. Choice: neither paper scales its experiments; the sizes are those of S/16.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from harness.config import Config

BATCH = 16  # times the rows of a step, those of texts too, and the images that a source makes
LARGER = {"width": 8, "mlp_width": 8, "widths": 8, "heads": 2, "rows": BATCH}  # fields of models and tasks
WORKERS = 8  # at most: images are read on the cores that remain


def enlarged(arms: Mapping[str, Config], cost: Callable[[Config], float]) -> dict[str, Config]:
    """All arms, with the steps that leave their shares of the cost as they were; the first arm keeps its steps."""
    large = {name: wide(config) for name, config in arms.items()}
    times = {name: cost(large[name]) / cost(arms[name]) for name in arms}
    first = times[next(iter(times))]
    return {name: replace(config, steps=round(config.total_steps * first / times[name]))
            for name, config in large.items()}  # fmt: skip


def wide(config: Config) -> Config:
    """One arm with a wider model, more rows and more images."""
    source: Any = config.data.source
    if hasattr(source, "train_images"):
        source = replace(source, train_images=BATCH * source.train_images)
    workers = min(WORKERS, os.cpu_count() or 1)
    return replace(
        config,
        model=larger(config.model),
        task=larger(config.task),
        data=replace(config.data, source=source, workers=workers),
        rows=BATCH * config.rows,
    )


def larger(given: Any) -> Any:
    """A configuration whose fields in LARGER are multiplied, in all that it holds; what is open stays open."""
    if not is_dataclass(given) or isinstance(given, type):
        return given
    known = {f.name: getattr(given, f.name) for f in fields(given) if f.init}
    return replace(given, **{name: times(LARGER.get(name), value) for name, value in known.items()})


def times(factor: int | None, value: Any) -> Any:
    """A number, or each of several, times a factor; what has no factor is looked into."""
    if factor is None or value is None:
        return larger(value)
    return tuple(factor * each for each in value) if isinstance(value, tuple) else factor * value
