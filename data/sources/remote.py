"""Files behind a URL: object storage and whatever else fsspec reads.

    --data.root s3://bucket/set      also gs://, abfs://, https://, memory://, file://, with the package of each

A `RemotePath` has the few methods of `pathlib.Path` that sources of shards need. Each read is one request for one range
of bytes. What goes wrong becomes an OSError with a sentence, as for a file on disk.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EACCES, EIO, ENOENT
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..errors import DataError, DataMissing
from .source import existing

TRIES, PAUSE = 3, 0.5  # of a read that failed for another reason than a missing object or permission; seconds
VERSIONS = ("ETag", "etag", "version_id", "LastModified", "last_modified", "mtime", "updated", "created")
PROTOCOL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+(::[a-zA-Z][a-zA-Z0-9+.-]+)*://")


class Stat(NamedTuple):
    """Size and version of an object, under the names of `os.stat_result`."""

    st_size: int
    st_mtime_ns: int
    """A number that changes with the object: from its time, or its tag."""


@dataclass(frozen=True, order=True)
class RemotePath:
    """A file or folder behind a URL; travels to workers as its URL."""

    url: str

    def __str__(self) -> str:
        return re.sub(r"//[^/@]*@", "//", self.url)  # a name and a password are not printed

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url.rstrip('/')}/{name}")

    def __getstate__(self) -> dict[str, str]:
        return {"url": self.url}

    @property
    def name(self) -> str:
        return PurePosixPath(self._inside).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def _inside(self) -> str:
        return self.url.partition("://")[2]

    def resolve(self) -> "RemotePath":
        return self

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """File system, which fsspec keeps for the process, and the path in it."""
        try:
            import fsspec
        except ImportError as error:
            raise DataError(f'{self} is read by fsspec: pip install -e ".[remote]"') from error
        try:
            return fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:  # no package for this protocol, or no such protocol
            raise DataError(f"{self} cannot be read: {sentence(error)}") from error

    def is_file(self) -> bool:
        system, path = self._opened
        with named(self):
            return system.isfile(path)

    def is_dir(self) -> bool:
        system, path = self._opened
        with named(self):
            return system.isdir(path)

    def iterdir(self) -> Iterator["RemotePath"]:
        """Raises OSError where it is no folder."""
        system, path = self._opened
        with named(self):
            found = system.ls(path, detail=False)
        names = (PurePosixPath(str(entry)).name for entry in found if str(entry).strip("/") != str(path).strip("/"))
        return (self / name for name in names)

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """The files here that match a pattern without folders; none where there is no folder."""
        return (path for path in (self.iterdir() if self.is_dir() else ()) if PurePosixPath(path.name).match(pattern))

    def folders(self) -> list["RemotePath"]:
        """Folders here, sorted, without hidden ones."""
        return sorted(path for path in self.iterdir() if path.is_dir() and not path.name.startswith("."))

    def stat(self) -> Stat:
        """Raises OSError."""
        system, path = self._opened
        with named(self):
            info = system.info(path)
        version = [str(info[key]) for key in VERSIONS if info.get(key) is not None]
        return Stat(int(info["size"] or 0), int.from_bytes(sha256(repr(version).encode()).digest()[:7], "big"))

    def open(self, mode: str = "rb") -> Any:
        """A file that reads ahead, for reading from end to end.   Raises OSError."""
        system, path = self._opened
        with named(self):
            return system.open(path, mode)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of a range; fewer where the file ends.   Raises OSError."""
        system, path = self._opened
        for number in range(1, TRIES + 1):
            try:
                with named(self):
                    return system.cat_file(path, start=offset, end=offset + size)
            except (FileNotFoundError, PermissionError):
                raise
            except OSError:
                if number == TRIES:
                    raise
                time.sleep(PAUSE * 2**number)
        raise AssertionError("unreachable")


Location = Path | RemotePath
"""A file or folder on disk or behind a URL."""


def relative(path: Location, root: Location) -> str:
    """A path below a root."""
    return str(PurePosixPath(str(path)).relative_to(PurePosixPath(str(root))))


@contextmanager
def named(path: RemotePath) -> Iterator[None]:
    """What a file system raises, as an OSError with a sentence; clients of object storage have exceptions of any
    kind."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(ENOENT, "No such object", str(path)) from error
    except PermissionError as error:
        raise PermissionError(EACCES, "Permission denied: check the credentials", str(path)) from error
    except Exception as error:
        raise OSError(EIO, sentence(error), str(path)) from error


def sentence(error: Exception) -> str:
    """An exception in a line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def located(root: str) -> Location:
    """The folder `root`, on disk or behind a URL.   Raises DataMissing where there is none, and DataError where it
    cannot be asked."""
    if not is_url(root):
        return existing(root)
    path = RemotePath(root)
    try:
        if path.is_dir():
            return path
    except OSError as error:
        raise DataError(f"data.root={path} cannot be read: {error.strerror}") from error
    raise DataMissing(f"data.root={path} is no folder with files: check bucket, path and credentials")


def is_url(root: str) -> bool:
    """Whether a root names a protocol."""
    return bool(PROTOCOL.match(root))


def read_range(path: Location, offset: int, size: int) -> bytes:
    """Bytes of a range; fewer where the file ends.   Raises OSError."""
    if isinstance(path, RemotePath):
        return path.read(offset, size)
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
