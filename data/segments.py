"""Shared memory and semaphores of data workers, named by run, so that the next trainer removes those of a killed one.

Python removes them when a program ends, by a process of its own. Where a scheduler or a lack of memory kills that
process too, they would stay until the machine restarts.
"""

import hashlib
import secrets
from contextlib import suppress
from multiprocessing import shared_memory, synchronize
from pathlib import Path

PLACE = Path("/dev/shm")  # of Linux; other systems do not list them


def prefix_of(folder: Path) -> str:
    """The beginning of the names of a run, from the identity of its folder; macOS allows 31 characters in all."""
    there = folder.stat()
    identity = f"{folder.resolve()} {there.st_dev} {there.st_ino}"
    return f"navit-{hashlib.sha256(identity.encode(errors='surrogateescape')).hexdigest()[:12]}-"


def name_by(prefix: str) -> None:
    """Begin the names of segments and semaphores that this process makes from now on.

    Python 3.11 to 3.14 have no public way, and Grain 0.2 none at all. joblib, which scikit-learn imports, names all
    semaphores of a process in its own way: what is set here comes after it.
    """
    name = lambda: f"/{prefix}{secrets.token_hex(4)}"
    shared_memory._make_filename = name  # pyright: ignore[reportAttributeAccessIssue]
    synchronize.SemLock._make_name = staticmethod(name)  # pyright: ignore[reportAttributeAccessIssue]


def remove(prefix: str) -> int:
    """Remove what a run that no longer lives has left; the number of objects."""
    left = [*PLACE.glob(f"{prefix}*"), *PLACE.glob(f"sem.{prefix}*")] if prefix else []
    for path in left:
        with suppress(OSError):
            path.unlink()
    return len(left)
