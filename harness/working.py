"""Progress of long work: one line in place on a terminal; elsewhere a plain line whenever nothing was printed for long.

with working("evaluating", total=1066, unit="images") as advance:
    for batch in batches:
        ...
        advance(len(batch))
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .terminal import SafeStream, clock

PLAIN = 10.0  # seconds without a line, after which a plain one is printed
REFRESH = 0.5  # seconds between changes of the line on a terminal


@dataclass
class Work:
    """One piece of work in progress."""

    what: str
    total: int = 0
    """Units of the whole; 0: unknown."""
    unit: str = ""
    plain: bool = True
    """Print plain lines where there is no terminal."""
    done: int = 0
    started: float = field(default_factory=time.perf_counter)

    def text(self) -> str:
        """The work, how much of it is done, and its duration so far."""
        counted = f" {self.done} of {self.total} {self.unit}," if self.total else ""
        return f"{self.what}:{counted} {clock(time.perf_counter() - self.started)}"


OPEN: list[Work] = []  # from outer to inner; the innermost is shown


@contextmanager
def working(what: str, total: int = 0, unit: str = "", plain: bool = True) -> Iterator[Callable[[int], None]]:
    """Show progress while the enclosed block runs; the value adds to the units that are done."""
    work, over = Work(what, total, unit, plain), threading.Event()

    def advance(count: int) -> None:
        work.done += count

    OPEN.append(work)
    thread = threading.Thread(target=show, args=(work, over), daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        over.set()
        thread.join()
        OPEN.remove(work)
        if isinstance(sys.stdout, SafeStream):
            sys.stdout.status("")


def show(work: Work, over: threading.Event) -> None:
    """Show the work until it is over."""
    last = time.perf_counter()
    while not over.wait(REFRESH):
        if OPEN[-1] is not work:
            continue
        stream, now = sys.stdout, time.perf_counter()
        if isinstance(stream, SafeStream) and stream.in_place:
            stream.status(work.text())
            continue
        last = max(last, getattr(stream, "written", 0.0))
        if work.plain and now - last >= PLAIN:
            last = now
            print(work.text(), flush=True)
