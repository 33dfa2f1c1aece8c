"""A run that was interrupted goes on in its folder: who may write there, what may have changed, where it stands."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from data.errors import DataError
from data.lessons import Lesson
from data.manifest import Manifest
from navit_eqx.config_json import ConfigError, check, encode
from navit_eqx.hosts import first, told
from navit_eqx.saver import Saver
from reference.types import Row

from .command import Locked, Stopped
from .config import FREELY, NEVER, ON_REQUEST, Config
from .report import read_run

LOCK = "lock"
BLOCKS = "blocks.jsonl"  # how many rows each has
RESTARTS = 3  # of data workers


def claim(out: str, name: str) -> tuple[Path, TextIO | None]:
    """The folder of the run; of several processes the first chooses it and holds the lock.   Raises Locked."""
    folder, held = find(out, name) if first() else (None, None)
    return Path(told(str(folder))), held


def find(out: str, name: str) -> tuple[Path, TextIO]:
    """`out/name`, or the first of name-2, name-3, … that is new or unfinished, and the lock on it, held while open.

    Raises Locked where another process trains there.
    """
    for suffix in ("", *(f"-{i}" for i in range(2, 10_000))):
        folder = Path(out) / f"{name}{suffix}"
        if is_taken(folder):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        held = lock(folder)
        if not is_taken(folder):  # it may have ended just now
            return folder, held
        held.close()
    raise ConfigError(f"{out} holds too many runs called {name}: choose another with --name")


def is_taken(folder: Path) -> bool:
    """By a finished run, or by something that is no run."""
    there = {path.name for path in folder.iterdir()} - {LOCK, BLOCKS} if folder.is_dir() else set()
    return bool(there) and ("config.json" not in there or "summary.json" in there)


def lock(folder: Path) -> TextIO:
    """The kernel gives it back when the process ends, however it ends.   Raises Locked."""
    file = (folder / LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise Locked(f"{folder} is in use by {holder}: wait for it, or choose another --name") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    file.flush()
    return file


def differences(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """Keys of which the values differ, with both values; None where a side has no such key."""
    a, b = flat(encode(before)), flat(encode(now))
    return {key: (a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one with dotted keys."""
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def rule_for(key: str) -> set[str]:
    """FREELY, ON_REQUEST or NEVER: the one that names the key, or else the nearest key above it."""
    while key:
        for rule in (FREELY, ON_REQUEST, NEVER):
            if key in rule:
                return rule
        key = key.rpartition(".")[0]
    return NEVER


def reconcile(folder: Path, config: Config) -> list[str]:
    """What has changed since the run in `folder` was interrupted, in words.

    Raises ConfigError where it cannot go on so.
    """
    changed = differences(read_run(folder)[0], config)
    words = {key: f"{key} ({a!r} there, {b!r} here)" for key, (a, b) in changed.items()}
    never = [words[key] for key in changed if rule_for(key) is NEVER]
    if never:
        raise ConfigError(
            f"{folder} holds an unfinished run that differs in {', '.join(never)}: "
            "give the same values to continue it, or another --name to begin anew"
        )
    asked = [words[key] for key in changed if rule_for(key) is ON_REQUEST]
    if asked and not config.override:
        raise ConfigError(
            f"{folder} holds an unfinished run that differs in {', '.join(asked)}: "
            "--override True continues it so, the same values continue it as it was, another --name begins anew"
        )
    return list(words.values())


def take_up(
    folder: Path, config: Config, manifest: Manifest, start: int, position: dict[str, Any], changed: list[str]
) -> list[dict[str, Any]]:
    """Forget what was logged after step `start`, and say where the run goes on. Returns its continuations so far.

    Raises DataError where the images are not the same, ConfigError where the run is too long already.
    """
    if "data" in position and position["data"] != manifest.digest:
        raise DataError(
            f"the images in {manifest.where} are not those that {folder} was trained on: names, sizes or labels "
            "differ. Give it the same images, or begin anew with another --name"
        )
    check(start <= config.steps, f"{folder} is at step {start} already: steps={config.steps} must not be less")
    for name in ("metrics.jsonl", "refused.jsonl") if first() else ():
        cut(folder / name, start)
    if "data" not in position:  # it begins, perhaps at a step of another run
        return []
    for words in changed:
        print(f"changed: {words}")
    print(f"continuing {folder} from step {start}", flush=True)
    return [*read_run(folder)[1], {"step": start, "changed": changed}]


def leave(saver: Saver, step: int) -> NoReturn:
    """Raises Stopped once the state is on disk, OSError if it could not be written."""
    saver.finish()
    last = max(told(saver.steps), default=0)
    if last != step:
        raise OSError(f"stopped after step {step}, which is not saved; the same command continues from step {last}")
    raise Stopped(f"step {step} is saved; the same command continues from there")


def cut(path: Path, step: int) -> None:
    """Drop the lines of a JSON-lines file that were written after `step`, and what is no whole line."""
    if path.exists():
        kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
        draft = path.with_name(f"{path.name}.draft")
        draft.write_text("".join(f"{line}\n" for line in kept))
        draft.replace(path)


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


class Stream(Iterator[Row | Lesson]):
    """Batches from `position` on. Where a worker process dies, all are started again at the same batch.

    Raises OSError after RESTARTS of them. `close()` it.
    """

    def __init__(self, begin: Callable[..., Any], position: int):
        self.begin = begin
        self.position = position
        self.left = RESTARTS
        self.batches = begin(start=position)

    def __next__(self) -> Row | Lesson:
        while True:
            try:
                batch = next(self.batches)
            except RuntimeError as error:
                if "terminated unexpectedly" not in str(error):
                    raise
                self.restart()
            else:
                self.position += 1
                return batch

    def restart(self) -> None:
        self.close()
        if not self.left:
            raise OSError(
                f"data workers died {RESTARTS + 1} times, the last at batch {self.position}, perhaps for want of "
                "memory: try fewer --data.workers; the same command continues from the last save"
            ) from None
        self.left -= 1
        print(f"a data worker died at batch {self.position}: all are started again", flush=True)
        self.batches = self.begin(start=self.position)

    def close(self) -> None:
        self.batches.close()
