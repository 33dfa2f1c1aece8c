"""Checkpoints of a run: written by Orbax while training continues, verified when restored.

<step>/             one training state, written by Orbax
<step>/saved.json   digests of every file and every leaf, written last; a step without it is incomplete
<step>.damaged/     a corrupt checkpoint, renamed when an older one was restored instead

Anything else in the folder is not ours, and stays.
"""

import glob
import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tensorstore
from jax.tree_util import keystr, tree_leaves_with_path
from jaxtyping import Array, UInt32
from orbax.checkpoint import v1 as ocp

from ..errors import ConfigError, check
from ..files import DRAFT, not_written, replacing
from .hosts import broadcast_from_main, is_main_process

RECORD = "saved.json"
DAMAGED = ".damaged"
TEMPORARY = re.compile(r"\d+\.orbax-checkpoint-tmp.*")
OURS = {RECORD, RECORD + DRAFT, "state", "orbax.checkpoint", "commit_success.txt", "_CHECKPOINT_METADATA"}
CLOUDS = ("gs", "s3", "az", "hf")  # /gs/… is a bucket to Orbax


def not_orbax(record: logging.LogRecord) -> bool:
    """Log filter that drops records of Orbax, which logs failed saves at length; `Checkpointer` reports one line."""
    return f"{os.sep}orbax{os.sep}" not in record.pathname


class CorruptCheckpoint(Exception):
    """A checkpoint whose files or leaves differ from their recorded digests."""


class Checkpointer:
    """The last `keep` checkpoints of a run. A failed save is reported by `say`, and older checkpoints are kept.

    With several processes, each writes its shards to the same folder; the main process verifies files and completes
    steps. Raises ConfigError for a folder from which nothing could be restored.
    """

    def __init__(self, folder: Path | str, keep: int, say: Callable[[str], None] = print):
        self.folder = Path(folder).resolve()  # TensorStore reads no `..`
        check_path(self.folder)
        self.keep = keep
        self.say = say
        self.thread = ThreadPoolExecutor(1)
        logging.getLogger("absl").addFilter(not_orbax)
        self.writing: Future | None = None
        for step in self._remove_incomplete():
            say(f"step {step} was not wholly saved: it is removed")

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *error: Any) -> None:
        self.finish()

    @property
    def steps(self) -> list[int]:
        """The saved steps, in ascending order."""
        return saved_steps(self.folder)

    def save(self, step: int, state: Any, metadata: dict[str, Any]) -> None:
        """Copy a state to the host and write it with JSON metadata in the background; waits for the previous save."""
        self.finish()
        try:
            record = {"leaves": fingerprint(state), "about": metadata}
            self.folder.mkdir(parents=True, exist_ok=True)
            response = ocp.save_async(str(self.folder / str(step)), state, overwrite=True)
            self.writing = self.thread.submit(self._complete, step, response, record)
        except Exception as error:  # Orbax does not document its exceptions
            self._failed(step, error)

    def finish(self) -> None:
        """Wait until the save in progress is on disk."""
        if self.writing is not None:
            self.writing.result()
            self.writing = None

    def restore(self, abstract_state: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest valid checkpoint: (state, metadata); None where nothing was saved.

        `abstract_state` has the shape, dtype and sharding of each leaf; the sharding may differ from that of the save.
        Corrupt checkpoints are reported and renamed.   Raises ConfigError where all are corrupt, or where the structure
        of the state differs.
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
                + "): restore one from a copy, or remove the folder to start again"
            )
        return None

    def _complete(self, step: int, response: Any, record: dict[str, Any]) -> None:
        try:
            response.result()
            if is_main_process():
                path = self.folder / str(step)
                read_back(path, record["leaves"])
                write_record(path, {"files": digests_of_files(path), **record})
                for old in self.steps[: -self.keep]:
                    (self.folder / str(old) / RECORD).unlink()
                    shutil.rmtree(self.folder / str(old))
        except Exception as error:
            self._failed(step, error)

    def _failed(self, step: int, error: Exception) -> None:
        self._remove_incomplete()
        last = f"step {self.steps[-1]} is the last one saved" if self.steps else "nothing is saved"
        reason = str(not_written(self.folder / str(step), error)).splitlines()[0]
        self.say(f"step {step} was not saved, {last}: {reason[:500]}")

    def _remove_incomplete(self) -> list[str]:
        """Remove folders of saves that failed or were killed; returns the names that are steps."""
        if not is_main_process() or not self.folder.is_dir():
            return []
        complete = {str(step) for step in self.steps}
        incomplete = [path for path in self.folder.iterdir() if path.name not in complete and is_rest(path)]
        for path in incomplete:
            shutil.rmtree(path, ignore_errors=True)
        return sorted(path.name for path in incomplete if path.name.isdecimal())

    def _put_aside(self, step: int) -> None:
        if is_main_process():
            target = self.folder / f"{step}{DAMAGED}"
            shutil.rmtree(target, ignore_errors=True)
            (self.folder / str(step)).rename(target)


