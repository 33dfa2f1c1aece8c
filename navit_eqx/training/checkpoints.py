"""States of a run on disk: written by Orbax while training goes on, verified when read.

<step>/             one state, as Orbax writes it
<step>/saved.json   written last: a digest of each file and of each leaf; what has none is not a saved step
<step>.damaged/     one that is not what was saved, put aside when an older one was used instead
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path
from jaxtyping import Array, UInt32
from orbax.checkpoint import v1 as ocp

from ..errors import ConfigError
from .hosts import broadcast_from_main, is_main_process

RECORD = "saved.json"
DAMAGED = ".damaged"


def not_orbax(record: logging.LogRecord) -> bool:
    """A filter of log records: Orbax logs a failed save at length; here it is one line."""
    return f"{os.sep}orbax{os.sep}" not in record.pathname


class CorruptCheckpoint(Exception):
    """A saved step that is not what was saved."""


class Checkpointer:
    """The last `keep` states of a run. One that cannot be written is reported; older ones stay as they are.

    Of several processes each writes its share into the same folder; the first judges files and completes steps.
    """

    def __init__(self, folder: Path | str, keep: int, say: Callable[[str], None] = print):
        self.folder = Path(folder).absolute()
        self.keep = keep
        self.say = say
        self.thread = ThreadPoolExecutor(1)
        logging.getLogger("absl").addFilter(not_orbax)
        self.writing: Future | None = None
        for step in self._remove_rests():
            say(f"step {step} was not wholly saved: it is removed")

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *error: Any) -> None:
        self.finish()

    @property
    def steps(self) -> list[int]:
        """Those on disk, in order."""
        return saved_steps(self.folder)

    def save(self, step: int, state: Any, about: dict[str, Any]) -> None:
        """Copy a state to the host and begin to write it, with what belongs to it, after the one before is written."""
        self.finish()
        try:
            record = {"leaves": fingerprint(state), "about": about}
            self.folder.mkdir(parents=True, exist_ok=True)
            response = ocp.save_async(str(self.folder / str(step)), state, overwrite=True)
            self.writing = self.thread.submit(self._complete, step, response, record)
        except Exception as error:  # Orbax does not say which
            self._failed(step, error)

    def finish(self) -> None:
        """Wait until what was begun is on disk."""
        if self.writing is not None:
            self.writing.result()
            self.writing = None

    def restore(self, abstract_state: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest state that is what was saved, and what belongs to it; None where nothing was saved.

        `abstract_state` tells shape, dtype and sharding of each leaf; the sharding may be another than it was. Damaged steps
        are reported and put aside.   Raises ConfigError if all are damaged, or if the state has another structure.
        """
        damaged: dict[int, str] = {}
        for step in reversed(broadcast_from_main(self.steps)):
            try:
                found = load(self.folder / str(step), abstract_state)
            except CorruptCheckpoint as error:
                damaged[step] = str(error)
                continue
            for bad, reason in damaged.items():
                self.say(f"step {bad} is damaged ({reason}), step {step} is used instead")
                self._put_aside(bad)
            return found
        if damaged:
            raise ConfigError(
                f"no step in {self.folder} is what was saved ("
                + "; ".join(f"{step}: {reason}" for step, reason in damaged.items())
                + "): restore one from a copy, or remove the folder to begin anew"
            )
        return None

    def _complete(self, step: int, response: Any, record: dict[str, Any]) -> None:
        try:
            response.result()
            if is_main_process():
                path = self.folder / str(step)
                write_record(path, {"files": digests_of_files(path), **record})
                for old in self.steps[: -self.keep]:
                    (self.folder / str(old) / RECORD).unlink()
                    shutil.rmtree(self.folder / str(old))
        except Exception as error:
            self._failed(step, error)

    def _failed(self, step: int, error: Exception) -> None:
        self._remove_rests()
        last = f"step {self.steps[-1]} is the last one saved" if self.steps else "nothing is saved"
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        self.say(f"step {step} was not saved, {last}: {reason[:300]}")

    def _remove_rests(self) -> list[str]:
        """Of saves that failed or were killed; those that seemed to be steps."""
        if not is_main_process() or not self.folder.is_dir():
            return []
        whole = {str(step) for step in self.steps}
        rests = [path for path in self.folder.iterdir() if path.name not in whole and path.suffix != DAMAGED]
        for path in rests:
            shutil.rmtree(path, ignore_errors=True)
        return sorted(path.name for path in rests if path.name.isdecimal())

    def _put_aside(self, step: int) -> None:
        if is_main_process():
            target = self.folder / f"{step}{DAMAGED}"
            shutil.rmtree(target, ignore_errors=True)
            (self.folder / str(step)).rename(target)


def saved_steps(folder: Path) -> list[int]:
    """Those in a folder of saves, in order."""
    return sorted(int(path.parent.name) for path in folder.glob(f"*/{RECORD}") if path.parent.name.isdecimal())


