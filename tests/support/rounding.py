"""A model in low precision, and its parameters in float64 for the reference."""

import dataclasses
from functools import lru_cache

import equinox as eqx
import jax
import numpy as np

from navit_eqx.tasks.model import Model, reconfigured
from navit_eqx.weights.bridge import to_reference
from tests.support.strategies import CONFIG, TASK, model

call = eqx.filter_jit(lambda f, *args: f(*args))


@lru_cache
def rounded(dtype: str) -> tuple[Model, dict]:
    """The model with float32 parameters that computes in `dtype`, and those parameters for the reference."""
    config = dataclasses.replace(CONFIG, dtype=dtype)
    as32 = jax.tree.map(lambda a: a.astype("float32"), eqx.filter(model(task=TASK), eqx.is_array))
    module = reconfigured(eqx.combine(as32, model(task=TASK)), config)
    return module, in_float64(to_reference(module))


def in_float64(params: dict) -> dict:
    """The same numbers as float64 arrays."""
    return jax.tree.map(lambda a: a.astype(np.float64) if isinstance(a, np.ndarray) else a, params)
