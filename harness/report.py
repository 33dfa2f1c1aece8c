"""The run folder and what a run says while it goes on."""

import csv
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from data.manifest import Manifest
from data.sources import Digits
from navit_eqx.config_json import ConfigError, check, decode, encode, read_json

from .config import Config
from .looks import Look

PACKAGES = ("jax", "jaxlib", "equinox", "optax", "grain", "numpy", "pillow")
BANDS = (("tall", 0.0, 0.8), ("square", 0.8, 1.25), ("wide", 1.25, np.inf))  # of width / height


def new_folder(out: str, name: str) -> Path:
    """`out/name`, or the first free of name-2, name-3, …"""
    for suffix in ("", *(f"-{i}" for i in range(2, 10_000))):
        folder = Path(out) / f"{name}{suffix}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise ConfigError(f"{out} holds too many runs called {name}: choose another with --name")


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_config(folder: Path, config: Config, preset: str) -> None:
    """Everything resolved, and what it ran with."""
    versions = {name: metadata.version(name) for name in PACKAGES}
    versions["python"] = platform.python_version()
    about = {"preset": preset, "command": sys.argv, "versions": versions, "commit": commit()}
    write_json(folder / "config.json", {"config": encode(config), **about})


def read_config(folder: Path) -> Config:
    """Raises ConfigError."""
    saved = read_json(folder / "config.json")
    check("config" in saved, f"{folder}/config.json is not that of a run: name the folder of a run")
    return decode(Config, saved["config"], f"{folder}/config.json")


def commit() -> str | None:
    """Of the code, if it lies in a git repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


class Progress:
    """Sums of metrics since the last line, `metrics.jsonl`, and the line itself."""

    def __init__(self, folder: Path, steps: int):
        self.file = (folder / "metrics.jsonl").open("a")
        self.steps = steps
        self.started = self.last = time.perf_counter()
        self.steady = (0, self.started)  # step and time at the first line: what came before is compilation
        self.images = self.tokens = self.places = 0

    def line(self, step: int, window: Sequence[Any], lr: float, unreadable: int) -> dict[str, float]:
        """Log a window of steps; `window` holds one Metrics a step, on the host."""
        now = time.perf_counter()
        total = {k: sum(float(getattr(m, k)) for m in window) for k in window[0]._fields}
        images = max(total["images"], 1)
        self.images += int(total["images"])
        self.tokens += int(total["tokens"])
        self.places += int(total["places"])
        seconds = now - self.last
        row = {
            "step": step,
            "images_seen": self.images,
            "tokens_seen": self.tokens,
            "loss": total["loss"] / images,
            "accuracy": total["correct"] / images,
            "lr": lr,
            "grad_norm": float(window[-1].grad_norm),
            "images_per_second": total["images"] / seconds,
            "tokens_per_second": total["tokens"] / seconds,
            "padding": 1 - total["tokens"] / total["places"],
            "unreadable": unreadable,
            "seconds": now - self.started,
        }
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        first, since = self.steady
        left = (self.steps - step) * (now - since) / (step - first)
        if not first:
            self.steady = (step, now)
        self.last = now
        print(
            f"step {step}/{self.steps} · loss {row['loss']:.3f} · accuracy {row['accuracy']:.3f} · "
            f"{row['images_per_second']:.0f} images/s · {row['tokens_per_second'] / 1e3:.1f}k tokens/s · "
            f"padding {row['padding']:.2%} · {clock(left)} left",
            flush=True,
        )
        return row

    def summary(self) -> dict[str, float]:
        """Totals of the run."""
        seconds = self.last - self.started
        return {
            "images_seen": self.images,
            "tokens_seen": self.tokens,
            "padding": 1 - self.tokens / max(self.places, 1),
            "train_seconds": seconds,
            "images_per_second": self.images / seconds,
            "tokens_per_second": self.tokens / seconds,
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
