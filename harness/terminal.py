"""Safe standard output and error: plain text alone, and failure to write does not end the run."""

import io
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from navit_eqx.files import not_written

LONGEST = 4_000  # characters per line; names of classes and files, and errors of libraries, may be longer
WIDTH = 80  # columns of tables and of progress lines
ERASE = "\r\x1b[2K"  # the line in place


class SafeStream(io.TextIOBase):
    """A stream that escapes terminal codes, truncates long lines, and goes silent after failure to write.

    Names of classes and files and errors of libraries are untrusted text. After a full disk or a closed pipe the run
    continues without output.
    """

    def __init__(self, inner: Any):
        self.inner = inner
        self.silent = False
        self.error: Exception | None = None
        """Why it is silent."""
        self.written = 0.0
        """Time of the last write."""
        self.shown = ""
        """The line in place, which the next write erases."""
        self.at_start = True
        """Whether the last line is complete."""
        self.lock = threading.RLock()

    def write(self, text: str) -> int:
        return self.write_plain(text, plain(text))

    def write_plain(self, text: str, safe: str) -> int:
        """Write `safe`: `text` made safe for a terminal."""
        with self.lock:
            self.status("")
            self._write(safe)
            self.written = time.perf_counter()
            self.at_start = text.endswith("\n") if text else self.at_start
        return len(text)

    def status(self, text: str) -> None:
        """Show a line in place of the one shown before, on a terminal only; an empty text erases it."""
        with self.lock:
            if not self.in_place or not self.at_start or text == self.shown:
                return
            columns = min(WIDTH, shutil.get_terminal_size().columns) - 1
            self._write(ERASE + plain(text)[:columns])
            self.shown = text
            self.flush()

    @property
    def in_place(self) -> bool:
        """Whether lines can be shown in place."""
        return self.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def _write(self, text: str) -> None:
        if not self.silent:
            try:
                self.inner.write(text)
            except (OSError, ValueError) as error:
                self._go_silent(error)

    def flush(self) -> None:
        if not self.silent:
            try:
                self.inner.flush()
            except (OSError, ValueError) as error:
                self._go_silent(error)

    def _go_silent(self, error: Exception) -> None:
        """Redirect to /dev/null, since Python flushes the stream at exit."""
        self.silent, self.error = True, error
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


def plain(text: str, longest: int | None = LONGEST) -> str:
    """Text with terminal codes and invalid bytes escaped and lines truncated to `longest` characters."""
    lines = (line if longest is None or len(line) <= longest else f"{line[:longest]} …" for line in text.split("\n"))
    return "\n".join("".join(c if c.isprintable() or c == "\t" else _escaped(c) for c in line) for line in lines)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()


def clock(seconds: float) -> str:
    """m:ss, or h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def print_whole(line: str) -> None:
    """Print a line that is not truncated, for programs that read it."""
    if isinstance(sys.stdout, SafeStream):
        sys.stdout.write_plain(f"{line}\n", f"{plain(line, None)}\n")
    else:
        print(line)


def is_read() -> bool:
    """Whether standard output has a reader still: `program | head` closes it."""
    return not isinstance(getattr(sys.stdout, "error", None), BrokenPipeError)


def check_written() -> None:
    """Raises NotWritten where standard output could not be written, as on a full disk."""
    if sys.stdout is not None:
        sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    if error is not None and is_read():
        raise not_written(Path("standard output"), error)


def make_safe() -> None:
    """Wrap standard output and error of this process."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, SafeStream):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, SafeStream(stream))
