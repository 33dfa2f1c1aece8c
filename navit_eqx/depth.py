"""Stochastic depth: in training, an image skips some blocks.   [Huang et al., arXiv:1603.09382]"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray


def skip_rates(rate: float, depth: int) -> Float[np.ndarray, " L"]:
    """The chance that an image skips block l: from 0 at the first to `rate` at the last, in a straight line."""
    return np.linspace(0.0, rate, depth)


def sample_gates(
    key: PRNGKeyArray, rates: Float[np.ndarray, " L"], image_ids: Int[Array, "*B I"]
) -> Float[Array, "L *B I"]:
    """0 where an image skips a block, otherwise 1/(1 − rate), so that the mean is 1.

    Drawn from the image's number, so that neither packing nor the number of devices can change them.
    """

    def stays(image_id):
        return jr.uniform(jr.fold_in(key, image_id), (len(rates),), jnp.float32) >= jnp.asarray(rates, jnp.float32)

    gates = jax.vmap(stays)(image_ids.reshape(-1)).astype(jnp.float32) / jnp.asarray(1 - rates, jnp.float32)
    return gates.T.reshape(len(rates), *image_ids.shape)


def token_gates(gates: Float[Array, "L *B I"], segment_ids: Int[Array, "*B T"]) -> Float[Array, "L *B T"]:
    """The gate of each token's image."""
    slot = jnp.maximum(segment_ids, 1) - 1
    return jnp.take_along_axis(gates, slot[None], axis=-1)
