"""A model on disk: `model.safetensors` with the parameters, `config.json` with everything else.

Neither file can run code, and nothing of them is believed: names, types and shapes are held against the
configuration before a tensor is read, and the checksum against the tensors before they are used.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jax.tree_util import tree_leaves_with_path
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .bridge import flatten, from_reference, unflatten
from .config import Auto, ModelConfig
from .config_json import ConfigError, check, decode, encode, read_json
from .model import NaViT

KINDS = ("F64", "F32", "F16", "BF16")


def save_model(folder: Path | str, model: NaViT, config: ModelConfig, about: dict[str, Any]) -> None:
    """Write parameters, configuration and what a user of the model must know (`about`: class names, sizes).

    Which program computes attention is a matter of the machine, and not saved.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(flatten(model), folder / "model.safetensors")
    saved = {
        "model": encode(replace(config, attention=Auto())),
        "about": about,
        "sha256": _checksum(folder / "model.safetensors"),
    }
    (folder / "config.json").write_text(json.dumps(saved, indent=2) + "\n")


def load_model(folder: Path | str) -> tuple[NaViT, ModelConfig, dict[str, Any]]:
    """The model in a folder, or in the folder of a run; its configuration and `about`.

    Raises ConfigError where a file is missing, damaged, or does not match the configuration.
    """
    folder = _located(folder)
    file, where = folder / "model.safetensors", f"{folder}/config.json"
    saved = read_json(folder / "config.json")
    check("model" in saved, f"{where} describes no model: name the folder of a run, or of a saved model")
    config = decode(ModelConfig, saved["model"], where)
    about = saved.get("about", {})
    check(isinstance(about, dict), f"{where}: about is {about!r}, not an object: restore it from a copy")
    like = _shape(config, where)
    check(file.is_file(), f"no model in {folder}: {file} does not exist")
    tensors = _read(file, like)
    check(
        saved.get("sha256") in (None, _checksum(file)),
        f"{file} is damaged, its checksum is not that of {where}: restore it from a copy",
    )
    return from_reference(unflatten(tensors), like), config, about


def digest_of(folder: Path | str) -> str:
    """SHA-256 of the parameters in a folder, or in the folder of a run."""
    return _checksum(_located(folder) / "model.safetensors")


def _located(folder: Path | str) -> Path:
    inner = Path(folder) / "model"
    return inner if inner.is_dir() else Path(folder)


def _shape(config: ModelConfig, where: str) -> NaViT:
    """The model without its numbers."""
    try:
        return eqx.filter_eval_shape(lambda key: NaViT(config, key=key), jr.key(0))
    except Exception as error:  # no limit on each number says which of them go together
        raise ConfigError(f"{where} describes a model that cannot be built: {error}") from error


def _read(file: Path, like: NaViT) -> dict[str, np.ndarray]:
    """Tensors by name, after their names, types and shapes were found to be those of `like`."""
    leaves = [(path, leaf) for path, leaf in tree_leaves_with_path(like) if isinstance(leaf, jax.ShapeDtypeStruct)]
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
