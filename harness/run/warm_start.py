"""Start from a saved model (fine-tuning), or from a step of another run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from navit_eqx import Model
from navit_eqx.config import ModelConfig, Tubelets
from navit_eqx.errors import ConfigError, check
from navit_eqx.resize import pi_resize
from navit_eqx.training.checkpoints import CorruptCheckpoint, load, saved_steps
from navit_eqx.tubelets import INFLATIONS
from navit_eqx.weights.bridge import from_reference, to_reference
from navit_eqx.zero_shot import text_reader

from ..config import Config
from .folder import read_config
from .resume import RunPosition
from .trained import shape_of, trained_model

FREE = ("dtype", "attention", "remat", "unroll", "stochastic_depth", "fuzzy")  # options of the new run
ADDED = {  # to a model that has none, and what it changes
    "levels": "a vector for each size of patches above the first, zero; outputs are the same",
    "detail": "what the parts of merged patches say, times zero; outputs are the same",
    "areas": "merged patches count as the patches they stand for; outputs are the same where nothing is merged",
}


def run_and_step(start: str) -> tuple[Path, int] | None:
    """Folder and step of RUN@STEP; None for other values of `start`."""
    run, _, step = start.rpartition("@")
    return (Path(run), int(step)) if run and step.isdecimal() else None


def shape_from(config: Config) -> tuple[Config, list[str]]:
    """The configuration with the shape of the saved model, and notes.

    With `model.flexi` the saved model becomes flexible, and its kernel is PI-resized to the patch size of this run.
    Raises ConfigError where the saved model is flexible with another interpolation.
    """
    if not config.start:
        return config, []
    parent = run_and_step(config.start)
    saved = read_config(parent[0]).model if parent else shape_of(config.start)
    model = replace(saved, **{name: getattr(config.model, name) for name in FREE})
    notes = [f"model: the shape of the model in {config.start}"]
    task, more = config.task.started_from(lambda: task_of(config.start), config.start)
    config, notes = replace(config, task=task), notes + more
    if saved.channels != config.model.channels:
        notes.append(f"model.channels = {saved.channels}: images are read with those of the model in {config.start}")
    if not parent:
        notes.append(f"optim.lr = {config.optim.lr:g}: a tenth of the preset's, unless it is given or parts are frozen")
    if config.model.flexi and not parent:
        check_interpolation(saved, config)
        model = replace(model, patch=config.model.patch, flexi=config.model.flexi)
        notes += [f"model.patch = {model.patch}: the kernel of {saved.patch}, PI-resized"]
    if config.model.tubelets and not saved.tubelets and not parent:
        check(saved.flexi is None, f"start={config.start} reads patches of several sizes: start clips from one size")
        tubelets = in_patches(config.model.tubelets, config.model.patch[1:], saved.patch)
        model = replace(model, patch=(config.model.patch[0], *saved.patch), tubelets=tubelets)
        how = tubelets.inflation
        notes += [f"model.patch = {model.patch}: the kernel of {saved.patch} in time, {how}; time adds nothing yet"]
        if tubelets != config.model.tubelets:
            notes.append(f"model.tubelets.shapes = {tubelets.shapes}, strides = {tubelets.strides}: in patches of it")
    for name, what in ADDED.items():
        mine, there = getattr(config.model, name), getattr(saved, name)
        check(
            not (mine and there) or mine == there,
            f"model.{name}={mine}, but the model in {config.start} has {there}: leave out one of them",
        )
        if mine and not there and not parent:
            model = replace(model, **{name: mine})
            notes += [f"model.{name} = {mine}: {what}"]
    return replace(config, model=model), notes


def in_patches(tubelets: Tubelets, old: tuple[int, ...], new: tuple[int, ...]) -> Tubelets:
    """Tubelets of as many patches of `new` as they had of `old`, so that a still clip stays the image; as they are
    where they are no whole patches of `old`, or whole ones of `new`: then they were meant in pixels."""
    every = (*tubelets.shapes, *tubelets.strides)
    whole = lambda sides: all(n % side == 0 for shape in every for n, side in zip(shape[1:], sides))
    if not whole(old) or whole(new):
        return tubelets
    scaled = lambda shapes: tuple((t, *(n // a * b for n, a, b in zip(sides, old, new))) for t, *sides in shapes)
    return replace(tubelets, shapes=scaled(tubelets.shapes), strides=scaled(tubelets.strides))


def task_of(start: str) -> Any:
    """The configuration of the task of the saved model."""
    parent = run_and_step(start)
    return read_config(parent[0]).task if parent else trained_model(start).task.config


def check_interpolation(saved: ModelConfig, config: Config) -> None:
    """Raises ConfigError where the interpolation of a flexible saved model differs from this run."""
    mine = config.model.interpolation
    check(
        saved.flexi is None or saved.interpolation == mine,
        f"start={config.start} resizes patches by {saved.interpolation}, this run by {mine}: "
        "set model.flexi.interpolation to the saved one",
    )


def resized_kernel(saved: Model, shape: ModelConfig) -> Float[Array, "P D"]:
    """The kernel of a saved model, PI-resized to the patch size of this run, or in time for clips."""
    kernel = saved.backbone.patch_embedding.w
    if shape.tubelets and not saved.config.tubelets:
        return INFLATIONS[shape.tubelets.inflation](kernel, shape.patch[0])
    if saved.config.patch == shape.patch:
        return kernel
    return pi_resize(kernel, saved.config.patch, shape.patch, shape.interpolation)


def resume_from(config: Config, abstract_state: Any) -> tuple[Any, RunPosition] | None:
    """State and position at the saved step of `start` = RUN@STEP; None for other values of `start`.

    `abstract_state` has shape, dtype and sharding of each leaf. The new run continues the optimizer and the order of
    the data and may change everything else, as in a cool-down from any saved step of a run with a rate that stays
    above zero [Scaling ViT, arXiv:2106.04560, §3.5].
    Raises ConfigError where the step is missing, damaged or does not fit.
    """
    parent = run_and_step(config.start)
    if not parent:
        return None
    run, step = parent
    folder = (run / "checkpoints").absolute()
    steps = saved_steps(folder)
    there = ", ".join(map(str, steps)) or "none"
    check(
        step in steps, f"start={config.start}: of the steps saved there ({there}) none is {step}; --keep N keeps more"
    )
    try:
        state, saved = load(folder / str(step), abstract_state)
    except CorruptCheckpoint as error:
        raise ConfigError(f"start={config.start}: {error}; start from another step ({there})") from None
    return state, RunPosition(progress=saved["progress"])


def zero_at_first(saved: dict, initial: dict) -> dict:
    """Parameters of time, of levels of blocks and of the detail path where the saved model has none: zeros, which
    change no output. Of the detail path only the map at its end is zero: zeros before it would never learn."""
    new = [part for part in ("time", "levels", "detail") if saved[part] is None and initial[part] is not None]
    zeros = lambda params: {name: 0 * x if isinstance(x, np.ndarray) else x for name, x in params.items()}
    learning = lambda params: {**params, "out": zeros(params["out"])}
    return {part: (learning if part == "detail" else zeros)(initial[part]) for part in new}


def warm_start(model: Model, config: Config, classes: tuple[str, ...]) -> Model:
    """`model` with the saved parameters; the kernel is PI-resized where the patch size differs.

    The parameters of the task are kept where task and classes are the same, and initialized otherwise.

    Raises ConfigError where the saved parameters do not fit.
    """
    if not config.start:
        return model
    saved = trained_model(config.start)
    saved = eqx.tree_at(lambda m: m.backbone.patch_embedding.w, saved, resized_kernel(saved, config.model))
    params, initial = to_reference(saved), to_reference(model)
    params["backbone"] |= zero_at_first(params["backbone"], initial["backbone"])
    same_classes = saved.info is not None and saved.info.classes == classes
    taken = model.task.started_from(initial["task"], params["task"], same_classes)
    params["task"] = initial["task"] if taken is None else taken
    if taken is None:
        print(f"the head starts anew: {config.start} has other classes or another task", flush=True)
        if model.task.naming_option and text_reader(saved):
            option = model.task.naming_option
            print(f"its text tower is left out: {option} keeps it, and names classes by texts", flush=True)
    try:
        return from_reference(params, model)
    except ValueError as error:
        raise ConfigError(f"start={config.start} does not fit the model of this run: {error}") from None
