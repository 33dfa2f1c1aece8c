"""Process settings: allocator, compilation cache, signals."""

import importlib.metadata
import importlib.util
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from data.sources.measured import cache_folder

# Large temporary arrays on huge pages, kept between steps: 1.6 times faster on a CPU (docs/log.md).
ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 36),
}


def tune_allocator() -> None:
    """Restart this program with the settings above, which the C library only reads at start; on Linux alone.

    Programs that run the script in another way, such as notebooks, are not restarted.
    """
    if sys.platform == "linux" and ALLOCATOR.keys() - os.environ.keys() and was_the_command():
        os.execve(sys.executable, sys.orig_argv, ALLOCATOR | os.environ)


def find_temporary_folder() -> None:
    """Point TMPDIR at memory or at the folder of the runs where no usual place for temporary files can be written:
    without one, matplotlib cannot even be imported. Ends the process with code 74 where nothing can be written."""
    try:
        tempfile.gettempdir()
        return
    except FileNotFoundError:
        pass
    words = [word for argument in sys.argv for word in argument.split("=", 1)]
    runs = Path(words[words.index("--out") + 1] if "--out" in words[:-1] else "runs").absolute()
    for place in (Path("/dev/shm"), next(path for path in (runs, *runs.parents) if path.is_dir())):
        os.environ["TMPDIR"] = tempfile.tempdir = str(place)
        try:
            tempfile.TemporaryFile().close()
            return
        except OSError:
            continue
    print("error: no folder for temporary files can be written: set TMPDIR to one that can", file=sys.stderr)
    sys.exit(74)


def was_the_command() -> bool:
    """Whether Python was started with this script."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    argument = next((word for word in sys.orig_argv[1:] if not word.startswith("-")), None)
    return bool(script and argument and os.path.abspath(argument) == os.path.abspath(script))


ACCELERATORS = ("/dev/nvidia0", "/dev/accel0", "/dev/vfio/0")


def has_accelerator() -> bool:
    """Whether JAX will compute on an accelerator, found without its backend, which must start later than options are
    read (`initialize_distributed`): JAX_PLATFORMS says so, or a device and a plugin for it are there."""
    if os.environ.get("JAX_PLATFORMS"):
        return os.environ["JAX_PLATFORMS"].split(",")[0] != "cpu"
    plugin = importlib.util.find_spec("libtpu") or importlib.metadata.entry_points(group="jax_plugins")
    return bool(plugin) and any(os.path.exists(path) for path in ACCELERATORS)


def enable_compilation_cache() -> None:
    """Keep programs compiled for accelerators in the cache of the user, or in JAX_COMPILATION_CACHE_DIR. Programs for a
    CPU are not kept: they compile quickly and depend on its model."""
    if jax.default_backend() != "cpu" and not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "programs"))


class Interrupted(Exception):
    """A signal to stop while the program waited for something that may never come."""


class StopSignal:
    """True after a signal to stop: SIGTERM, Ctrl-C, a closed terminal (SIGHUP) or a batch system (SIGUSR1).

    A second signal ends the process at once. A signal that is ignored, as under `nohup`, stays so. Within `waiting()` a
    signal raises Interrupted after `patience` seconds.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

    def __init__(self, patience: float = 0.0):
        self.received = False
        self.is_waiting = False
        self.patience = max(patience, 1e-3)  # a timer of 0 never ends

    def __bool__(self) -> bool:
        return self.received

    def __enter__(self) -> "StopSignal":
        handlers = dict.fromkeys(not_ignored(self.SIGNALS), self.receive) | {signal.SIGALRM: self.interrupt}
        self.before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: Any) -> None:
        if self.received:
            os._exit(128 + number)
        self.received = True
        os.write(2, b"\nstopping: this step is finished and saved first; a second signal exits at once\n")
        if self.is_waiting:
            self.start_timer()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A block that a signal interrupts, one received before it too."""
        self.is_waiting = True
        try:
            if self.received:
                self.start_timer()
            yield
        finally:
            self.is_waiting = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def start_timer(self) -> None:
        """Interrupt after `patience`, and again each second: Python drops what is raised in a finalizer."""
        signal.setitimer(signal.ITIMER_REAL, self.patience, 1.0)

    def interrupt(self, number: int, frame: Any) -> None:
        if self.is_waiting:
            raise Interrupted


class Terminated(BaseException):
    """A signal ended the program."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def not_ignored(signals: Iterable[int]) -> list[int]:
    """The signals that this process does not ignore."""
    return [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """A block that signals end as Ctrl-C does, so that drafts are removed and what was printed is written; a second
    signal ends the process at once.   Raises Terminated."""

    def end(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Terminated(number)

    here = threading.current_thread() is threading.main_thread()
    chosen = not_ignored((signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)) if here else []
    before = {number: signal.signal(number, end) for number in chosen}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
