"""When to print a line and when to save: every so many steps, or every so many seconds."""

import time

LOG_SECONDS = 10.0
SAVE_SECONDS = 120.0


class Cadence:
    """Due every `steps` steps, never for 0; None: every `seconds` seconds.

    Time counts from the first question, which comes after compilation. Clocks of processes differ, so a time is only
    `wanted` by each and due once the processes agree.
    """

    def __init__(self, steps: int | None, seconds: float):
        self.steps, self.seconds = steps, seconds
        self.last: float | None = None
        self.was_due = False  # the wish that follows is of before

    @property
    def wanted(self) -> bool:
        """Whether this process finds that it is time."""
        self.last = time.perf_counter() if self.last is None else self.last
        return self.steps is None and time.perf_counter() - self.last >= self.seconds

    def due(self, step: int, wanted: bool) -> bool:
        """Whether it is due after `step`; `wanted`: whether any process wants it."""
        if self.steps is not None:
            return self.steps > 0 and step % self.steps == 0
        self.was_due = wanted and not self.was_due
        if self.was_due:
            self.last = time.perf_counter()
        return self.was_due