def is_rest(path: Path) -> bool:
    """Whether a folder is what Orbax left of a save, by name and content: a user's own folders are not."""
    if not path.is_dir() or path.is_symlink():
        return False
    step = path.name.isdecimal() and OURS.issuperset(inner.name for inner in path.iterdir())
    return step or bool(TEMPORARY.fullmatch(path.name))


def check_path(folder: Path) -> None:
    """Raises ConfigError for a path that Orbax 0.12 and TensorStore read as another one, or as a pattern of paths."""
    text, names = str(folder), folder.parts
    pattern = glob.escape(text) != text or "\\" in text
    other = names[1] in CLOUDS or any(name.endswith(":") for name in names)
    is_text = text.encode(errors="ignore").decode() == text
    check(
        is_text and not pattern and not other,
        f"nothing that is saved in {text!r} could be restored: choose a path (--out, --name) without * ? [ and \\, "
        "without ':' at the end of a name, and in UTF-8",
    )


def saved_steps(folder: Path) -> list[int]:
    """The saved steps in a folder of checkpoints, in ascending order."""
    return sorted(int(path.parent.name) for path in folder.glob(f"*/{RECORD}") if path.parent.name.isdecimal())


def load(path: Path, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
    """(state, metadata) of one checkpoint.

    Raises CorruptCheckpoint, or ConfigError where `abstract_state` has another structure.
    """
    wrong = broadcast_from_main(damage(path) if is_main_process() else None)
    if wrong:
        raise CorruptCheckpoint(wrong)
    record = read_record(path)
    check_structure(record["leaves"], abstract_state, path)
    try:
        state = ocp.load(str(path), abstract_state)
    except ValueError as error:  # the same leaves in another tree: a version of ours with fields that hold nothing
        if "structure" not in str(error):
            raise
        raise ConfigError(
            f"{path} does not fit this run: it was saved by a version whose parts have other fields; continue with "
            "that version, or start a new run (--name)"
        ) from error
    marks = fingerprint(state)
    for name, mark in record["leaves"].items():
        if marks[name] != mark:
            raise CorruptCheckpoint(f"{path}: {name} is not what it was in training")
    return state, record["about"]


def damage(path: Path) -> str:
    """The first file of a checkpoint that is missing or differs from its digest, as a message; empty for none."""
    try:
        record = read_record(path)
    except CorruptCheckpoint as error:
        return str(error)
    found = digests_of_files(path)
    for name, digest in record["files"].items():
        if found.get(name) != digest:
            return f"{path / name} {'differs from what was saved' if name in found else 'is missing'}"
    return ""


# the record: digests and metadata of a checkpoint ----------------------------------------------------


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write the record atomically (flush, then rename), with its own digest."""
    with replacing(path / RECORD) as draft, draft.open("w") as file:
        json.dump({**record, "sha256": _sha256(record)}, file)
        file.flush()
        os.fsync(file.fileno())


def read_record(path: Path) -> dict[str, Any]:
    """The record of a checkpoint.   Raises CorruptCheckpoint where it cannot be read or its digest differs."""
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
    """SHA-256 of every file below `path` except the record, by relative name."""
    digests = {}
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != RECORD:
            with file.open("rb") as opened:
                digests[str(file.relative_to(path))] = hashlib.file_digest(opened, "sha256").hexdigest()
    return digests


def read_back(path: Path, marks: dict[str, str]) -> None:
    """Read the smallest leaf of a checkpoint from disk.   Raises CorruptCheckpoint where it is not what was saved."""
    store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{path}/state/"}}
    name = min(marks, key=lambda name: math.prod(json.loads(re.sub(r"^\w+|\w+$", "", marks[name]))))
    try:
        leaf = tensorstore.open({"driver": "zarr3", "kvstore": {**store, "path": f"{name}/"}}).result().read().result()
    except ValueError as error:
        raise CorruptCheckpoint(f"{path}: {name} cannot be read back, {error}") from None
    if fingerprint({name: jnp.asarray(leaf)})[name] != marks[name]:
        raise CorruptCheckpoint(f"{path}: {name} is not what was saved when it is read back")


def check_structure(saved: dict[str, str], abstract_state: Any, path: Path) -> None:
    """Raises ConfigError, naming the first leaf that is missing, unexpected, or of another dtype or shape."""
    want = {name: kind(leaf) for name, leaf in named(abstract_state)}
    have = {name: mark.rpartition(" ")[0] for name, mark in saved.items()}
    for name in sorted(want.keys() | have.keys()):
        if have.get(name) != want.get(name):
            raise ConfigError(
                f"{path} does not fit this run: {name} is {have.get(name, 'missing')} there, "
                f"{want.get(name, 'missing')} here; continue with the code and configuration that saved it"
            )


# digests of leaves: computed on the device before the save and after the restore ---------------------


def fingerprint(state: Any) -> dict[str, str]:
    """dtype, shape and digest of each leaf, by dotted name."""
    marks = jax.device_get(_digests(state))
    return {name: f"{kind(leaf)} {mark[0]:08x}{mark[1]:08x}" for (name, leaf), mark in zip(named(state), marks)}


def named(tree: Any) -> list[tuple[str, Any]]:
    """(dotted name, leaf) of each leaf."""
    return [(keystr(path, simple=True, separator="."), leaf) for path, leaf in tree_leaves_with_path(tree)]


def kind(leaf: Any) -> str:
    """dtype[shape], as in `float32[3, 4]`."""
    return f"{leaf.dtype}{list(leaf.shape)}"


@jax.jit
def _digests(state: Any) -> list[UInt32[Array, "2"]]:
    return [digest(leaf) for leaf in jax.tree.leaves(state)]


def digest(leaf: Array) -> UInt32[Array, "2"]:
    """Σ over elements of mix(bits XOR mix(index + seed)), mod 2³², for two seeds.

    Integer sums do not depend on their order, so the digest is the same for any number of devices and hosts and any
    sharding, and no leaf is gathered. `mix` is a bijection: one changed element always changes both sums; other
    corruption is missed with probability 2⁻⁶⁴. The digest detects accidents, not attacks.
    """
    bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * min(leaf.dtype.itemsize, 4)}")).astype(jnp.uint32)
    place = jnp.zeros(bits.shape, jnp.uint32)
    for axis, size in enumerate(bits.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    sums = [mix(bits ^ mix(place + jnp.uint32(seed))).sum(dtype=jnp.uint32) for seed in (0x9E3779B9, 0x7F4A7C15)]
    return jnp.stack(sums)


def mix(x: Array) -> Array:
    """A bijection of 32-bit integers in which each output bit depends on all input bits (finalizer of MurmurHash3)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> jnp.uint32(shift))) * jnp.uint32(factor)
    return x ^ (x >> jnp.uint32(16))
