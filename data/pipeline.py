"""Rows → shard of this host → batches → worker processes, by Grain."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np
from absl import flags
from jaxtyping import Int, Num

from reference.dealing import deal

from .segments import name_by
from .sources.decode import limit_pillow

THREADS = 1  # reading threads per process: two slow each other down, the 16 of Grain hold gigabytes of images
AHEAD = 3  # batches that this thread reads ahead


@runtime_checkable
class Rows(Protocol):
    """Rows by index, with or without targets."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


def rows_each(rows: Rows) -> int:
    """Rows of one element: 1, or the length of a leading axis that elements of several rows have."""
    return getattr(rows, "rows_each", 1)


Costs = Callable[[int, int], Num[np.ndarray, " n"]]  # of n rows of the stream, from a first one on


@dataclass
class HostShard:
    """The rows of one host: batch s is rows s·B … (s+1)·B of the stream, split into equal ranges over the hosts.

    With `costs`, the rows of a batch are dealt to the devices of all hosts by `reference.dealing.deal`: the order
    within a batch depends on the number of devices, what it holds does not.
    """

    rows: Rows
    batch: int
    host: int
    hosts: int
    costs: Costs | None = None
    devices: int = 1
    dealt: tuple[int, Int[np.ndarray, " B"]] = field(default=(-1, np.arange(0)), repr=False)
    """The last step that was dealt, and the order of its elements."""

    def __len__(self) -> int:
        return len(self.rows) // self.batch * (self.batch // self.hosts)

    def __getitem__(self, index: int) -> Any:
        share = self.batch // self.hosts
        step, place = divmod(int(index), share)
        return self.rows[step * self.batch + int(self.order(step)[self.host * share + place])]

    def order(self, step: int) -> Int[np.ndarray, " B"]:
        """The order of the elements of a batch, device by device."""
        if self.costs is None or self.devices == 1 or self.batch % self.devices:
            return np.arange(self.batch)
        last, order = self.dealt
        if last != step:
            order = deal(self.costs_at(step), self.devices)
            self.dealt = step, order
        return order

    def costs_at(self, step: int) -> Num[np.ndarray, " B"]:
        """Costs of the elements of a batch, which may be several rows each."""
        assert self.costs is not None
        each = rows_each(self.rows)
        return self.costs(step * self.batch * each, self.batch * each).reshape(self.batch, each).sum(1)

    def loads(self, step: int) -> Num[np.ndarray, " D"]:
        """Costs of the devices at a step."""
        return self.costs_at(step)[self.order(step)].reshape(self.devices, -1).sum(1)


def batches(
    rows: Rows,
    batch: int,
    *,
    start: int = 0,
    host: int = 0,
    hosts: int = 1,
    costs: Costs | None = None,
    devices: int = 1,
    workers: int = 0,
    prefix: str = "",
) -> grain.DatasetIterator[Any]:
    """Batches of `rows` from number `start` on; each leaf has a leading axis of batch / hosts.

    The stream is the same for any number of workers; its position is one integer. `close()` ends the workers.
    With `costs`, each of `devices` devices gets rows of nearly equal cost.
    `prefix` begins the names of their shared memory: data/segments.py.
    Raises ValueError where `hosts` does not divide `batch`.
    """
    each = rows_each(rows)
    if batch % (hosts * each):
        parts = f" in groups of {each}" if each > 1 else ""
        raise ValueError(f"a batch of {batch} rows{parts} cannot be shared by {hosts} hosts: make it a multiple")
    batch //= each
    share = HostShard(rows, batch, host, hosts, costs, devices)
    data = grain.MapDataset.source(share)[start * (batch // hosts) :].batch(batch // hosts)
    data = data.map(without_groups) if each > 1 else data
    stream = data.to_iter_dataset(grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD))
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain 0.2.18 reads absl flags, which only absl programs parse
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
        if prefix:
            name_by(prefix)
        stream = stream.mp_prefetch(options, worker_init_fn=partial(start_worker, prefix))
    return iter(stream)


def without_groups(batch: Any) -> Any:
    """The axes of groups and of the rows in a group as one axis."""
    if isinstance(batch, tuple):
        return type(batch)(*map(without_groups, batch))
    return batch.reshape(-1, *batch.shape[2:])


def start_worker(prefix: str, index: int, count: int) -> None:
    """Keep a worker process off accelerators, ignore Ctrl-C, name its memory, and end it when its parent ends."""
    if prefix:
        name_by(prefix)
    os.environ["JAX_PLATFORMS"] = "cpu"
    limit_pillow()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # the parent ended before prctl
