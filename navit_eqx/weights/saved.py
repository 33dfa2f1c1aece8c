"""Saved models: `model.safetensors` with the parameters, `config.json` with everything else.

Neither file can run code, and neither is trusted: names, dtypes and shapes are checked against the configuration before
a tensor is read, and the checksum before tensors are used.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from jax.tree_util import tree_leaves_with_path
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..config import Auto, ModelConfig
from ..errors import ConfigError, check
from ..info import ModelInfo
from ..serialize import decode, encode, read_json, seal, unseal
from ..tasks.config import Task
from ..tasks.model import Model, abstract_model
from .bridge import flatten, from_reference, unflatten

FILE = "model.safetensors"
KINDS = ("F64", "F32", "F16", "BF16")


def save_model(folder: Path | str, model: Model, info: ModelInfo) -> None:
    """Write parameters, model configuration, task and info to a folder.

    The attention backend depends on the machine and is not saved.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(flatten(model), folder / FILE)
    saved = {
        "model": encode(replace(model.config, attention=Auto())),
        "task": encode(model.task.config.stored(folder)),
        "info": encode(replace(info, digest="")),
        "sha256": _checksum(folder / FILE),
    }
    (folder / "config.json").write_text(json.dumps(seal(saved), indent=2) + "\n")


def load_saved(folder: Path) -> Model:
    """Load a model, with its `config` and `info`, from its folder.

    Raises ConfigError where a file is missing, damaged, or does not match the configuration.
    """
    config, task, info, checksum = _described(folder)
    file = folder / FILE
    check(file.is_file(), f"no model in {folder}: {file} does not exist")
    found = _checksum(file)
    abstract = _shape(config, task, replace(info, digest=found), f"{folder}/config.json")
    tensors = _read(file, abstract)
    check(
        checksum in (None, found),
        f"{file} is damaged, its checksum is not that of {folder}/config.json: restore it from a copy",
    )
    return from_reference(unflatten(tensors), abstract)


def _described(folder: Path) -> tuple[ModelConfig, Task, ModelInfo, str | None]:
    """Model, task, info and checksum of the parameters, from config.json.   Raises ConfigError where it is invalid."""
    where = f"{folder}/config.json"
    saved = read_json(folder / "config.json")
    check("model" in saved, f"{where} describes no model: name the folder of a run, or of a saved model")
    saved = unseal(saved, where)
    config = replace(decode(ModelConfig, saved["model"], f"{where}: model"), attention=Auto())
    task = decode(Task, saved.get("task"), f"{where}: task").located(folder)
    info = decode(ModelInfo, saved.get("info"), f"{where}: info")
    check(
        task.classes in (None, len(info.classes)),
        f"{where}: info.classes has {len(info.classes)} names for {task.classes} classes: restore it from a copy",
    )
    return config, task, info, saved.get("sha256")


def _shape(config: ModelConfig, task: Task, info: ModelInfo, where: str) -> Model:
    """The abstract model of a configuration.   Raises ConfigError where it cannot be built."""
    try:
        return abstract_model(config, task, info)
    except Exception as error:  # values within their ranges can still be inconsistent with each other
        raise ConfigError(f"{where} describes a model that cannot be built: {error}") from error


def _read(file: Path, abstract: Model) -> dict[str, np.ndarray]:
    """Tensors by name.   Raises ConfigError where names, dtypes or shapes differ from those of `abstract`."""
    leaves = [(path, leaf) for path, leaf in tree_leaves_with_path(abstract) if isinstance(leaf, jax.ShapeDtypeStruct)]
    shapes = {".".join(key.name for key in path): leaf.shape for path, leaf in leaves}
    try:
        with safe_open(file, framework="np") as stored:
            for name in sorted(shapes.keys() ^ set(stored.keys())):
                side = "lacks" if name in shapes else "holds"
                raise ConfigError(f"{file} {side} {name!r}, unlike the model of config.json: restore both from a copy")
            for name, shape in shapes.items():
                slice_ = stored.get_slice(name)
                kind, found = slice_.get_dtype(), tuple(slice_.get_shape())
                check(kind in KINDS, f"{file}: {name!r} holds {kind}, not one of {', '.join(KINDS)}")
                check(found == shape, f"{file}: {name!r} has shape {found}, config.json makes it {shape}")
            return {name: stored.get_tensor(name) for name in shapes}
    except SafetensorError as error:
        raise ConfigError(f"{file} is damaged, {error}: restore it from a copy") from None


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
