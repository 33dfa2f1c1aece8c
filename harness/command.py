"""Command lines, errors and exit codes.

Exit codes: 0 done · 2 wrong command line · 65 data unusable · 66 no such data · 70 numbers went wrong or internal
error · 74 input or output failed · 78 configuration or model does not fit · 130 interrupted.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import tyro

from data.errors import DataError, DataMissing
from navit_eqx.config_json import ConfigError

FLAGS = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
CODES: list[tuple[type[BaseException], int]] = [
    (DataMissing, 66),
    (DataError, 65),
    (ConfigError, 78),
    (FloatingPointError, 70),
    (OSError, 74),
    (KeyboardInterrupt, 130),
]

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


def run(main: Callable[[], Any]) -> None:
    """Run a program: errors that a user can mend become one message and an exit code, without a traceback."""
    try:
        main()
    except tuple(kind for kind, _ in CODES) as error:
        if os.environ.get("NAVIT_DEBUG"):
            raise
        code = next(code for kind, code in CODES if isinstance(error, kind))
        print(f"\n{'stopped' if code == 130 else 'error'}: {error}", file=sys.stderr, flush=True)
        sys.exit(code)


def parse(kind: Any, **options: Any) -> Any:
    """A value of `kind` from the command line."""
    return tyro.cli(kind, config=FLAGS, **options)
