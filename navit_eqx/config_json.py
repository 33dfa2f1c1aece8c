"""Frozen dataclasses ↔ JSON. A field that may hold one of several classes carries the name of its class."""

import dataclasses
import difflib
import types
import typing
from typing import Any


class ConfigError(ValueError):
    """A configuration that makes no sense; the message says which key and how to mend it."""


def check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def encode(value: Any) -> Any:
    """Dataclasses to dicts with their class name under "kind"; tuples to lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [encode(v) for v in value]
    return value


def decode(kind: Any, value: Any, where: str = "config") -> Any:
    """The inverse: `kind` is a dataclass, a union of them, or the annotation of a plain field.

    Raises ConfigError on unknown or missing keys and on values of another type.
    """
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    classes = {c.__name__: c for c in options if isinstance(c, type) and dataclasses.is_dataclass(c)}
    if isinstance(value, dict):
        name = value.get("kind", next(iter(classes), None))
        check(name in classes, f"{where}: kind {name!r} is none of {sorted(classes)}")
        return _decode_class(classes[name], value, where)
    if isinstance(value, list) and (inner := _tuple_item(options)):
        return tuple(decode(inner, v, f"{where}[{i}]") for i, v in enumerate(value))
    check(any(_fits(value, option) for option in options), f"{where}: {value!r} is not a {_show(kind)}")
    return value


def _decode_class(kind: type, value: dict, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    for key in value.keys() - hints.keys() - {"kind"}:
        near = difflib.get_close_matches(str(key), hints, n=1)
        check(False, f"{where}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    try:
        return kind(**{k: decode(hints[k], v, f"{where}.{k}") for k, v in value.items() if k != "kind"})
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from None


def _tuple_item(options: tuple) -> Any:
    return next((typing.get_args(o)[0] for o in options if typing.get_origin(o) is tuple), None)


def _fits(value: Any, option: Any) -> bool:
    if typing.get_origin(option) is typing.Literal:
        return value in typing.get_args(option)
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(option, type) and isinstance(value, option)


def _show(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind)) if isinstance(kind, type) else str(kind)
