"""A run that starts from another one: from its model (fine-tuning) or from a saved step (a branch)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from navit_eqx import NaViT, load_model
from navit_eqx.bridge import from_reference, to_reference
from navit_eqx.config import ModelConfig
from navit_eqx.config_json import ConfigError, check
from navit_eqx.resize import pi_resize
from navit_eqx.saver import Damaged, load, saved_steps

from .config import Config
from .report import read_config

FREE = ("classes", "dtype", "attention", "remat", "unroll", "stochastic_depth")  # what a new run may choose for itself


def branching(start: str) -> tuple[Path, int] | None:
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
    trunk = branching(config.start)
    saved = read_config(trunk[0]).model if trunk else load_model(config.start)[1]
    model = replace(saved, **{name: getattr(config.model, name) for name in FREE})
    notes = [f"model: the shape of the one in {config.start}"]
    if config.model.flexi and not trunk:
        check_interpolation(saved, config)
        model = replace(model, patch_size=config.model.patch_size, flexi=config.model.flexi)
        notes += [f"model.patch_size = {model.patch_size}: the kernel of {saved.patch_size}, PI-resized"]
    return replace(config, model=model), notes


def check_interpolation(saved: ModelConfig, config: Config) -> None:
    mine = config.model.interpolation
    check(
        saved.flexi is None or saved.interpolation == mine,
        f"start={config.start} reads other patch sizes by {saved.interpolation}, this run by {mine}: the weights mean "
        "something else there, so set model.flexi.interpolation to the saved one",
    )


def resized(saved: NaViT, shape: ModelConfig) -> Float[Array, "P D"]:
    """The kernel of a saved model at the patch size of this run."""
    if saved.patch_size == shape.patch_size:
        return saved.embed.w
    return pi_resize(saved.embed.w, (saved.patch_size,) * 2, (shape.patch_size,) * 2, shape.interpolation)


def branch(config: Config, like: Any) -> tuple[Any, dict[str, Any]] | None:
    """The whole state of the saved step that `start` names as RUN@STEP, and the counts that belong to it.

    `like` tells shape, dtype and sharding of each leaf. A run that branches off continues the optimiser and the order
    of the data, and may change all else: a cool-down from any saved step of a run whose rate never falls to zero
    [Scaling ViT, arXiv:2106.04560, §3.5].   Raises ConfigError where that step is missing, damaged or does not fit.
    """
    trunk = branching(config.start)
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
        state, about = load(folder / str(step), like)
    except Damaged as error:
        raise ConfigError(f"start={config.start}: {error}; start from another step ({there})") from None
    return state, {"progress": about["progress"]}


def begin(model: NaViT, config: Config, classes: tuple[str, ...]) -> NaViT:
    """`model` with the saved parameters; its classifier stays fresh unless the saved one knows the same classes, and
    its kernel is PI-resized where its patches have another size.

    Raises ConfigError where the saved parameters do not fit.
    """
    if not config.start:
        return model
    saved, _, about = load_model(config.start)
    if tuple(about.get("classes", ())) != classes:
        saved = eqx.tree_at(lambda m: m.head, saved, model.head)
    saved = eqx.tree_at(lambda m: m.embed.w, saved, resized(saved, config.model))
    try:
        return from_reference(to_reference(saved), model)
    except ValueError as error:
        raise ConfigError(f"start={config.start} does not fit the model of this run: {error}") from None
