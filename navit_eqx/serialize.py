"""Frozen dataclasses ↔ JSON. The key "kind" holds the name of the class."""

import dataclasses
import difflib
import hashlib
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

from .errors import ConfigError, check

MAX_BYTES = 1 << 26  # of a configuration file, class names included


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.   Raises ConfigError where the file is missing, too large or not a JSON object."""
    check(path.is_file(), f"{missing(path)}: name the folder of a run, or of a saved model")
    check(path.stat().st_size <= MAX_BYTES, f"{path} has more than {MAX_BYTES} bytes, which no configuration has")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged, {error}: restore it from a copy") from None
    check(isinstance(value, dict), f"{path} is damaged, it holds no JSON object: restore it from a copy")
    return value


def missing(path: Path) -> str:
    """That a file is not there, and what is in its place."""
    folder = path.parent
    if not folder.is_dir():
        return f"{folder} is a file, and no folder" if folder.exists() else f"there is no folder {folder}"
    below = sorted(file.parent.name for file in folder.glob(f"*/{path.name}"))
    there = f", but in its folders {', '.join(below[:5])}{' …' if len(below) > 5 else ''}" if below else ""
    return f"no {path.name} in {folder}{there}"


def seal(value: dict[str, Any]) -> dict[str, Any]:
    """Add a digest of the value under the key "digest", so that any changed byte of its file is detected."""
    return {**value, "digest": _digest(value)}


def unseal(value: dict[str, Any], where: str) -> dict[str, Any]:
    """The value without its digest.   Raises ConfigError where the digest does not match."""
    rest = {key: entry for key, entry in value.items() if key != "digest"}
    check(
        value.get("digest") == _digest(rest),
        f"{where} differs from what was saved, its digest does not fit: restore it from a copy",
    )
    return rest


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def encode(value: Any) -> Any:
    """Dataclasses → dicts with their class name under "kind"; tuples → lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [encode(v) for v in value]
    return value


def decode(kind: Any, value: Any, where: str = "config") -> Any:
    """The inverse of `encode`: `kind` is a dataclass, a union of dataclasses, or the annotation of a plain field.

    Raises ConfigError on unknown or missing keys and on values of another type.
    """
    options = alternatives(kind)
    classes = {c.__name__: c for c in options if isinstance(c, type) and dataclasses.is_dataclass(c)}
    if isinstance(value, dict):
        name = value.get("kind", next(iter(classes), None))
        check(isinstance(name, str) and name in classes, f"{where}: kind {name!r} is none of {sorted(classes)}")
        return _decode_class(classes[name], value, where)
    if isinstance(value, list) and (items := _tuple_items(options)):
        inner, *rest = items
        count = None if rest == [...] else len(items)
        check(count in (None, len(value)), f"{where}: {value!r} has {len(value)} entries, and not {count}")
        return tuple(decode(inner, v, f"{where}[{i}]") for i, v in enumerate(value))
    check(any(_fits(value, option) for option in options), f"{where}: {value!r} is not a {_show(kind)}")
    return value


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Allowed types of a value: members of a union, classes in the `TABLE` of a base class, or `kind` itself."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):  # the latter where a member is a Literal
        return typing.get_args(kind)
    table = vars(kind).get("TABLE", ()) if isinstance(kind, type) else ()
    return tuple(table) or (kind,)


def _decode_class(kind: type, value: dict, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    for key in value.keys() - hints.keys() - {"kind"}:
        near = difflib.get_close_matches(str(key), hints, n=1)
        check(False, f"{where}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    fields = {k: decode(hints[k], v, f"{where}.{k}") for k, v in value.items() if k != "kind"}
    try:
        return kind(**fields)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:  # dataclasses of other packages raise other errors
        raise ConfigError(f"{where}: {error}") from None


def _tuple_items(options: tuple) -> tuple:
    """Types of the entries of a tuple: (int, ...) of any number, or one for each."""
    return next((typing.get_args(o) for o in options if typing.get_origin(o) is tuple), ())


def _fits(value: Any, option: Any) -> bool:
    if typing.get_origin(option) is typing.Literal:
        return value in typing.get_args(option)
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(option, type) and isinstance(value, option)


def _show(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind)) if isinstance(kind, type) else str(kind)
