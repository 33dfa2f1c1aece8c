"""Safe standard output and error: plain text alone, and failure to write does not end the run."""

import io
import os
import sys
from typing import Any

LONGEST = 4_000  # characters per line; names of classes and files, and errors of libraries, may be longer


class SafeStream(io.TextIOBase):
    """A stream that escapes terminal codes, truncates long lines, and goes silent after failure to write.

    Names of classes and files and errors of libraries are untrusted text. After a full disk or a closed pipe the run
    continues without output.
    """

    def __init__(self, inner: Any):
        self.inner = inner
        self.silent = False

    def write(self, text: str) -> int:
        if not self.silent:
            try:
                self.inner.write(plain(text))
            except (OSError, ValueError):
                self._go_silent()
        return len(text)

    def flush(self) -> None:
        if not self.silent:
            try:
                self.inner.flush()
            except (OSError, ValueError):
                self._go_silent()

    def _go_silent(self) -> None:
        """Redirect to /dev/null, since Python flushes the stream at exit."""
        self.silent = True
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.inner.fileno())
        except (OSError, ValueError, io.UnsupportedOperation):
            pass

    def isatty(self) -> bool:
        return not self.silent and self.inner.isatty()

    def fileno(self) -> int:
        return self.inner.fileno()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.encoding


def plain(text: str) -> str:
    """Text with terminal codes and invalid bytes escaped and lines truncated to LONGEST."""
    lines = (line if len(line) <= LONGEST else f"{line[:LONGEST]} …" for line in text.split("\n"))
    return "\n".join("".join(c if c.isprintable() or c == "\t" else _escaped(c) for c in line) for line in lines)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()


def make_safe() -> None:
    """Wrap standard output and error of this process."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, SafeStream):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, SafeStream(stream))
