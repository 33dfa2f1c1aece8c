"""A contestant is a process of its own that talks in lines of JSON; standard library alone.

It says what it is once it is warm, `{"compile_seconds": …}`, or `{"absent": why}`; then for each line that it reads it
runs two rounds and answers with the times of the second, until its input ends.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Ready(NamedTuple):
    """A contestant that has compiled and run once."""

    once: Callable[[], Any]
    """One round: all steps of the list, finished when it returns."""
    about: dict[str, Any]
    """What does not change from round to round."""
    peak: Callable[[], int | None] = lambda: memory("VmHWM")
    """Most bytes used since the start, of the device."""


def serve(prepare: Callable[[str, dict[str, Any], Path], Ready]) -> None:
    """Run as `python worker.py NAME FOLDER`, where FOLDER holds task.json and images.npz."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    lines, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    say = lambda answer: print(json.dumps(answer), file=lines, flush=True)
    start = memory("VmRSS")
    try:
        ready = prepare(name, json.loads((folder / "task.json").read_text()), folder)
    except Exception as error:  # a peer that cannot run is a result
        say({"absent": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"})
        raise SystemExit(1) from error
    say({**ready.about, "python_bytes": start})
    for _ in sys.stdin:
        ready.once()  # not timed: while others ran, caches and perhaps memory were lost, of the largest most
        cpu, wall = time.process_time(), time.perf_counter()
        ready.once()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        say({"cpu_seconds": cpu, "wall_seconds": wall, "peak_bytes": ready.peak()})


def warm(once: Callable[[], Any], rounds: int = 1) -> float:
    """Seconds of the first rounds: compilation and the like."""
    start = time.perf_counter()
    for _ in range(rounds):
        once()
    return time.perf_counter() - start


def memory(field: str) -> int | None:
    """Bytes of this process as Linux counts them; VmHWM is the most there ever was."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), None)


def pin(count: int) -> None:
    """This process, and those that it starts, on the first `count` of the cores that it may use; Linux alone."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
