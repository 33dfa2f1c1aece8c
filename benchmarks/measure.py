"""Shared by all benchmarks: timing, and output as lines of JSON."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import Any, NamedTuple

from harness.run.folder import commit


class Seconds(NamedTuple):
    """Wall time of repeated calls of the same function."""

    seconds: float
    """The median."""
    seconds_min: float
    seconds_max: float
    repeats: int


def arguments(doc: str | None, quick: str, repeats: int = 5) -> argparse.ArgumentParser:
    """The command line of a benchmark."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--repeats", "--rounds", type=int, default=repeats)
    return parser


def clocked(f: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def median_seconds(f: Callable[[], Any], repeats: int) -> Seconds:
    """Time `repeats` calls of `f`; the caller warms up, and `f` waits for the device."""
    times = [clocked(f) for _ in range(repeats)]
    return Seconds(statistics.median(times), min(times), max(times), repeats)


def report(**fields: Any) -> None:
    """Print one measurement as a line of JSON, with versions and machine; floats to six digits."""
    line = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in fields.items()}
    print(json.dumps(line | machine()), flush=True)


@cache
def machine() -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in ("jax", "numpy")}
    return {**versions, "python": platform.python_version(), "cpus": os.cpu_count(), "commit": commit()}
