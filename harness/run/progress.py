"""Counters of a run, metrics.jsonl, refused.jsonl, and printed lines."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data.checksums import checksum
from data.manifest import Manifest
from navit_eqx.training.hosts import all_gather, is_main_process

from ..config import Config
from ..cost import rates
from ..terminal import clock
from ..working import working
from .logger import open_logger

SUMS = ("images", "tokens", "places", "refused")
IN_FLIGHT = 4  # steps that run while further batches are read: a line comes soon after it is due
NOTABLE = 0.05  # share of waiting or padding that is printed; metrics.jsonl has all
VALIDATION = "validation.jsonl"  # scores of evaluations on the way
WINDOW = ("images", "tokens", "places", "pairs", "learned", "loss_sum", "waited", "imbalance", "steps")


def append(path: Path, row: dict[str, Any]) -> None:
    """Append a line of JSON, from the main process alone. After failure to write the run continues."""
    if not is_main_process():
        return
    try:
        with path.open("a") as file:
            file.write(marked_line(row))
    except OSError as error:
        print(f"a line is missing in {path}: {error}", flush=True)


def marked_line(row: dict[str, Any]) -> str:
    """A line of JSON, with a checksum of the other entries."""
    return json.dumps({**row, "crc32": checksum(json.dumps(row).encode())}) + "\n"


def is_sound(line: str) -> bool:
    """Whether the checksum of a line is right."""
    try:
        row = json.loads(line)
        return marked_line({key: value for key, value in row.items() if key != "crc32"}) == line.rstrip("\n") + "\n"
    except (ValueError, AttributeError, TypeError):
        return False


class Progress:
    """Sums since the start of the run and since the last line; writes metrics.jsonl and refused.jsonl, prints lines."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        manifest: Manifest,
        start: int,
        before: dict[str, Any] | None,
        imbalance: Callable[[int], float] | None = None,
    ):
        """`imbalance`: largest over mean cost of a device at a step; None for one device."""
        self.folder, self.config, self.manifest, self.imbalance = folder, config, manifest, imbalance
        before = before or {"seconds": 0.0, "line": 0.0, "sums": {}, "window": {}, "extras": {}, "in_a_row": 0}
        self.logger = open_logger(config, folder, start)
        self.sums: dict[str, int] = dict.fromkeys(SUMS, 0) | before["sums"]
        self.window: dict[str, float] = dict.fromkeys(WINDOW, 0) | before["window"]
        self.extras: dict[str, float] = dict(before["extras"])  # further sums of the task since the last line
        self.last: float = before["line"]  # seconds of training until the last line
        self.started = time.perf_counter() - before["seconds"]
        self.steady = (start, self.seconds)  # step and time from which the time left is computed
        self.pending: list[tuple[int, Any, np.ndarray]] = []
        self.in_a_row: int = before["in_a_row"]  # refused steps
        self.grad_norm = np.nan

    @property
    def seconds(self) -> float:
        """Seconds of training, including those before an interruption."""
        return time.perf_counter() - self.started

    def next(self, stream: Iterator[Any]) -> Any:
        """The next batch. The time counts as waiting if the device is idle by then."""
        start = time.perf_counter()
        batch = next(stream)
        if not self.pending or self.pending[-1][1].loss_sum.is_ready():
            self.window["waited"] += time.perf_counter() - start
        return batch

    @contextmanager
    def shown(self, start: int) -> Iterator[Callable[[int], None]]:
        """Show the number of steps that are done, after `start`; the value adds to it."""
        with working("training", self.config.total_steps, "steps", plain=self.config.log_every is None) as advance:
            advance(start)
            yield advance

    @contextmanager
    def compiling(self, step: int) -> Iterator[None]:
        """Show that the first step, number `step`, is compiled; the time left is computed from the steps after it."""
        with working("compiling the training step"):
            yield
        self.steady = step, self.seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the enclosed block from training time."""
        self.collect()
        start = time.perf_counter()
        yield
        self.started += time.perf_counter() - start

    def add(self, step: int, metrics: Any, image_ids: np.ndarray) -> None:
        """Queue the metrics of a step that may still be running, once the steps before the last IN_FLIGHT are done."""
        self.pending.append((step, metrics, np.array(image_ids)))
        if len(self.pending) > IN_FLIGHT:
            jax.block_until_ready(self.pending[-1 - IN_FLIGHT][1].loss_sum)

    def position(self) -> dict[str, Any]:
        """Counters for a resumed run."""
        self.collect()
        return {
            "seconds": self.seconds,
            "line": self.last,
            "sums": dict(self.sums),
            "window": dict(self.window),
            "extras": dict(self.extras),
            "in_a_row": self.in_a_row,
        }

    def collect(self) -> None:
        """Add up queued metrics.   Raises FloatingPointError after too many refused steps in a row."""
        pending, self.pending = self.pending, []
        for (step, _, image_ids), m in zip(pending, jax.device_get([metrics for _, metrics, _ in pending])):
            for name in ("images", "tokens", "places", "refused"):
                self.sums[name] += int(getattr(m, name))
            for name in ("images", "tokens", "places", "pairs"):
                self.window[name] += int(getattr(m, name))
            self.window["steps"] += 1
            if self.imbalance and is_main_process():
                self.window["imbalance"] += self.imbalance(step - 1)
            if m.refused:
                self.in_a_row += 1
                self.refuse(step, m, image_ids)
            else:
                self.in_a_row = 0
                self.window["learned"] += int(m.count)
                self.window["loss_sum"] += float(m.loss_sum)
                for name, total in m.extras.items():
                    self.extras[name] = self.extras.get(name, 0.0) + float(total)
                self.grad_norm = float(m.grad_norm)
        if self.in_a_row >= self.config.max_refused:
            raise FloatingPointError(
                f"{self.in_a_row} steps in a row, until step {pending[-1][0]}, were refused (not finite, or spikes): "
                f"check the images in {self.folder}/refused.jsonl, or lower --optim.lr (with --override True to "
                "continue from the last save)"
            )

    def refuse(self, step: int, m: Any, image_ids: np.ndarray) -> None:
        """Log the images of a refused step."""
        mine = [self.manifest.name(i) for i in image_ids[image_ids >= 0].tolist()]
        names = [name for each in all_gather(mine) for name in each]
        loss, norm = f"{m.loss_sum / max(m.count, 1):g}", f"{m.grad_norm:g}"
        append(self.folder / "refused.jsonl", {"step": step, "loss": loss, "grad_norm": norm, "images": names})
        print(
            f"step {step} is refused: loss {loss}, gradient norm {norm}; refused.jsonl names its {len(names)} images, "
            f"first {', '.join(names[:1])}",
            flush=True,
        )

    def line(self, step: int, rate: Callable[[int], Any], unreadable: int) -> None:
        """Log and print the steps since the last line, if there are any."""
        self.collect()
        if not self.window["places"]:
            return
        now, sums, window = self.seconds, self.sums, self.window
        learned, seconds = window["learned"] or np.nan, now - self.last
        measures = {name: total / learned for name, total in self.extras.items()}
        row = {
            "step": step,
            "images_seen": sums["images"],
            "tokens_seen": sums["tokens"],
            "loss": window["loss_sum"] / learned,
            **measures,
            "lr": float(rate(step - 1 - sums["refused"])),
            "grad_norm": self.grad_norm,
            "images_per_second": window["images"] / seconds,
            "tokens_per_second": window["tokens"] / seconds,
            **rates(self.config, window["images"], window["tokens"], window["pairs"], seconds),
            "padding": 1 - window["tokens"] / window["places"],
            **({"imbalance": window["imbalance"] / window["steps"]} if self.imbalance else {}),
            "waiting": window["waited"] / seconds,
            "unreadable": unreadable,
            "refused": sums["refused"],
            "seconds": now,
        }
        append(self.folder / "metrics.jsonl", {k: v if np.isfinite(v) else None for k, v in row.items()})
        self.logger.log(step, row)
        first, since = self.steady
        left = (self.config.total_steps - step) * (now - since) / max(step - first, 1)
        self.last, self.window, self.extras = now, dict.fromkeys(WINDOW, 0), {}
        parts = [f"step {step}/{self.config.steps}", f"{clock(left)} left", f"loss {row['loss']:.3f}"]
        parts += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in measures.items()]
        parts += [f"{row['images_per_second']:.0f} images/s"]
        parts += [f"waiting {row['waiting']:.0%}"] if row["waiting"] >= NOTABLE else []
        parts += [f"padding {row['padding']:.0%}"] if row["padding"] >= NOTABLE else []
        print(" · ".join(parts), flush=True)

    def close(self) -> None:
        self.logger.close()

    def summary(self) -> dict[str, float]:
        """Totals of the run."""
        return {
            "images_seen": self.sums["images"],
            "tokens_seen": self.sums["tokens"],
            "padding": 1 - self.sums["tokens"] / max(self.sums["places"], 1),
            "train_seconds": self.last,
            "images_per_second": self.sums["images"] / self.last,
            "tokens_per_second": self.sums["tokens"] / self.last,
            "refused": self.sums["refused"],
        }
