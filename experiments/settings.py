"""At which resolution, in which patches a trained model is evaluated, and the names of such settings in results."""

from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from harness.resolve import host_interpolation
from navit_eqx import Model
from navit_eqx.tasks.model import reconfigured
from reference.resize import RESIZES


class Setting(NamedTuple):
    """A resolution, the side of square patches in pixels (0: the model's own patch), and the way in which the kernel is
    resized for them: one of `reference.resize.RESIZES`."""

    resolution: float
    patch_size: int = 0
    kernel: str = "pi"

    @property
    def patch(self) -> tuple[int, int] | None:
        """Height and width of the patches; None is the model's own."""
        return (self.patch_size, self.patch_size) if self.patch_size else None


AnySetting = Setting | float | list[Any] | str
"""A setting; a resolution alone; a setting as JSON has it; or a word that only the experiment can evaluate."""


def setting(given: AnySetting) -> Setting:
    """Raises TypeError on a word."""
    if isinstance(given, float | int):
        return Setting(given)
    if isinstance(given, str):
        raise TypeError(f"{given!r} is no setting")
    return given if isinstance(given, Setting) else Setting(*given)


def name(given: AnySetting) -> str:
    """Resolution, patch size and kernel, without what stands at its default; or the word itself."""
    if isinstance(given, str):
        return given
    resolution, patch_size, kernel = setting(given)
    parts = [f"{resolution:g}", f"{patch_size} px" if patch_size else "", kernel if kernel != "pi" else ""]
    return ", ".join(filter(None, parts))


def with_kernel(model: Model, patch: tuple[int, ...], kernel: str) -> Model:
    """`model` as one whose own patch is `patch`; its kernel is resized in the named way."""
    config = model.config
    w = model.backbone.patch_embedding.w
    how = host_interpolation(config.interpolation)
    resized = RESIZES[kernel](np.asarray(w, float), config.patch, patch, how)
    changed = eqx.tree_at(lambda m: m.backbone.patch_embedding.w, model, jnp.asarray(resized, w.dtype))
    return reconfigured(changed, replace(config, patch=patch, flexi=None))
