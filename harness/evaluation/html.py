"""HTML from text: whatever this module did not make itself is escaped."""

import base64
import html
from collections.abc import Iterable
from pathlib import Path

from ..terminal import plain

VOID = {"img", "meta"}  # elements without content
SAFE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # no script runs, nothing is loaded


class Markup(str):
    """Text that is HTML already."""


def escaped(value: object) -> Markup:
    """A value as HTML; terminal codes, invisible characters and invalid bytes are spelled out."""
    return value if isinstance(value, Markup) else Markup(html.escape(plain(str(value), None)))


def joined(parts: Iterable[object]) -> Markup:
    """Values one after the other; None is nothing."""
    return Markup("".join(escaped(part) for part in parts if part is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element with its content. `scope_`, `for_` and the like lose the underscore at the end."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>" + ("" if name in VOID else f"{joined(children)}</{name}>"))


def page(title: str, style: str, *body: object) -> Markup:
    """A page in one file, readable on a phone, in which no script runs."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=SAFE),
        tag("title", title),
        tag("style", Markup(style)),
    )
    return Markup("<!DOCTYPE html>\n" + tag("html", head, tag("body", *body), lang="en") + "\n")


def data_uri(png: Path) -> str:
    """The bytes of a PNG file as an address."""
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode()
