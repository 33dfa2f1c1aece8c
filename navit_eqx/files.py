"""Files: written beside and renamed, and errors that name the file and the remedy."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import check

DRAFT = ".draft"  # suffix of a file that is being written
FULL = "free space there, or choose another folder"
REMEDIES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "make it writable, or choose another folder",
    errno.EPERM: "make it writable, or choose another folder",
    errno.EEXIST: "name a folder, this is a file",
    errno.ENOTDIR: "name a folder, this is a file",
    errno.EISDIR: "name a file, this is a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n 4096)",
}


class NotWritten(OSError):
    """A file that cannot be written; the message names it and the remedy."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside `path`, which takes its place at the end of the block. After an error `path` is as it was.

    Raises NotWritten where the draft cannot be written.
    """
    draft = path.with_name(path.name + DRAFT)
    try:
        if path.is_dir():  # before hours of work
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        yield draft
        draft.replace(path)
    except NotWritten:
        raise
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, unless it is there.   Raises NotWritten."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: Exception) -> NotWritten:
    """The error with the file that could not be written, its reason and the remedy."""
    number = number_of(error)
    reason = os.strerror(number) if number in REMEDIES else str(error).strip() or repr(error)
    return NotWritten(f"{path} cannot be written, {reason}" + (f": {REMEDIES[number]}" if number in REMEDIES else ""))


def with_remedy(error: OSError) -> str:
    """An error of the operating system in words, with its remedy."""
    number = number_of(error)
    return str(error) if isinstance(error, NotWritten) or number not in REMEDIES else f"{error}: {REMEDIES[number]}"


def number_of(error: Exception) -> int:
    """The number of an error of the operating system, which some libraries only quote in their message; 0: none."""
    quoted = (number for number in REMEDIES if os.strerror(number) in str(error))
    return getattr(error, "errno", None) or next(quoted, 0)


def check_overwrites_none(outputs: Iterable[Path | str], inputs: Iterable[Path | str]) -> None:
    """Raises ConfigError where a file that is written would take the place of one that is read."""
    read = {os.path.realpath(path): path for path in inputs}
    for path in outputs:
        check(
            os.path.realpath(path) not in read,
            f"{path} is one of the images that are read, and the output would take its place: choose another one",
        )
