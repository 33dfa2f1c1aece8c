"""Errors and exit codes.

Exit codes: 0 done · 2 wrong command line · 65 data unusable · 66 data missing · 69 a process of the run or a device
is unavailable · 70 numbers are not finite, or internal error · 73 run folder in use · 74 input or output failed ·
75 stopped on request and saved: the same command continues · 78 configuration or model does not fit · 128 + n ended
by signal n (130 Ctrl-C, 143 SIGTERM).
"""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import jax

from data.errors import DataError, DataMissing
from data.sources.decode import limit_pillow
from navit_eqx.errors import ConfigError, Unavailable
from navit_eqx.files import with_remedy
from navit_eqx.training.hosts import is_peer_failure

from .process import Terminated, ended_by_signals
from .terminal import make_safe


class Locked(Exception):
    """The run folder is in use by another process."""


class Stopped(Exception):
    """The run stopped on request; everything is saved."""


CODES: list[tuple[type[BaseException], int]] = [
    (DataMissing, 66),
    (DataError, 65),
    (ConfigError, 78),
    (Unavailable, 69),
    (Locked, 73),
    (Stopped, 75),
    (FloatingPointError, 70),
    (OSError, 74),
    (KeyboardInterrupt, 130),
]


LESS_MEMORY = (
    "fewer --rows, --optim.accumulate 2, --model.remat True, fewer --data.workers, smaller --data.memory or smaller "
    "images (`train.py doctor` says what a step needs)"
)


def code_of(error: BaseException) -> int:
    """The exit code of an error; 70 for errors that a user cannot fix."""
    return next((code for kind, code in CODES if isinstance(error, kind)), 70)


def run(main: Callable[[], Any], less_memory: str = LESS_MEMORY) -> None:
    """Run a program; errors that a user can fix end it with a message and an exit code, without a traceback.
    `less_memory`: what to do where memory is not enough."""
    limit_pillow()
    make_safe()
    try:
        with ended_by_signals():
            main()
    except Terminated as end:
        print(f"\nstopped: {end}", file=sys.stderr, flush=True)
        exit_with(128 + end.number)
    except tuple(kind for kind, _ in CODES) as error:
        if os.environ.get("NAVIT_DEBUG"):
            raise
        code, words = code_of(error), with_remedy(error) if isinstance(error, OSError) else error
        print(f"\n{'stopped' if code in (75, 130) else 'error'}: {words}", file=sys.stderr, flush=True)
        exit_with(code)
    except Exception as error:
        if is_peer_failure(error):
            print(
                f"\nerror: another process of this run has ended, restart all processes: {error}",
                file=sys.stderr,
                flush=True,
            )
            exit_with(69)
        if is_out_of_memory(error):
            print(f"\nerror: out of memory, {error}: {less_memory}", file=sys.stderr, flush=True)
            exit_with(78)
        traceback.print_exc()
        exit_with(70)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or a device could not allocate memory."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def exit_with(code: int) -> NoReturn:
    """Exit with a code; after an error, without waiting for the other processes of the run, which then end too."""
    if jax.distributed.is_initialized() and code != 75:
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)
