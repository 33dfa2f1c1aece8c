"""Rows → shard of this host → batches → worker processes, by Grain."""

import ctypes
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import grain
from absl import flags

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


@dataclass
class HostShard:
    """The rows of one host: batch s is rows s·B … (s+1)·B of the stream, split into equal ranges over the hosts."""

    rows: Rows
    batch: int
    host: int
    hosts: int

    def __len__(self) -> int:
        return len(self.rows) // self.batch * (self.batch // self.hosts)

    def __getitem__(self, index: int) -> Any:
        share = self.batch // self.hosts
        step, place = divmod(int(index), share)
        return self.rows[step * self.batch + self.host * share + place]


def batches(
    rows: Rows, batch: int, *, start: int = 0, host: int = 0, hosts: int = 1, workers: int = 0, prefix: str = ""
) -> grain.DatasetIterator[Any]:
    """Batches of `rows` from number `start` on; each leaf has a leading axis of batch / hosts.

    The stream is the same for any number of workers; its position is one integer. `close()` ends the workers.
    `prefix` begins the names of their shared memory: data/segments.py.
    Raises ValueError where `hosts` does not divide `batch`.
    """
    each = rows_each(rows)
    if batch % (hosts * each):
        parts = f" in groups of {each}" if each > 1 else ""
        raise ValueError(f"a batch of {batch} rows{parts} cannot be shared by {hosts} hosts: make it a multiple")
    batch //= each
    share = HostShard(rows, batch, host, hosts)
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