def load(path: Path, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
    """A state and what belongs to it.   Raises Damaged, or ConfigError where `abstract_state` has another structure."""
    wrong = broadcast_from_main(damage(path) if is_main_process() else None)
    if wrong:
        raise CorruptCheckpoint(wrong)
    record = read_record(path)
    check_structure(record["leaves"], abstract_state, path)
    state = ocp.load(str(path), abstract_state)
    marks = fingerprint(state)
    for name, mark in record["leaves"].items():
        if marks[name] != mark:
            raise CorruptCheckpoint(f"{path}: {name} is not what it was in training")
    return state, record["about"]


def damage(path: Path) -> str:
    """What is wrong with the files of a step, in words; empty where they are what was saved."""
    try:
        record = read_record(path)
    except CorruptCheckpoint as error:
        return str(error)
    found = digests_of_files(path)
    for name, digest in record["files"].items():
        if found.get(name) != digest:
            return f"{path / name} {'differs from what was saved' if name in found else 'is missing'}"
    return ""


# the record: what was saved ---------------------------------------------------------------------------


def write_record(path: Path, record: dict[str, Any]) -> None:
    """On disk before it has its name; it carries a digest of its own."""
    draft = path / f"{RECORD}.draft"
    with draft.open("w") as file:
        json.dump({**record, "sha256": _sha256(record)}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path / RECORD)


def read_record(path: Path) -> dict[str, Any]:
    """Raises Damaged."""
    try:
        record = json.loads((path / RECORD).read_text())
        digest = record.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError):
        raise CorruptCheckpoint(f"{path / RECORD} cannot be read") from None
    if digest != _sha256(record):
        raise CorruptCheckpoint(f"{path / RECORD} differs from what was saved")
    return record


def _sha256(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def digests_of_files(path: Path) -> dict[str, str]:
    """SHA-256 of every file below `path` but the record, by relative name."""
    digests = {}
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != RECORD:
            with file.open("rb") as opened:
                digests[str(file.relative_to(path))] = hashlib.file_digest(opened, "sha256").hexdigest()
    return digests


def check_structure(saved: dict[str, str], abstract_state: Any, path: Path) -> None:
    """Raises ConfigError, naming the first leaf that is missing, new, or of another dtype or shape."""
    want = {name: kind(leaf) for name, leaf in named(abstract_state)}
    have = {name: mark.rpartition(" ")[0] for name, mark in saved.items()}
    for name in sorted(want.keys() | have.keys()):
        if have.get(name) != want.get(name):
            raise ConfigError(
                f"{path} does not fit this run: {name} is {have.get(name, 'missing')} there, "
                f"{want.get(name, 'missing')} here; continue with the code and configuration that saved it"
            )


# digests of leaves: from the device before the save to the device after the restore -------------------


def fingerprint(state: Any) -> dict[str, str]:
    """For each leaf, by dotted name, its dtype, shape and digest."""
    marks = jax.device_get(_digests(state))
    return {name: f"{kind(leaf)} {mark[0]:08x}{mark[1]:08x}" for (name, leaf), mark in zip(named(state), marks)}


def named(tree: Any) -> list[tuple[str, Any]]:
    """Leaves by dotted name."""
    return [(keystr(path, simple=True, separator="."), leaf) for path, leaf in tree_leaves_with_path(tree)]


def kind(leaf: Any) -> str:
    """dtype[shape], as in `float32[3, 4]`."""
    return f"{leaf.dtype}{list(leaf.shape)}"


@jax.jit
def _digests(state: Any) -> list[UInt32[Array, "2"]]:
    return [digest(leaf) for leaf in jax.tree.leaves(state)]


def digest(leaf: Array) -> UInt32[Array, "2"]:
    """Σ over elements of mix(bits XOR mix(place + seed)), mod 2³², for two seeds.

    Sums of integers have no order, so the digest is the same on any number of devices and hosts, whatever the
    sharding, and no leaf is gathered. `mix` is a bijection: one changed element always changes both sums; any other
    damage passes with a chance of 2⁻⁶⁴. It guards against accidents, not against intent.
    """
    bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * min(leaf.dtype.itemsize, 4)}")).astype(jnp.uint32)
    place = jnp.zeros(bits.shape, jnp.uint32)
    for axis, size in enumerate(bits.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    sums = [mix(bits ^ mix(place + jnp.uint32(seed))).sum(dtype=jnp.uint32) for seed in (0x9E3779B9, 0x7F4A7C15)]
    return jnp.stack(sums)


def mix(x: Array) -> Array:
    """A bijection of 32-bit numbers in which each bit depends on all (the finaliser of MurmurHash3)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> jnp.uint32(shift))) * jnp.uint32(factor)
    return x ^ (x >> jnp.uint32(16))
