"""Loggers besides `metrics.jsonl`: TensorBoard and Weights & Biases, optional packages behind two methods."""

import importlib
import math
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax

from navit_eqx.errors import ConfigError
from navit_eqx.serialize import encode

from ..config import Config, TensorBoard, Wandb


@runtime_checkable
class Logger(Protocol):
    """Receiver of the metrics of a window of steps."""

    def log(self, step: int, row: dict[str, Any]) -> None:
        """Log metrics. Steps increase; steps logged again after an interruption have the same values."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class NullLogger:
    """No logger besides `metrics.jsonl`."""

    def log(self, step: int, row: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


class Guarded:
    """A logger whose failure does not end the run: it is told once, and the logger is left alone from then on."""

    def __init__(self, logger: Logger, name: str):
        self.logger, self.name = logger, name

    def log(self, step: int, row: dict[str, Any]) -> None:
        self.call(self.logger.log, step, row)

    def close(self) -> None:
        self.call(self.logger.close)

    def call(self, method: Callable[..., None], *given: Any) -> None:
        try:
            method(*given)
        except Exception as error:  # a full disk, no network, …
            print(f"logger={self.name} stops, {error or repr(error)}: metrics.jsonl has everything", flush=True)
            self.logger = NullLogger()


class TensorBoardLogger:
    """Event files for TensorBoard in the run folder; events after step `start` are purged."""

    def __init__(self, writer: Any, folder: Path, start: int):
        # Without a suffix, a file created in the same second would be overwritten.
        file = {"purge_step": start + 1, "filename_suffix": f".{start}"}
        self.writer = writer.SummaryWriter(str(folder / "tensorboard"), **file)

    def log(self, step: int, row: dict[str, Any]) -> None:
        for name, value in numbers(row).items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WandbLogger:
    """A run of Weights & Biases, resumed by the id in the run folder; steps logged twice are ignored."""

    def __init__(self, wandb: Any, project: str, folder: Path, config: Config):
        mark = folder / "wandb-id"
        if not mark.exists():
            mark.write_text(secrets.token_hex(8))
        about = {"project": project, "id": mark.read_text(), "name": folder.name, "dir": str(folder)}
        try:
            self.run = wandb.init(**about, resume="allow", config=encode(config))
        except Exception as error:  # theirs are of many kinds
            raise ConfigError(
                f"logger=wandb does not start, {str(error).strip() or repr(error)}: wandb login, WANDB_MODE=offline, "
                "or --logger none"
            ) from error

    def log(self, step: int, row: dict[str, Any]) -> None:
        self.run.log(numbers(row), step=step)

    def close(self) -> None:
        self.run.finish()


def open_logger(config: Config, folder: Path, start: int) -> Logger:
    """The configured logger, continued after step `start`; only the main process logs.

    Raises ConfigError where its package is missing, or where it does not start.
    """
    if jax.process_index():
        return NullLogger()
    match config.logger:
        case None:
            return NullLogger()
        case TensorBoard():
            return Guarded(TensorBoardLogger(needed("tensorboardX", "tensorboard"), folder, start), "tensorboard")
        case Wandb(project):
            return Guarded(WandbLogger(needed("wandb", "wandb"), project, folder, config), "wandb")


def needed(package: str, extra: str) -> Any:
    """Import an optional package.   Raises ConfigError."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"logger={extra} needs the package {package} ({error}): pip install -e '.[{extra}]', or --logger none"
        ) from None


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """Finite numeric values, without the step."""
    return {k: v for k, v in row.items() if k != "step" and isinstance(v, int | float) and math.isfinite(v)}
