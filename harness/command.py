"""Command lines, errors and exit codes.

Exit codes: 0 done · 2 wrong command line · 65 data unusable · 66 no such data · 69 another process of the run, or a
device, is not there · 70 numbers went wrong or internal error · 73 another process writes there · 74 input or output
failed · 75 stopped on request, saved: the same command continues · 78 configuration or model does not fit · 130, 143
interrupted.
"""

import dataclasses
import io
import os
import signal
import sys
import traceback
import typing
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import tyro

from data.errors import DataError, DataMissing
from data.sources import cache_folder
from navit_eqx.config_json import ConfigError
from navit_eqx.hosts import lost


class Unavailable(Exception):
    """A device that should be there is not."""


class Locked(Exception):
    """Another process writes there."""


class Stopped(Exception):
    """On request, after everything was saved."""


NONE = type(None)
FLAGS = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
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


def keep_programs() -> None:
    """Programs compiled for an accelerator are kept for the next run, in the user's cache; JAX_COMPILATION_CACHE_DIR
    names another folder. Those for a CPU are soon compiled, and bound to its model."""
    if jax.default_backend() != "cpu" and not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "programs"))


def code_of(error: BaseException) -> int:
    """The exit code for an error; 70 where it is none that a user can mend."""
    return next((code for kind, code in CODES if isinstance(error, kind)), 70)


def run(main: Callable[[], Any]) -> None:
    """Run a program: errors that a user can mend become one message and an exit code, without a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a class may have a name that is no text
    try:
        main()
    except tuple(kind for kind, _ in CODES) as error:
        if os.environ.get("NAVIT_DEBUG"):
            raise
        code = code_of(error)
        print(f"\n{'stopped' if code in (75, 130) else 'error'}: {error}", file=sys.stderr, flush=True)
        leave(code)
    except Exception as error:
        if lost(error):
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


class Request:
    """True once SIGTERM or Ctrl-C has come; a second one ends the process at once."""

    def __init__(self):
        self.made = False

    def __bool__(self) -> bool:
        return self.made

    def __enter__(self) -> "Request":
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


def parse(kind: Any, *, default: Any = None, args: Sequence[str] | None = None, **options: Any) -> Any:
    """A value of `kind` from the command line. Where a field may hold one of several classes, its name says which:
    `--loss sigmoid`, then `--loss.smoothing` and the like for the fields of that class.
    """
    if default is None:
        return tyro.cli(kind, config=FLAGS, args=args, **options)
    default, rest = choose_classes(default, sys.argv[1:] if args is None else args)
    choices = " · ".join(f"--{path} {{{','.join(classes)}}}" for path, classes in unions(default).items())
    options["description"] = f"{options.get('description') or ''}\n\nClasses, chosen by name: {choices}"
    return tyro.cli(kind, config=FLAGS, default=default, args=rest, **options)


def choose_classes(default: Any, args: Sequence[str]) -> tuple[Any, list[str]]:
    """`default` with the classes that the arguments name, and the other arguments."""
    words, rest = [part for arg in args for part in _split(arg)], []
    while words:
        word = words.pop(0)
        classes = unions(default).get(word.removeprefix("--").replace("-", "_"), {}) if word.startswith("--") else {}
        if not classes:
            rest.append(word)
            continue
        name = words.pop(0).lower().replace("-", "") if words else ""
        if name not in classes:
            print(f"error: {word} {name or 'without a value'}: choose from {', '.join(classes)}", file=sys.stderr)
            sys.exit(2)
        new = classes[name]
        default = _put(default, word.removeprefix("--").replace("-", "_").split("."), new and new())
    return default, rest


def unions(value: Any, path: str = "") -> dict[str, dict[str, type | None]]:
    """Dotted names of the fields within a dataclass that may hold one of several, and those classes by name."""
    found = {}
    hints = typing.get_type_hints(type(value))
    for name in (field.name for field in dataclasses.fields(value)):
        inner, classes = getattr(value, name), typing.get_args(hints[name])
        if any(dataclasses.is_dataclass(c) for c in classes):
            found[path + name] = {
                "none" if c is NONE else c.__name__.lower(): None if c is NONE else c for c in classes
            }
        if dataclasses.is_dataclass(inner):
            found |= unions(inner, f"{path}{name}.")
    return found


def _split(arg: str) -> list[str]:
    """`--name=value` as two words."""
    return arg.split("=", 1) if arg.startswith("--") else [arg]


def _put(value: Any, path: list[str], new: Any) -> Any:
    name, *inner = path
    return dataclasses.replace(value, **{name: _put(getattr(value, name), inner, new) if inner else new})
