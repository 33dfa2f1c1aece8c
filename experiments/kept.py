"""Trained models that other trainings start from or learn from, each known by a digest of its configuration.

An arm names another arm of its experiment in `start` or `loss.teacher`. For each seed that name becomes the digest of
the other's configuration, so that the own digest depends on all that the other one depends on.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from experiments.views import Seen
from harness.config import Config
from navit_eqx import load_model
from navit_eqx.errors import ConfigError
from navit_eqx.serialize import encode
from navit_eqx.tasks.config import Distill


def digest(config: Config, views: Sequence[Seen] = ()) -> str:
    """Of everything that a trial depends on, but for the code; without views, of what its model depends on."""
    return hashlib.sha256(json.dumps([told(config), list(views)]).encode()).hexdigest()[:16]


def told(value: Any) -> Any:
    """A configuration without what stands at its default: a field that is added later changes no digest."""
    if not is_dataclass(value):
        return encode(value)
    known = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(value)}
    said = {name: told(getattr(value, name)) for name, default in known.items() if getattr(value, name) != default}
    return {"kind": type(value).__name__, **said}


def others(config: Config) -> set[str]:
    """The models that a configuration names."""
    return {config.start, config.loss.teacher if isinstance(config.loss, Distill) else ""} - {""}


def renamed(config: Config, name: Callable[[str], str]) -> Config:
    """The configuration with other names for these models."""
    if config.start:
        config = replace(config, start=name(config.start))
    if isinstance(config.loss, Distill):
        config = replace(config, loss=replace(config.loss, teacher=name(config.loss.teacher)))
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
