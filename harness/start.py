"""Fine-tuning: a run that starts from a saved model instead of fresh parameters."""

from dataclasses import replace

import equinox as eqx

from navit_eqx import NaViT, load_model
from navit_eqx.bridge import from_reference, to_reference
from navit_eqx.config_json import ConfigError

from .config import Config

FREE = ("classes", "dtype", "remat", "unroll", "stochastic_depth")  # what a new run may choose for itself


def shape_from(config: Config) -> tuple[Config, list[str]]:
    """The configuration with the shape of the model to start from, and a note that says so."""
    if not config.start:
        return config, []
    saved = load_model(config.start)[1]
    model = replace(saved, **{name: getattr(config.model, name) for name in FREE})
    return replace(config, model=model), [f"model: the shape of the one in {config.start}"]


def begin(model: NaViT, config: Config, classes: tuple[str, ...]) -> NaViT:
    """`model` with the saved parameters; its classifier stays fresh unless the saved one knows the same classes.

    Raises ConfigError where the saved parameters do not fit.
    """
    if not config.start:
        return model
    saved, _, about = load_model(config.start)
    if tuple(about.get("classes", ())) != classes:
        saved = eqx.tree_at(lambda m: m.head, saved, model.head)
    try:
        return from_reference(to_reference(saved), model)
    except ValueError as error:
        raise ConfigError(f"start={config.start} does not fit the model of this run: {error}") from None
