"""Where the numbers of a run go beside `metrics.jsonl`: optional packages behind two calls."""

import importlib
import math
import secrets
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax

from navit_eqx.errors import ConfigError
from navit_eqx.serialize import encode

from ..config import Config, TensorBoard, Wandb


@runtime_checkable
class Logger(Protocol):
    """What takes the numbers of a window of steps."""

    def log(self, step: int, row: dict[str, Any]) -> None:
        """Steps rise; those that are logged again after an interruption hold the same numbers."""
        ...

    def close(self) -> None:
        """All is written."""
        ...


class Nowhere:
    """`metrics.jsonl` is all."""

    def log(self, step: int, row: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


class Board:
    """Event files for TensorBoard in the run's folder; what was logged after step `start` is hidden."""

    def __init__(self, writer: Any, folder: Path, start: int):
        # Without a suffix, a file that was begun in the same second would be overwritten.
        file = {"purge_step": start + 1, "filename_suffix": f".{start}"}
        self.writer = writer.SummaryWriter(str(folder / "tensorboard"), **file)

    def log(self, step: int, row: dict[str, Any]) -> None:
        for name, value in numbers(row).items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Online:
    """A run of Weights & Biases, found again by its mark in the run's folder; it takes no step twice."""

    def __init__(self, wandb: Any, project: str, folder: Path, config: Config):
        mark = folder / "wandb-id"
        if not mark.exists():
            mark.write_text(secrets.token_hex(8))
        self.run = wandb.init(
            project=project,
            id=mark.read_text(),
            name=folder.name,
            resume="allow",
            dir=str(folder),
            config=encode(config),
        )

    def log(self, step: int, row: dict[str, Any]) -> None:
        self.run.log(numbers(row), step=step)

    def close(self) -> None:
        self.run.finish()


def open_logger(config: Config, folder: Path, start: int) -> Logger:
    """The one that is configured, to go on after step `start`; only the first of several processes logs.

    Raises ConfigError where its package is missing.
    """
    if jax.process_index():
        return Nowhere()
    match config.logger:
        case None:
            return Nowhere()
        case TensorBoard():
            return Board(needed("tensorboardX", "tensorboard"), folder, start)
        case Wandb(project):
            return Online(needed("wandb", "wandb"), project, folder, config)


def needed(package: str, extra: str) -> Any:
    """An optional package.   Raises ConfigError."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"logger={extra} needs the package {package} ({error}): pip install -e '.[{extra}]', or --logger none"
        ) from None


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """Those that are finite, without the step."""
    return {k: v for k, v in row.items() if k != "step" and isinstance(v, int | float) and math.isfinite(v)}
