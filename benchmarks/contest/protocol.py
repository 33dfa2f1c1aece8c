"""Protocol of contestants: processes that exchange lines of JSON; standard library alone.

After warm-up a contestant writes `{"compile_seconds": …}`, or `{"absent": reason}`. For each line of input it runs a
round that is not timed and writes the times of a second one, until the input ends.
"""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Ready(NamedTuple):
    """A contestant that has compiled and run once."""

    once: Callable[[], Any]
    """Run one round: all steps of the list; blocks until they are finished. A dict that it returns is written too."""
    about: dict[str, Any]
    """Facts that are the same for all rounds."""
    peak: Callable[[], int | None] = lambda: memory("VmHWM")
    """Peak memory of the device since the start, in bytes."""
    untimed: Callable[[], Any] | None = None
    """Run before each round; none: a whole round."""


def serve(prepare: Callable[[str, dict[str, Any], Path], Ready]) -> None:
    """Run as `python worker.py NAME FOLDER`, where FOLDER holds task.json and images.npz."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    lines, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    write = lambda answer: print(json.dumps(answer), file=lines, flush=True)
    start = memory("VmRSS")
    try:
        ready = prepare(name, json.loads((folder / "task.json").read_text()), folder)
    except Exception as error:  # a peer that cannot run is a result
        write({"absent": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"})
        raise SystemExit(1) from error
    write({**ready.about, "python_bytes": start})
    for _ in sys.stdin:
        (ready.untimed or ready.once)()  # other contestants have evicted caches, and workers have read ahead
        cpu, wall = time.process_time(), time.perf_counter()
        counted = ready.once()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        amounts = counted if isinstance(counted, dict) else {}
        write({**amounts, "cpu_seconds": cpu, "wall_seconds": wall, "peak_bytes": ready.peak()})


def warm(once: Callable[[], Any], rounds: int = 1) -> float:
    """Seconds of the first rounds: compilation and the like."""
    start = time.perf_counter()
    for _ in range(rounds):
        once()
    return time.perf_counter() - start


def memory(field: str, process: str = "self") -> int | None:
    """Memory of a process by Linux, in bytes; VmHWM is the peak."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), None)


def peak_of_all() -> int | None:
    """Sum of the peaks of this process and its workers, in bytes; pages that they share count for each."""
    peaks = [memory("VmHWM"), *(memory("VmHWM", str(child.pid)) for child in multiprocessing.active_children())]
    return None if peaks[0] is None else sum(peak or 0 for peak in peaks)


def pin(count: int) -> None:
    """Pin this process and its children to the first `count` of its cores; Linux alone."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
