"""Fine-tuning: a run that starts from a saved model instead of fresh parameters."""

from dataclasses import replace

import equinox as eqx
from jaxtyping import Array, Float

from navit_eqx import NaViT, load_model
from navit_eqx.bridge import from_reference, to_reference
from navit_eqx.config import ModelConfig
from navit_eqx.config_json import ConfigError, check
from navit_eqx.resize import pi_resize

from .config import Config

FREE = ("classes", "dtype", "remat", "unroll", "stochastic_depth")  # what a new run may choose for itself


def shape_from(config: Config) -> tuple[Config, list[str]]:
    """The configuration with the shape of the model to start from, and a note that says so.

    A run with `model.flexi` makes that model flexible: it also keeps its own patch size, to which the kernel is
    PI-resized. Raises ConfigError where the saved model was made flexible by another interpolation.
    """
    if not config.start:
        return config, []
    saved = load_model(config.start)[1]
    model = replace(saved, **{name: getattr(config.model, name) for name in FREE})
    notes = [f"model: the shape of the one in {config.start}"]
    if config.model.flexi:
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
