"""A run that starts from a saved model (fine-tuning), or from a step of another run (a branch)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from navit_eqx import Model, load_model
from navit_eqx.config import ModelConfig
from navit_eqx.errors import ConfigError, check
from navit_eqx.resize import pi_resize
from navit_eqx.training.checkpoints import CorruptCheckpoint, load, saved_steps
from navit_eqx.weights.bridge import from_reference, to_reference

from ..config import Config
from .folder import read_config
from .resume import RunPosition

FREE = ("dtype", "attention", "remat", "unroll", "stochastic_depth")  # what a new run may choose for itself


def trunk_of(start: str) -> tuple[Path, int] | None:
    """Run and step of RUN@STEP; None for anything else."""
    run, _, step = start.rpartition("@")
    return (Path(run), int(step)) if run and step.isdecimal() else None


def shape_from(config: Config) -> tuple[Config, list[str]]:
    """The configuration with the shape of the model to start from, and a note that says so.

    A run with `model.flexi` makes that model flexible: it also keeps its own patch size, to which the kernel is
    PI-resized. Raises ConfigError where the saved model was made flexible by another interpolation.
    """
    if not config.start:
        return config, []
    trunk = trunk_of(config.start)
    saved = read_config(trunk[0]).model if trunk else load_model(config.start).config
    model = replace(saved, **{name: getattr(config.model, name) for name in FREE})
    notes = [f"model: the shape of the one in {config.start}"]
    if config.model.flexi and not trunk:
        check_interpolation(saved, config)
        model = replace(model, patch=config.model.patch, flexi=config.model.flexi)
        notes += [f"model.patch = {model.patch}: the kernel of {saved.patch}, PI-resized"]
    return replace(config, model=model), notes


def check_interpolation(saved: ModelConfig, config: Config) -> None:
    """Raises ConfigError where a flexible model reads other sizes in another way than this run."""
    mine = config.model.interpolation
    check(
        saved.flexi is None or saved.interpolation == mine,
        f"start={config.start} reads other patch sizes by {saved.interpolation}, this run by {mine}: the weights mean "
        "something else there, so set model.flexi.interpolation to the saved one",
    )


def resized_kernel(saved: Model, shape: ModelConfig) -> Float[Array, "P D"]:
    """The kernel of a saved model at the patch size of this run."""
    kernel = saved.backbone.patch_embedding.w
    if saved.config.patch == shape.patch:
        return kernel
    return pi_resize(kernel, saved.config.patch, shape.patch, shape.interpolation)


def resume_from(config: Config, abstract_state: Any) -> tuple[Any, RunPosition] | None:
    """The whole state of the saved step that `start` names as RUN@STEP, and the counts that belong to it.

    `abstract_state` tells shape, dtype and sharding of each leaf. A run that branches off continues the optimizer and
    the order of the data, and may change all else: a cool-down from any saved step of a run whose rate never falls to
    zero [Scaling ViT, arXiv:2106.04560, §3.5].   Raises ConfigError where that step is missing, damaged or does not fit.
    """
    trunk = trunk_of(config.start)
    if not trunk:
        return None
    run, step = trunk
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


def warm_start(model: Model, config: Config, classes: tuple[str, ...]) -> Model:
    """`model` with the saved parameters; its task starts anew unless the saved one is alike and knows the same
    classes, and its kernel is PI-resized where its patches have another size.

    Raises ConfigError where the saved parameters do not fit.
    """
    if not config.start:
        return model
    saved = load_model(config.start)
    saved = eqx.tree_at(lambda m: m.backbone.patch_embedding.w, saved, resized_kernel(saved, config.model))
    params, fresh = to_reference(saved), to_reference(model)
    known = saved.info is not None and saved.info.classes == classes
    if not known or params["task"].keys() - {"kind"} < fresh["task"].keys() - {"kind"}:
        params["task"] = fresh["task"]
    try:
        return from_reference(params, model)
    except ValueError as error:
        raise ConfigError(f"start={config.start} does not fit the model of this run: {error}") from None
