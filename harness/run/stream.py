"""Batches that survive the death of a data worker."""

from collections.abc import Callable, Iterator
from typing import Any

from reference.rows import Batch

RESTARTS = 3  # of data workers


class Stream(Iterator[Batch]):
    """Batches from `position` on. Where a worker process dies, all are started again at the same batch.

    Raises OSError after RESTARTS of them. `close()` it.
    """

    def __init__(self, begin: Callable[..., Any], position: int):
        self.begin = begin
        self.position = position
        self.left = RESTARTS
        self.batches = begin(start=position)

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
                f"data workers died {RESTARTS + 1} times, the last at batch {self.position}, perhaps for want of "
                "memory: try fewer --data.workers; the same command continues from the last save"
            ) from None
        self.left -= 1
        print(f"a data worker died at batch {self.position}: all are started again", flush=True)
        self.batches = self.begin(start=self.position)

    def close(self) -> None:
        self.batches.close()
