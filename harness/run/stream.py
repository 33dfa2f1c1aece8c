"""Batches with restart of data workers that end unexpectedly."""

import multiprocessing
from collections.abc import Callable, Iterator
from threading import Timer
from typing import Any

from reference.rows import Batch

RESTARTS = 3  # of data workers
PATIENCE = 5.0  # seconds in which workers end by themselves


class Stream(Iterator[Batch]):
    """Batches from `position` on. When a worker process ends unexpectedly, all workers restart at the same batch.

    Raises OSError after RESTARTS restarts. `close()` ends the workers, also those that hang.
    """

    def __init__(self, open_batches: Callable[..., Any], position: int):
        self.open_batches = open_batches
        self.position = position
        self.left = RESTARTS
        self.others = multiprocessing.active_children()  # processes that are not workers of this stream
        self.batches = open_batches(start=position)

    def __next__(self) -> Batch:
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
                f"data workers died {RESTARTS + 1} times, the last at batch {self.position}, perhaps for lack of "
                "memory or of space in /dev/shm: try fewer --data.workers; the same command continues from the last "
                "save"
            ) from None
        self.left -= 1
        print(f"a data worker died at batch {self.position}: all workers are restarted", flush=True)
        self.batches = self.open_batches(start=self.position)

    def close(self) -> None:
        """End the workers. Grain waits for a worker that hangs without end, so those are killed after PATIENCE."""
        killing = Timer(PATIENCE, self.kill_workers)
        killing.daemon = True
        killing.start()
        try:
            self.batches.close()
        finally:
            killing.cancel()

    def kill_workers(self) -> None:
        for process in multiprocessing.active_children():
            if process not in self.others:
                process.kill()
