"""Settings of a configuration that differ from the defaults of their classes."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

REQUIRED = dataclasses.MISSING  # the default of a field that has none


class Setting(NamedTuple):
    """An option with its value and its default; for a choice among classes both are the name of a class."""

    option: str
    value: Any
    default: Any


def changed(value: Any, default: Any = REQUIRED, option: str = "") -> Iterator[Setting]:
    """The settings of a dataclass that are not those of `default`, outer ones first.

    Fields of another class than that of the default are compared with the defaults of their own class. Put into a
    configuration of defaults, in order, the settings give `value` again.
    """
    if not dataclasses.is_dataclass(value):
        if value != default:
            yield Setting(option, class_name(value) if dataclasses.is_dataclass(default) else value, default)
        return
    if type(value) is not type(default):
        if option:
            yield Setting(option, class_name(value), default if default is REQUIRED else class_name(default))
        default = None
    for field in dataclasses.fields(value):
        name = f"{option}.{field.name}" if option else field.name
        yield from changed(getattr(value, field.name), default_of(field, default), name)


def default_of(field: dataclasses.Field, whole: Any) -> Any:
    """The default of a field: that in `whole`, or where it is None that of its class."""
    if whole is not None:
        return getattr(whole, field.name)
    return field.default if field.default_factory is REQUIRED else field.default_factory()


def class_name(value: Any) -> str:
    """The name of a class on the command line."""
    return "none" if value is None else type(value).__name__.lower()


def words(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, tuple | list):
        return " ".join(map(words, value))
    return "auto" if value is None else str(value)
