"""Errors and exit codes.

Exit codes: 0 done · 2 wrong command line · 65 data unusable · 66 no such data · 69 another process of the run, or a
device, is not there · 70 numbers went wrong or internal error · 73 another process writes there · 74 input or output
failed · 75 stopped on request, saved: the same command continues · 78 configuration or model does not fit · 130, 143
interrupted.
"""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import jax

from data.errors import DataError, DataMissing
from data.sources.decode import limit_pillow
from navit_eqx.errors import ConfigError
from navit_eqx.training.hosts import is_peer_failure

from .terminal import make_safe


class Unavailable(Exception):
    """A device that should be there is not."""


class Locked(Exception):
    """Another process writes there."""


class Stopped(Exception):
    """On request, after everything was saved."""


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


def code_of(error: BaseException) -> int:
    """The exit code for an error; 70 where it is none that a user can mend."""
    return next((code for kind, code in CODES if isinstance(error, kind)), 70)


def run(main: Callable[[], Any]) -> None:
    """Run a program: errors that a user can mend become one message and an exit code, without a traceback."""
    limit_pillow()
    make_safe()
    try:
        main()
    except tuple(kind for kind, _ in CODES) as error:
        if os.environ.get("NAVIT_DEBUG"):
            raise
        code = code_of(error)
        print(f"\n{'stopped' if code in (75, 130) else 'error'}: {error}", file=sys.stderr, flush=True)
        leave(code)
    except Exception as error:
        if is_peer_failure(error):
            print(
                f"\nerror: another process of this run is gone, start all again: {error}", file=sys.stderr, flush=True
            )
            leave(69)
        traceback.print_exc()
        leave(70)


def leave(code: int) -> NoReturn:
    """End with a code. After an error one of several processes waits for no other: they notice, and end too."""
    if jax.distributed.is_initialized() and code != 75:
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)
