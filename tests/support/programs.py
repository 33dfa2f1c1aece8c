"""Counting compiled programs."""

from contextlib import contextmanager
from typing import Any

import jax


@contextmanager
def compiled():
    """The number of programs that are compiled in the block, eager operations included."""
    count = [0]

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        count[0] += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield count
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
