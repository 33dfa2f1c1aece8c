"""Settings of this process: allocator, compilation cache, signals."""

import os
import signal
import sys
from typing import Any

import jax

from data.sources.measured import cache_folder

# Big temporary arrays on huge pages, kept between steps: 1.6 times faster on a CPU (docs/log.md).
ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 36),
}


def tune_allocator() -> None:
    """Start this program anew with the settings above, which the C library reads only at start; Linux alone."""
    if sys.platform == "linux" and ALLOCATOR.keys() - os.environ.keys():
        os.execve(sys.executable, sys.orig_argv, ALLOCATOR | os.environ)


def enable_compilation_cache() -> None:
    """Programs compiled for an accelerator are kept for the next run, in the user's cache; JAX_COMPILATION_CACHE_DIR
    names another folder. Those for a CPU are soon compiled, and bound to its model."""
    if jax.default_backend() != "cpu" and not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "programs"))


class StopSignal:
    """True once SIGTERM or Ctrl-C has come; a second one ends the process at once."""

    def __init__(self):
        self.made = False

    def __bool__(self) -> bool:
        return self.made

    def __enter__(self) -> "StopSignal":
        self.before = {number: signal.signal(number, self.receive) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: Any) -> None:
        if self.made:
            os._exit(128 + number)
        self.made = True
        os.write(2, b"\nstopping: this step is finished and saved first; once more leaves at once\n")
