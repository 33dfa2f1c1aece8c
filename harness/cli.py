"""Command lines from dataclasses, by tyro. Options of type `X | None` take `auto`, which means None."""

import contextlib
import copy
import dataclasses
import functools
import io
import operator
import re
import sys
import traceback
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from navit_eqx.errors import ConfigError
from navit_eqx.serialize import alternatives

NONE = type(None)
AUTO = "auto"
FLAGS = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)


def parse(
    kind: Any, *, default: Any = None, args: Sequence[str] | None = None, config: Sequence[Any] = FLAGS, **options: Any
) -> Any:
    """A value of `kind` from the command line. A field with several possible classes takes the name of a class
    (`--task.loss sigmoid`), then the fields of that class (`--task.loss.smoothing 0.1`).

    A word that is empty, no option or no number ends the program with code 2. Raises ConfigError where a value is out
    of range, as in a file.
    """
    args = sys.argv[1:] if args is None else args
    check_words(args)
    if default is None:
        with out_of_range_raises():
            return tyro.cli(kind, config=config, args=args, registry=REGISTRY, **options)
    default, rest = choose_classes(default, args)
    check_chosen(default, rest)
    choices = " · ".join(f"--{path} {{{','.join(classes)}}}" for path, classes in unions(default).items())
    options["description"] = f"{options.get('description') or ''}\n\nClasses, chosen by name: {choices}"
    with out_of_range_raises(default):
        return tyro.cli(kind, config=config, default=default, args=rest, registry=REGISTRY, **options)


def check_words(args: Sequence[str]) -> None:
    """Exit with code 2 where a word is empty: it would mean an option that was not given."""
    words = [part for arg in args for part in _split(arg)]
    for before, word in zip(("", *words), words):
        if not word.strip():
            named = f"{before} has an empty value" if before.startswith("-") else "a word is empty"
            print(f"error: {named}, as of a shell variable that is not set: leave it out, or set it", file=sys.stderr)
            sys.exit(2)


@contextlib.contextmanager
def out_of_range_raises(default: Any = None) -> Iterator[None]:
    """Raise the errors of `__post_init__` as ConfigError, with the place of the object in `default`; tyro prints them
    as a wrong command line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as end:
        error = end.__context__
        while error is not None and not (made := checked_by(error)):
            error = error.__cause__ or error.__context__
        if isinstance(error, ValueError):
            raise ConfigError(with_place(str(error), type(made[-1]), default)) from None
        sys.stderr.write(said.getvalue())
        raise


def checked_by(error: BaseException) -> list[Any]:
    """The objects whose `__post_init__` an error left, outer ones first."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return [frame.f_locals["self"] for frame in frames if frame.f_code.co_name == "__post_init__"]


def with_place(words: str, kind: type, default: Any) -> str:
    """The words of an error, behind the option of the object with the wrong field, where one place alone has it."""
    found = [place for place, part in parts(default) if place and type(part) is kind]
    if len(found) != 1 or words.startswith(found[0]):
        return words
    named = re.match(r"(?:([a-z_0-9.]+)\.)?[a-z_0-9]+=", words)
    if named and named[1] and found[0].endswith(f".{named[1]}"):
        words = words.removeprefix(f"{named[1]}.")
    return f"{found[0]}{'.' if named else ': '}{words}"


def parts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of the dataclasses in a configuration."""
    if dataclasses.is_dataclass(value):
        yield path, value
        for field in dataclasses.fields(value):
            yield from parts(getattr(value, field.name), f"{path}.{field.name}".lstrip("."))


def check_used(options: Any, default: Any, idle: Iterable[tuple[str, str]]) -> None:
    """Raises ConfigError where an option was given that changes nothing beside the others, with what would make it
    count."""
    for given, why in idle:
        if operator.attrgetter(given)(options) != operator.attrgetter(given)(default):
            raise ConfigError(f"{given} was given, and changes nothing: {why}")


REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def open_or_value(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Parser and printer of `X | None`: `auto`, or an X."""
    kinds = typing.get_args(info.type)
    inner = [kind for kind in kinds if kind is not NONE]
    if len(inner) == len(kinds) or not inner:
        return None
    value = PrimitiveTypeInfo.make(functools.reduce(operator.or_, inner), info.markers)
    spec = ConstructorRegistry.get_primitive_spec(value)
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None
    return dataclasses.replace(
        spec,
        nargs=spec.nargs if spec.nargs == 1 else "*",
        metavar=f"{AUTO}|{spec.metavar}",
        instance_from_str=lambda words: None if words == [AUTO] else spec.instance_from_str(words),
        is_instance=lambda x: x is None or spec.is_instance(x),
        str_from_instance=lambda x: [AUTO] if x is None else spec.str_from_instance(x),
        choices=spec.choices and (AUTO, *spec.choices),
    )


def option_text(value: Any) -> str:
    """A value as written on the command line; None is `auto`."""
    return AUTO if value is None else repr(value)


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


def check_chosen(default: Any, rest: Sequence[str]) -> None:
    """Exit with code 2 where an option is one of a class that was not chosen, and name the class."""
    known = unions(default)
    for word in (word for word in rest if word.startswith("--")):
        path, _, name = word.removeprefix("--").replace("-", "_").rpartition(".")
        chosen = operator.attrgetter(path)(default) if path in known else None
        others = [kind for kind, made in known.get(path, {}).items() if made and name in names_of(made)]
        if others and not (chosen and name in names_of(type(chosen))):
            option = f"--{path.replace('_', '-')}"
            print(f"error: {word} is an option of {option} {' or '.join(others)}: name it first", file=sys.stderr)
            sys.exit(2)


def names_of(kind: type) -> set[str]:
    """The fields of a dataclass."""
    return {field.name for field in dataclasses.fields(kind)}


def unions(value: Any, path: str = "") -> dict[str, dict[str, type | None]]:
    """Dotted names of the fields with several possible classes, and these classes by name."""
    found = {}
    hints = typing.get_type_hints(type(value))
    for name in (field.name for field in dataclasses.fields(value)):
        inner, classes = getattr(value, name), alternatives(hints[name])
        if len(classes) > 1 and any(dataclasses.is_dataclass(c) for c in classes):
            found[path + name] = {
                "none" if c is NONE else c.__name__.lower(): None if c is NONE else c for c in classes
            }
        if dataclasses.is_dataclass(inner):
            found |= unions(inner, f"{path}{name}.")
    return found


def _split(arg: str) -> list[str]:
    """Split `--name=value` into two words."""
    return arg.split("=", 1) if arg.startswith("--") else [arg]


def _put(value: Any, path: list[str], new: Any) -> Any:
    """Not checked: the fields of a new class may follow, and what is made of all arguments is checked."""
    name, *inner = path
    changed = copy.copy(value)
    object.__setattr__(changed, name, _put(getattr(value, name), inner, new) if inner else new)
    return changed
