"""Ways to see the validation images, and their names in results."""

from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from harness.run.loading import interpolation_of
from navit_eqx import NaViT
from navit_eqx.config import ModelConfig
from navit_eqx.weights.bridge import from_reference, to_reference
from reference.resize import RESIZES


class View(NamedTuple):
    """At a resolution, in patches of a size (0: the model's own), for which the kernel is resized in one of the ways of
    `reference.resize.RESIZES`."""

    resolution: float
    patch_size: int = 0
    kernel: str = "pi"


Seen = View | float | list[Any] | str
"""A view; a resolution alone; a view as JSON has it; or what only the experiment itself knows how to see."""


def view(seen: Seen) -> View:
    """Raises TypeError on a word."""
    if isinstance(seen, float | int):
        return View(seen)
    if isinstance(seen, str):
        raise TypeError(f"{seen!r} is no view")
    return seen if isinstance(seen, View) else View(*seen)


def name(seen: Seen) -> str:
    """Resolution, patch size and kernel, without what stands at its default; or the word itself."""
    if isinstance(seen, str):
        return seen
    resolution, patch_size, kernel = view(seen)
    said = [f"{resolution:g}", f"{patch_size} px" if patch_size else "", kernel if kernel != "pi" else ""]
    return ", ".join(filter(None, said))


def with_kernel(model: NaViT, shape: ModelConfig, size: int, kernel: str) -> NaViT:
    """`model` as one whose own patch size is `size`; its kernel is brought there in the named way."""
    own = shape.patch_size
    other = eqx.filter_eval_shape(NaViT, replace(shape, patch_size=size), key=jr.key(0))
    resized = RESIZES[kernel](np.asarray(model.patch_embedding.w, float), (own, own), (size, size), interpolation_of(shape))
    changed = eqx.tree_at(lambda m: m.patch_embedding.w, model, jnp.asarray(resized, model.patch_embedding.w.dtype))
    return from_reference(to_reference(changed), other)
