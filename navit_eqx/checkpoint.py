"""A model on disk: `model.safetensors` with the parameters, `config.json` with everything else."""

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.random as jr
from jax.tree_util import tree_leaves_with_path
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from .bridge import flatten, from_reference, unflatten
from .config import ModelConfig
from .config_json import ConfigError, decode, encode
from .model import NaViT


def save_model(folder: Path | str, model: NaViT, config: ModelConfig, about: dict[str, Any]) -> None:
    """Write parameters, configuration and what a user of the model must know (`about`: class names, sizes)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(flatten(model), folder / "model.safetensors")
    text = json.dumps({"model": encode(config), "about": about}, indent=2)
    (folder / "config.json").write_text(text + "\n")


def load_model(folder: Path | str) -> tuple[NaViT, ModelConfig, dict[str, Any]]:
    """The model in a folder, or in the folder of a run; its configuration and `about`.

    Raises ConfigError where a file is missing, damaged, or does not match the configuration.
    """
    folder = Path(folder)
    if (folder / "model").is_dir():
        folder = folder / "model"
    try:
        saved = json.loads((folder / "config.json").read_text())
        config = decode(ModelConfig, saved["model"], f"{folder}/config.json")
        like = eqx.filter_eval_shape(lambda key: NaViT(config, key=key), jr.key(0))
        tensors = load_file(folder / "model.safetensors")
        names = {".".join(k.name for k in path) for path, _ in tree_leaves_with_path(like)}
        if unknown := sorted(tensors.keys() - names):
            raise ConfigError(f"{folder}/model.safetensors holds {unknown[0]!r}, which the model does not have")
        return _fill(tensors, like), config, saved.get("about", {})
    except FileNotFoundError as error:
        raise ConfigError(f"no model in {folder}: {error.filename} does not exist") from None
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
        raise ConfigError(f"the model in {folder} is damaged: {error!r}; restore it from a copy") from None


def _fill(tensors: dict, like: NaViT) -> NaViT:
    try:
        return from_reference(unflatten(tensors), like)
    except ValueError as error:
        raise ConfigError(f"model.safetensors does not match config.json: {error}") from None
