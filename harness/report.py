"""The run folder and what a run says while it goes on."""

import csv
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data.manifest import Manifest
from data.sources import Digits
from navit_eqx.config import Backend
from navit_eqx.config_json import check, decode, encode, read_json
from navit_eqx.hosts import first, gathered

from .config import Config
from .logger import open_logger
from .looks import Look

PACKAGES = ("jax", "jaxlib", "equinox", "optax", "orbax-checkpoint", "grain", "numpy", "pillow")
SUMS = ("images", "tokens", "places", "refused")
WINDOW = ("images", "tokens", "places", "learned", "loss", "correct", "waited")
BANDS = (("tall", 0.0, 0.8), ("square", 0.8, 1.25), ("wide", 1.25, np.inf))  # of width / height


def write_json(path: Path, value: Any) -> None:
    """The file is there as a whole or not at all."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(json.dumps(value, indent=2) + "\n")
    draft.replace(path)


def append(path: Path, row: dict[str, Any]) -> None:
    """A line of JSON, from the first process. A full disk costs the line, not the run."""
    if not first():
        return
    try:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        print(f"a line is missing in {path}: {error}", flush=True)


def write_config(
    folder: Path,
    config: Config,
    preset: str,
    continued: Sequence[dict[str, Any]] = (),
    attention: Backend | None = None,
) -> None:
    """Everything resolved, what it ran with, and at which steps it was continued, with what changed."""
    versions = {name: metadata.version(name) for name in PACKAGES}
    versions["python"] = platform.python_version()
    about = {"preset": preset, "command": sys.argv, "versions": versions, "commit": commit(), "continued": continued}
    write_json(folder / "config.json", {"config": encode(config), **about, **machine(), "attention": encode(attention)})


def machine() -> dict[str, Any]:
    """The device, and what the environment tells its compiler."""
    return {
        "device": jax.devices()[0].device_kind,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "compilation_cache": jax.config.values["jax_compilation_cache_dir"],
    }


def read_config(folder: Path) -> Config:
    """Raises ConfigError."""
    return read_run(folder)[0]


def read_run(folder: Path) -> tuple[Config, list[dict[str, Any]]]:
    """The configuration, and when the run was continued.   Raises ConfigError."""
    saved = read_json(folder / "config.json")
    check("config" in saved, f"{folder}/config.json is not that of a run: name the folder of a run")
    return decode(Config, saved["config"], f"{folder}/config.json"), saved.get("continued", [])


def commit() -> str | None:
    """Of the code, if it lies in a git repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


