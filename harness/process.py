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
    """Start this program anew with the settings above, which the C library reads only at start; Linux alone.

    Only where this very script was the command: a notebook or another program that runs it stays as it is.
    """
    if sys.platform == "linux" and ALLOCATOR.keys() - os.environ.keys() and was_the_command():
        os.execve(sys.executable, sys.orig_argv, ALLOCATOR | os.environ)


def was_the_command() -> bool:
    """Whether Python was started with the script that runs now."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    given = next((word for word in sys.orig_argv[1:] if not word.startswith("-")), None)
    return bool(script and given and os.path.abspath(given) == os.path.abspath(script))


def enable_compilation_cache() -> None:
    """Programs compiled for an accelerator are kept for the next run, in the user's cache; JAX_COMPILATION_CACHE_DIR
    names another folder. Those for a CPU are soon compiled, and bound to its model."""
    if jax.default_backend() != "cpu" and not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "programs"))


class StopSignal:
    """True once a signal has asked for the end: SIGTERM, Ctrl-C, a closed terminal (SIGHUP) or a batch system (SIGUSR1).

    A second one ends the process at once.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

    def __init__(self):
        self.made = False

    def __bool__(self) -> bool:
        return self.made

    def __enter__(self) -> "StopSignal":
        self.before = {number: signal.signal(number, self.receive) for number in self.SIGNALS}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: Any) -> None:
        if self.made:
            os._exit(128 + number)
        self.made = True
        os.write(2, b"\nstopping: this step is finished and saved first; once more leaves at once\n")
