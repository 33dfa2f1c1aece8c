"""Trained models that other trainings start from or learn from, each known by a digest of its configuration.

An arm names another arm of its experiment in `start` or `task.teacher`. For each seed that name becomes the digest of
the other's configuration, so that the own digest depends on all that the other one depends on.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from experiments.settings import AnySetting
from harness.config import Config
from navit_eqx import load_model
from navit_eqx.errors import ConfigError
from navit_eqx.serialize import encode
from navit_eqx.tasks.config import Distill


def digest(config: Config, settings: Sequence[AnySetting] = ()) -> str:
    """Of everything that a trial depends on, but for the code; without settings, of what its model depends on."""
    return hashlib.sha256(json.dumps([non_default(config), list(settings)]).encode()).hexdigest()[:16]


def non_default(value: Any) -> Any:
    """The fields of a configuration that differ from their default: a field that is added later changes no digest."""
    if not is_dataclass(value):
        return encode(value)
    known = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(value)}
    changed = {name: getattr(value, name) for name, default in known.items() if getattr(value, name) != default}
    return {"kind": type(value).__name__, **{name: non_default(field) for name, field in changed.items()}}


def others(config: Config) -> set[str]:
    """The models that a configuration names."""
    return {config.start, config.task.teacher if isinstance(config.task, Distill) else ""} - {""}


def renamed(config: Config, name: Callable[[str], str]) -> Config:
    """The configuration with other names for these models."""
    if config.start:
        config = replace(config, start=name(config.start))
    if isinstance(config.task, Distill):
        config = replace(config, task=replace(config.task, teacher=name(config.task.teacher)))
    return config


def seeded(arms: Mapping[str, Config], seed: int) -> dict[str, Config]:
    """All arms with this seed, and digests in place of the names of arms.   Raises KeyError where an arm names one
    that does not stand before it."""
    ready: dict[str, Config] = {}
    for name, arm in arms.items():
        ready[name] = renamed(replace(arm, seed=seed), lambda other: digest(ready[other]))
    return ready


def located(config: Config, folder: Path) -> Config:
    """The configuration with paths in place of digests."""
    return renamed(config, lambda other: str(folder / other))


def kept(folder: Path) -> bool:
    """Whether there is a whole model."""
    try:
        load_model(folder)
    except ConfigError:
        return False
    return True