class Progress:
    """Sums since the start and since the last line; `metrics.jsonl`, `refused.jsonl`, and the line itself."""

    def __init__(self, folder: Path, config: Config, manifest: Manifest, start: int, before: dict[str, Any] | None):
        self.folder, self.config, self.manifest = folder, config, manifest
        before = before or {"seconds": 0.0, "line": 0.0, "sums": {}, "window": {}}
        self.logger = open_logger(config, folder, start)
        self.sums: dict[str, int] = dict.fromkeys(SUMS, 0) | before["sums"]
        self.window: dict[str, float] = dict.fromkeys(WINDOW, 0) | before["window"]
        self.last: float = before["line"]  # seconds of training until the last line
        self.began = time.perf_counter() - before["seconds"]
        self.steady = (start, self.seconds, False)  # step and time; what comes before the first line is compilation
        self.pending: list[tuple[int, Any, np.ndarray]] = []
        self.in_a_row = 0
        self.grad_norm = np.nan

    @property
    def seconds(self) -> float:
        """Of training, those before an interruption included."""
        return time.perf_counter() - self.began

    def next(self, stream: Iterator[Any]) -> Any:
        """The next batch. Until it is there counts as waiting, if no step is under way any more by then."""
        began = time.perf_counter()
        batch = next(stream)
        if not self.pending or self.pending[-1][1].loss.is_ready():
            self.window["waited"] += time.perf_counter() - began
        return batch

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens meanwhile is no training: no time passes."""
        self.collect()
        began = time.perf_counter()
        yield
        self.began += time.perf_counter() - began

    def add(self, step: int, metrics: Any, image_ids: np.ndarray) -> None:
        """Note a step that may still be under way."""
        self.pending.append((step, metrics, np.array(image_ids)))

    def position(self) -> dict[str, Any]:
        """What a continued run needs to count on from here."""
        self.collect()
        return {"seconds": self.seconds, "line": self.last, "sums": dict(self.sums), "window": dict(self.window)}

    def collect(self) -> None:
        """Add up the steps noted.   Raises FloatingPointError after too many refused in a row."""
        pending, self.pending = self.pending, []
        for (step, _, image_ids), m in zip(pending, jax.device_get([metrics for _, metrics, _ in pending])):
            for name in ("images", "tokens", "places", "refused"):
                self.sums[name] += int(getattr(m, name))
            for name in ("images", "tokens", "places"):
                self.window[name] += int(getattr(m, name))
            if m.refused:
                self.in_a_row += 1
                self.refuse(step, m, image_ids)
            else:
                self.in_a_row = 0
                self.window["learned"] += int(m.images)
                self.window["loss"] += float(m.loss)
                self.window["correct"] += int(m.correct)
                self.grad_norm = float(m.grad_norm)
        if self.in_a_row >= self.config.max_refused:
            raise FloatingPointError(
                f"{self.in_a_row} steps in a row, until step {pending[-1][0]}, were refused, not finite or spikes: "
                f"look at the images in {self.folder}/refused.jsonl, or lower --optim.lr (with --override True to "
                "continue from the last save)"
            )

    def refuse(self, step: int, m: Any, image_ids: np.ndarray) -> None:
        """Name the images of a step that taught nothing."""
        mine = [self.manifest.name(i) for i in image_ids[image_ids >= 0].tolist()]
        names = [name for each in gathered(mine) for name in each]
        loss, norm = f"{m.loss / max(m.images, 1):g}", f"{m.grad_norm:g}"
        append(self.folder / "refused.jsonl", {"step": step, "loss": loss, "grad_norm": norm, "images": names})
        print(
            f"step {step} is refused: loss {loss}, gradient norm {norm}; refused.jsonl names its {len(names)} images, "
            f"first {', '.join(names[:1])}",
            flush=True,
        )

    def line(self, step: int, rate: Callable[[int], Any], unreadable: int) -> None:
        """Log the steps since the last line."""
        self.collect()
        now, sums, window = self.seconds, self.sums, self.window
        learned, seconds = window["learned"] or np.nan, now - self.last
        row = {
            "step": step,
            "images_seen": sums["images"],
            "tokens_seen": sums["tokens"],
            "loss": window["loss"] / learned,
            "accuracy": window["correct"] / learned,
            "lr": float(rate(step - sums["refused"])),
            "grad_norm": self.grad_norm,
            "images_per_second": window["images"] / seconds,
            "tokens_per_second": window["tokens"] / seconds,
            "padding": 1 - window["tokens"] / window["places"],
            "waiting": window["waited"] / seconds,
            "unreadable": unreadable,
            "refused": sums["refused"],
            "seconds": now,
        }
        append(self.folder / "metrics.jsonl", {k: v if np.isfinite(v) else None for k, v in row.items()})
        self.logger.log(step, row)
        first, since, steady = self.steady
        left = (self.config.steps - step) * (now - since) / (step - first)
        if not steady:
            self.steady = (step, now, True)
        self.last, self.window = now, dict.fromkeys(WINDOW, 0)
        print(
            f"step {step}/{self.config.steps} · loss {row['loss']:.3f} · accuracy {row['accuracy']:.3f} · "
            f"{row['images_per_second']:.0f} images/s · {row['tokens_per_second'] / 1e3:.1f}k tokens/s · "
            f"padding {row['padding']:.2%} · waiting for data {row['waiting']:.0%} · {clock(left)} left",
            flush=True,
        )

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


def clock(seconds: float) -> str:
    """m:ss, or h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def groups(config: Config, manifest: Manifest) -> dict[str, np.ndarray]:
    """Masks over the images by which accuracy is worth splitting."""
    sizes = manifest.sizes.astype(float)
    if isinstance(config.data.source, Digits):
        count = (sizes.max(-1) / sizes.min(-1)).round().astype(int)
        return {f"digits {k}": count == k for k in range(1, count.max() + 1)}
    shape = sizes[:, 1] / sizes[:, 0]
    return {name: (lo <= shape) & (shape < hi) for name, lo, hi in BANDS}


def by_group(look: Look, masks: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Accuracy within each group; None where it is empty."""
    inside = {name: look.correct[mask[look.image_ids]] for name, mask in masks.items()}
    return {name: float(right.mean()) if len(right) else None for name, right in inside.items()}


def flat(row: dict) -> dict:
    """The row with the columns of inner dicts among its own."""
    return {
        k: v for key, value in row.items() for k, v in (value.items() if isinstance(value, dict) else [(key, value)])
    }


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """One column per key, numbers to six digits, an empty cell for None."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, flat(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in flat(row).items()} for row in rows)


def table(rows: Sequence[dict]) -> str:
    """Rows and columns to read; columns that are the same in all of several rows stand below, once."""
    cells = [{k: _cell(v) for k, v in flat(row).items()} for row in rows]
    same = {k: v for k, v in cells[0].items() if len(rows) > 1 and all(row[k] == v for row in cells)}
    names = [k for k in cells[0] if k not in same]
    lines = _headings(names) + [[row[k] for k in names] for row in cells]
    widths = [max(len(line[c]) for line in lines) for c in range(len(names))]
    text = "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths)).rstrip() for line in lines)
    below = " · ".join(f"{k.replace('_', ' ')} {v}" for k, v in same.items())
    return f"{text}\n\nin all rows: {below}" if below else text


def _headings(names: Sequence[str]) -> list[list[str]]:
    """The words of each name below one another, ending on the same line: narrow columns."""
    words = [name.replace("_", " ").split() for name in names]
    depth = max(map(len, words))
    return [list(line) for line in zip(*([""] * (depth - len(w)) + w for w in words))]


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
