"""Serving without a web framework: images of any size wait in a queue, and share rows of one static shape.

    with serving.Server(model, serving.Options(latency=0.02)) as server:
        vector = server.submit("photo.jpg").result()

One compiled program computes every batch, whatever comes. A batch leaves when the queue can fill its rows, or when its
oldest image has waited as long as it may; rows are filled by exact fit, the oldest image first. An image that cannot be
used fails alone, by name.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from . import images as packing
from . import inference
from .errors import check, check_in
from .front import info_of, packing_options, probabilities
from .images import Planned
from .pixels import ImageError, Source
from .rows import Row, to_device
from .tasks.model import Model

WAITING = 64  # oldest images that are candidates for a batch


@dataclass(frozen=True)
class Options:
    """How images are gathered."""

    latency: float = 0.02
    """Seconds that an image may wait for others."""
    rows: int = 1
    """Rows of a batch."""
    row_tokens: int | None = None
    """Tokens of a row; auto: enough for any image within the budget of the size rule."""
    row_images: int | None = None
    """Image slots of a row; auto: as in training."""
    output: Literal["output", "pooled", "probabilities"] = "output"
    """What an image gets: the output of the task, such as logits, pooled features, or a distribution over classes."""

    def __post_init__(self):
        check_in("serving", "[0, 3600]", latency=self.latency)
        check_in("serving", "[1, 1048576]", rows=self.rows, row_tokens=self.row_tokens, row_images=self.row_images)


class Shape(NamedTuple):
    """The static shape of a batch."""

    rows: int
    tokens: int
    images: int


class Waiting(NamedTuple):
    """An image in the queue, when it came, and who waits for it."""

    image: Planned
    since: float
    result: Future


def is_due(lengths: Sequence[int], waited: float, latency: float, shape: Shape) -> bool:
    """Whether a batch leaves: its oldest image has waited long enough, or tokens or slots are full.

    >>> is_due([30, 30], 0.0, 0.02, Shape(1, 64, 8)), is_due([30, 40], 0.0, 0.02, Shape(1, 64, 8))
    (False, True)
    """
    full = sum(lengths) >= shape.rows * shape.tokens or len(lengths) >= shape.rows * shape.images
    return bool(lengths) and (full or waited >= latency)


def chosen(lengths: Sequence[int], shape: Shape) -> list[list[int]]:
    """The rows of the next batch, by places in the queue: the oldest image first, then what fills its row best.

    >>> chosen([40, 30, 24, 10], Shape(1, 64, 8))
    [[0, 2]]
    """
    return packing.pack_lengths(lengths[:WAITING], shape.tokens, shape.images)[: shape.rows]


class Server:
    """A queue of images, a thread that packs and computes them, and a result for each."""

    def __init__(self, model: Model, options: Options = Options()):
        """Compile the program.   Raises ConfigError where the model reads no images, or has no classes for a
        distribution."""
        self.options, self.how = options, packing_options(model, {})
        preprocessing = info_of(model).preprocessing
        self.lengths = packing.row_lengths(preprocessing, self.how["patch"], self.how["longest_side"])
        tokens = options.row_tokens or self.lengths.ordinary
        self.lengths = packing.Lengths(tokens, tokens)
        self.shape = Shape(options.rows, tokens, options.row_images or min(preprocessing.row_images, tokens))
        self.model = model
        self.program = inference.pooled if options.output == "pooled" else inference.forward
        distribution = options.output == "probabilities"
        self.finish: Callable[[np.ndarray], np.ndarray] = (
            (lambda x: probabilities(model, x)) if distribution else lambda x: x
        )
        self.finish(self.compute(packing.rows_of([], preprocessing, self.how["patch"], self.shape)))
        self.queue: deque[Waiting] = deque()
        self.changed = threading.Condition()
        self.open = True
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def submit(self, image: Source) -> Future:
        """The result of an image, to come: a vector, or ImageError where it cannot be used.

        Its header is read here, its pixels when its batch leaves. Raises ConfigError after `close`.
        """
        found: Future = Future()
        try:
            planned = packing.plan(0, image, self.how["preprocessing"], self.how["patch"], self.lengths,
                                   self.how["longest_side"], None)  # fmt: skip
            if planned.header and planned.header.dtype != np.uint8:
                raise ImageError(f"{planned.name} holds {planned.header.dtype}: a server reads pixels of 8 bits")
        except (ImageError, OSError) as error:
            found.set_exception(error)
            return found
        with self.changed:
            check(self.open, "the server is closed: no image is taken any more")
            self.queue.append(Waiting(planned, time.monotonic(), found))
            self.changed.notify()
        return found

    def serve(self) -> None:
        """Take batches until the server is closed and the queue is empty."""
        while batch := self.take():
            try:
                self.answer(batch)
            except Exception as error:  # whoever waits must hear of it
                for waiting in (waiting for row in batch for waiting in row if not waiting.result.done()):
                    waiting.result.set_exception(error)

    def take(self) -> list[list[Waiting]]:
        """The next batch, when it is due; nothing when the server is closed and the queue is empty."""
        with self.changed:
            while True:
                lengths = [waiting.image.tokens for waiting in self.queue]
                waited = time.monotonic() - self.queue[0].since if self.queue else 0.0
                if self.is_due(lengths, waited) or (self.queue and not self.open):
                    break
                if not self.open:
                    return []
                self.changed.wait(self.options.latency - waited if self.queue else None)
            queue = list(self.queue)
            batch = [[queue[n] for n in row] for row in self.chosen(lengths)]
            gone = {id(waiting) for row in batch for waiting in row}
            self.queue = deque(waiting for waiting in queue if id(waiting) not in gone)
            return batch

    def is_due(self, lengths: Sequence[int], waited: float) -> bool:
        """Whether a batch leaves, by the tokens of the images that wait."""
        return is_due(lengths, waited, self.options.latency, self.shape)

    def chosen(self, lengths: Sequence[int]) -> list[list[int]]:
        """The rows of the next batch, by places in the queue."""
        return chosen(lengths, self.shape)

    def answer(self, batch: list[list[Waiting]]) -> None:
        """Compute a batch, and give each image its result."""
        waiting = [each for row in batch for each in row]
        numbers = iter(range(len(waiting)))
        members = [[each.image._replace(index=next(numbers)) for each in row] for row in batch]
        reasons: dict[int, str] = {}
        rows = packing.rows_of(
            members, self.how["preprocessing"], self.how["patch"], self.shape, report=reasons.__setitem__
        )
        values = self.finish(packing.unpack(rows, self.compute(rows)))
        for n, each in enumerate(waiting):
            if not each.result.set_running_or_notify_cancel():  # nobody waits any more
                continue
            if n in reasons:
                each.result.set_exception(ImageError(reasons[n]))
            else:
                each.result.set_result(values[n])

    def compute(self, rows: Row) -> np.ndarray:
        """The output of each slot."""
        return np.asarray(self.program(self.model, to_device(rows)))

    def close(self) -> None:
        """Answer what waits, then stop."""
        with self.changed:
            self.open = False
            self.changed.notify()
        self.thread.join()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
