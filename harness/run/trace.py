"""A trace of some steps by JAX's profiler: what the device did, and what it waited for."""

from pathlib import Path
from typing import Any

import jax

BEFORE = 20  # steps of this process that are not traced: compilation, first batches


class Trace:
    """Records `steps` steps after the first BEFORE ones of this process, or the last ones where fewer follow; 0 records
    none. The first step, which compiles, is never recorded."""

    def __init__(self, folder: Path, start: int, steps: int, end: int):
        self.folder, self.first = folder, max(start + 1, min(start + BEFORE, end - steps))
        self.last = self.first + steps
        self.running = False

    def after(self, step: int, result: Any) -> None:
        """Begin or end the recording after a step; `result` is waited for, so that the trace holds whole steps."""
        if self.first < self.last and step in (self.first, self.last):
            jax.block_until_ready(result)
            self.close() if self.running else self.begin()

    def begin(self) -> None:
        jax.profiler.start_trace(self.folder, create_perfetto_trace=True)
        self.running = True

    def close(self) -> None:
        """Write what was recorded, if anything was; also where the run is stopped."""
        if self.running:
            self.running = False
            jax.profiler.stop_trace()
            print(f"trace from step {self.first + 1} on: {self.folder}", flush=True)
