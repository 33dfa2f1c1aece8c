"""Saved models: `model.safetensors` with the parameters, `config.json` with everything else.

Neither file can run code, and neither is trusted: names, dtypes and shapes are checked against the configuration before
a tensor is read, and the checksum before tensors are used.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.tree_util import tree_leaves_with_path
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..config import Auto, ModelConfig
from ..errors import ConfigError, check
from ..files import make_folder, replacing
from ..info import ModelInfo
from ..serialize import MAX_BYTES, decode, encode, read_json, seal, unseal
from ..tasks.config import Task
from ..tasks.model import Model, abstract_model
from .bridge import flatten, from_reference, unflatten

FILE, CONFIG = "model.safetensors", "config.json"
KINDS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def save_model(folder: Path | str, model: Model, info: ModelInfo) -> None:
    """Write parameters, model configuration, task and info to a folder.

    The attention backend depends on the machine and is not saved. A model that was there stays until the new one is
    written. Raises ConfigError where `load_model` would refuse the model, OSError where a file cannot be written.
    """
    folder = Path(folder)
    tensors = flatten(model)
    saved = {
        "model": encode(replace(model.config, attention=Auto())),
        "task": encode(model.task.config),
        "info": encode(replace(info, digest="")),
    }
    abstract = _shape(*_decoded(saved, "the model to save"), "the model to save")
    _check_tensors({name: (_kind(x), x.shape) for name, x in tensors.items()}, abstract, "the model to save")
    make_folder(folder)
    saved["task"] = encode(model.task.config.stored(folder))
    with replacing(folder / CONFIG) as config, replacing(folder / FILE) as file:
        _write(tensors, file)
        text = json.dumps(seal(saved | {"sha256": _checksum(file)}), indent=2) + "\n"
        check(
            len(text) <= MAX_BYTES, f"the names of {len(info.classes)} classes exceed {MAX_BYTES} bytes: shorten them"
        )
        config.write_text(text)


def load_saved(folder: Path) -> Model:
    """Load a model, with its `config` and `info`, from its folder.

    Raises ConfigError where a file is missing, damaged, or does not match the configuration.
    """
    where, file = f"{folder / CONFIG}", folder / FILE
    saved = read_json(folder / CONFIG)
    check("model" in saved, f"{where} describes no model: name the folder of a run, or of a saved model")
    saved = unseal(saved, where)
    config, task, info = _decoded(saved, where)
    task = task.located(folder)
    check(file.is_file(), f"no model in {folder}: {file} does not exist")
    found = _checksum(file)
    abstract = _shape(config, task, replace(info, digest=found), where)
    tensors = _read(file, abstract)
    check(
        saved.get("sha256") in (None, found),
        f"{file} is damaged, its checksum is not that of {where}: restore it from a copy",
    )
    return from_reference(unflatten(tensors), abstract)


def _decoded(saved: dict[str, Any], where: str) -> tuple[ModelConfig, Task, ModelInfo]:
    """Model, task and info from the content of config.json.   Raises ConfigError where it is invalid."""
    config = replace(decode(ModelConfig, saved["model"], f"{where}: model"), attention=Auto())
    task = decode(Task, saved.get("task"), f"{where}: task")
    info = decode(ModelInfo, saved.get("info"), f"{where}: info")
    check(
        task.classes in (None, len(info.classes)),
        f"{where}: info.classes has {len(info.classes)} names for {task.classes} classes: restore it from a copy",
    )
    return config, task, info


def _shape(config: ModelConfig, task: Task, info: ModelInfo, where: str) -> Model:
    """The abstract model of a configuration.   Raises ConfigError where it cannot be built."""
    try:
        return abstract_model(config, task, info)
    except Exception as error:  # values within their ranges can still be inconsistent with each other
        raise ConfigError(f"{where} describes a model that cannot be built: {error}") from error


def _read(file: Path, abstract: Model) -> dict[str, np.ndarray]:
    """Tensors by name.   Raises ConfigError where names, dtypes or shapes differ from those of `abstract`."""
    try:
        with safe_open(file, framework="np") as stored:
            slices = {name: stored.get_slice(name) for name in stored.keys()}
            _check_tensors({n: (s.get_dtype(), tuple(s.get_shape())) for n, s in slices.items()}, abstract, f"{file}")
            return {name: stored.get_tensor(name) for name in slices}
    except SafetensorError as error:
        raise ConfigError(f"{file} is damaged, {error}: restore it from a copy") from None


def _check_tensors(found: dict[str, tuple[str, tuple[int, ...]]], abstract: Model, where: str) -> None:
    """Raises ConfigError where names, dtypes or shapes of tensors differ from those of `abstract`."""
    leaves = [(path, leaf) for path, leaf in tree_leaves_with_path(abstract) if isinstance(leaf, jax.ShapeDtypeStruct)]
    shapes = {".".join(key.name for key in path): leaf.shape for path, leaf in leaves}
    for name in sorted(shapes.keys() ^ found.keys()):
        side = "lacks" if name in shapes else "holds"
        raise ConfigError(f"{where} {side} {name!r}, unlike the model of config.json: restore both from a copy")
    for name, wanted in shapes.items():
        kind, shape = found[name]
        check(kind in KINDS.values(), f"{where}: {name!r} holds {kind}, not one of {', '.join(KINDS.values())}")
        check(shape == wanted, f"{where}: {name!r} has shape {shape}, config.json makes it {wanted}")


def _kind(x: np.ndarray) -> str:
    """The dtype in the words of safetensors."""
    return KINDS.get(x.dtype.name, x.dtype.name)


def _write(tensors: dict[str, np.ndarray], file: Path) -> None:
    try:
        save_file(tensors, file)
    except SafetensorError as error:
        raise OSError(str(error)) from None


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
