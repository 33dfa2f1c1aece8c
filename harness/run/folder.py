"""Run folder: creation, lock, config.json."""

import fcntl
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from data.manifest import Manifest
from data.segments import prefix_of, remove
from navit_eqx.config import Backend
from navit_eqx.errors import ConfigError, check
from navit_eqx.files import DRAFT, make_folder, not_written, replacing
from navit_eqx.info import ModelInfo
from navit_eqx.serialize import decode, encode, read_json, seal, unseal
from navit_eqx.training.checkpoints import check_path
from navit_eqx.training.hosts import broadcast_from_main, is_main_process

from ..config import Config
from ..exit_codes import Locked

PACKAGES = ("jax", "jaxlib", "equinox", "optax", "orbax-checkpoint", "grain", "numpy", "pillow")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically.   Raises OSError with file and remedy."""
    with replacing(path) as draft:
        draft.write_text(json.dumps(value, indent=2) + "\n")


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with its digest atomically.   Raises OSError with file and remedy."""
    write_json(path, seal(json.loads(json.dumps(value))))


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote, without the digest.   Raises ConfigError where it is missing or damaged."""
    return unseal(read_json(path), str(path))


def read_results(path: Path) -> dict[str, Any]:
    """The same of results, which had no digest in earlier versions; a changed byte of its key changes nothing else."""
    return read_sealed(path) if "digest" in (value := read_json(path)) else value


def write_config(
    folder: Path,
    config: Config,
    preset: str,
    continued: Sequence[dict[str, Any]] = (),
    attention: Backend | None = None,
    info: ModelInfo | None = None,
    images: Sequence[Manifest] = (),
) -> None:
    """Write config.json: resolved configuration, versions, device, at which steps the run was resumed, what its model
    is, and which images it trains and validates on."""
    versions = {name: metadata.version(name) for name in PACKAGES}
    versions["python"] = platform.python_version()
    about = {"preset": preset, "command": sys.argv, "versions": versions, "commit": commit(), "continued": continued}
    saved = {"config": encode(config), **about, **machine(), "attention": encode(attention)}
    saved |= {"images": [manifest.digest for manifest in images]} | ({"info": encode(info)} if info else {})
    write_sealed(folder / "config.json", saved)


def machine() -> dict[str, Any]:
    """Device and compiler settings."""
    return {
        "device": jax.devices()[0].device_kind,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "compilation_cache": jax.config.values["jax_compilation_cache_dir"],
    }


def read_config(folder: Path) -> Config:
    """The configuration of a run.   Raises ConfigError."""
    return read_run(folder)[0]


def read_run(folder: Path) -> tuple[Config, list[dict[str, Any]]]:
    """The configuration of a run, and its continuations.   Raises ConfigError."""
    saved = read_saved(folder)
    check("config" in saved, f"{folder}/config.json is not that of a run: name the folder of a run")
    return decode(Config, saved["config"], f"{folder}/config.json"), saved.get("continued", [])


def read_saved(folder: Path) -> dict[str, Any]:
    """config.json of a run or of a saved model.   Raises ConfigError where it is missing or damaged."""
    return read_sealed(folder / "config.json")


def commit() -> str | None:
    """The commit of the code, if it is in a git repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


LOCK = "lock"
SUMMARY = "summary.json"  # what a finished run came to
BLOCKS = "blocks.jsonl"  # number of rows of each block


def acquire_run_dir(out: str, name: str, preset: str = "") -> tuple[Path, "RunLock | None"]:
    """The run folder; the main process chooses it and holds the lock.

    Whoever has the lock removes the shared memory that killed processes of the run left on this machine. Without a
    name, the folder is that of the preset or the next one that is free. Raises Locked.
    """
    chosen, held = open_run_dir(out, name or preset) if is_main_process() else (None, None)
    folder = Path(broadcast_from_main(str(chosen)))
    if left := remove(prefix_of(folder)):
        print(f"{left} segments of shared memory of a killed run are removed", flush=True)
    return folder, held


def open_run_dir(out: str, name: str) -> tuple[Path, "RunLock"]:
    """`out/name`, or the first of name-2, name-3, … that is new or unfinished, and its lock, held until closed.

    Raises Locked where another process uses the folder, ConfigError where it would lie elsewhere or nothing in it could
    be restored, OSError where it cannot be made.
    """
    check_name(name)
    check_path(Path(out, name).resolve())
    for suffix in ("", *(f"-{i}" for i in range(2, 10_000))):
        folder = Path(out) / f"{name}{suffix}"
        if is_taken(folder):
            continue
        make_folder(folder)
        held = lock(folder)
        if not is_taken(folder):  # another process may have finished it in between
            if suffix:
                print(f"{Path(out) / name} is finished or no run: this run is {folder}", flush=True)
            return folder, held
        held.close()
    raise ConfigError(f"{out} holds too many runs called {name}: choose another with --name")


def check_place(config: Config) -> None:
    """Raises ConfigError where a run cannot have the name that was given, or is finished: before images are read."""
    if config.name:
        check_name(config.name)
        check_path(Path(config.out, config.name).resolve())
        check_unfinished(Path(config.out) / config.name)


def check_unfinished(folder: Path) -> None:
    """Raises ConfigError where the run in a folder is finished."""
    check(
        not (is_taken(folder) and (folder / "config.json").exists()),
        f"{folder} is finished. Evaluate it: python evaluate.py {folder}. Train it on: the same command with --start "
        f"{folder} and another --name. Train anew: another --name",
    )


def check_name(name: str) -> None:
    """Raises ConfigError for a name that is not that of a folder inside --out."""
    inside = Path(name).name == name and name not in ("", "..") and "\0" not in name
    check(inside, f"--name {name!r} is not the name of a folder inside --out: give the path as --out")


def is_taken(folder: Path) -> bool:
    """Whether a folder has a finished run, or files that are not a run."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    files = {name for name in names - {LOCK, BLOCKS} if not name.endswith(DRAFT)}
    return bool(files) and ("config.json" not in files or SUMMARY in files)


@dataclass
class RunLock:
    """Locks of a run folder, which the kernel releases when the process ends: on its file `lock`, and on the folder
    itself, where the file system can, since a file can be deleted."""

    folder: Path
    held: list[int]
    """Open file descriptors: of the file, then of the folder."""

    def close(self) -> None:
        while self.held:
            os.close(self.held.pop())

    def check(self) -> None:
        """Raises Locked where file or folder were removed or replaced, so that another process may write there."""
        for descriptor, path in zip(self.held, (self.folder / LOCK, self.folder)):
            if not (path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())):
                raise Locked(
                    f"{path} was removed or replaced while this run used it, and another may have started there: "
                    "the same command continues from the last save"
                )


def lock(folder: Path) -> RunLock:
    """Lock a run folder.   Raises Locked, and OSError where the lock cannot be written."""
    path = folder / LOCK
    held = RunLock(folder, [])
    try:
        held.held.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
        held.held.append(os.open(folder, os.O_RDONLY))
        fcntl.flock(held.held[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock_folder(held.held[1])
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.ftruncate(held.held[0], 0)
        os.write(held.held[0], f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())
    except BlockingIOError:
        held.close()
        holder = path.read_text().strip() or "another process"
        raise Locked(f"{folder} is in use by {holder}: wait for it, or choose another --name") from None
    except OSError as error:
        held.close()
        raise not_written(path, error) from error
    return held


def lock_folder(descriptor: int) -> None:
    """Lock an open folder; nothing happens on file systems that only lock files.   Raises BlockingIOError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass
