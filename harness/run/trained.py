"""The model of a run, finished or not."""

import sys
import tempfile
from pathlib import Path

import jax

from navit_eqx import Model, load_model, save_model
from navit_eqx.config import ModelConfig
from navit_eqx.errors import ConfigError, check
from navit_eqx.info import ModelInfo
from navit_eqx.serialize import decode, read_json
from navit_eqx.tasks import prepare
from navit_eqx.training.checkpoints import CorruptCheckpoint, load, saved_steps
from navit_eqx.training.hosts import replicate_to_host

from ..config import Config
from .folder import read_config, read_saved
from .program import program_of


def trained_model(folder: Path | str) -> Model:
    """The model of a run or of a saved model; of a run that is not finished, that of its last save.

    Raises ConfigError where there is none, or nothing was saved yet.
    """
    folder = Path(folder)
    if not is_unfinished(folder):
        return load_model(folder)
    saved = read_saved(folder)
    check("info" in saved, f"{folder} is not finished, and was begun by an earlier version: continue it")
    info = decode(ModelInfo, saved["info"], f"{folder}/config.json: info")
    steps = saved_steps(folder / "checkpoints")
    check(
        bool(steps), f"{folder} is not finished, and nothing is saved yet: continue it with the command that began it"
    )
    for step in reversed(steps):
        try:
            model = model_at(folder, step, read_config(folder), info.classes)
        except CorruptCheckpoint as error:
            print(f"step {step} of {folder} is damaged, {error}", file=sys.stderr, flush=True)
            continue
        print(f"{folder} is not finished: this is the model of step {step}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as place:  # with the checks and the digest of a saved model
            save_model(place, model, info)
            return load_model(place)
    raise ConfigError(f"no step in {folder}/checkpoints is what was saved: restore one from a copy")


def is_unfinished(folder: Path) -> bool:
    """Whether a folder is that of a run without its model. Folders of other projects have a config.json as well."""
    file = folder / "config.json"
    if (folder / "model" / file.name).is_file() or not file.is_file():
        return False
    return {"config", "digest"} <= read_json(file).keys()


def model_at(folder: Path, step: int, config: Config, classes: tuple[str, ...]) -> Model:
    """The model at a saved step of a run.   Raises CorruptCheckpoint."""
    program = program_of(config, prepare(config.task, classes, trained_model))
    state, _ = load((folder / "checkpoints" / str(step)).resolve(), program.abstract_state)
    return program.model(jax.device_get(replicate_to_host(state.eval_params))).for_inference()


def shape_of(folder: Path | str) -> ModelConfig:
    """The configuration of the model of a run or of a saved model."""
    folder = Path(folder)
    return read_config(folder).model if is_unfinished(folder) else load_model(folder).config
