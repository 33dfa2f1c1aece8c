"""Assignment of boxes to tokens with the least sum of costs: on the device by Optax, on the host by SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from scipy.optimize import linear_sum_assignment


def on_device(cost: Float[Array, "T M"]) -> Int[Array, " M"]:
    """The token of each box; no two boxes have the same. Costs are finite, and M ≤ T."""
    cost = cost.astype(float)  # the dtype in which Optax computes
    tokens, boxes = optax.assignment.hungarian_algorithm(cost)  # pairs come in no particular order
    return jnp.zeros(cost.shape[1], jnp.int32).at[boxes].set(tokens.astype(jnp.int32))


def on_host(cost: Float[Array, "T M"]) -> Int[Array, " M"]:
    """The same by a call to the host, for all rows of a device at once."""
    shape = jax.ShapeDtypeStruct(cost.shape[1:], jnp.int32)
    return jax.pure_callback(by_scipy, shape, cost, vmap_method="broadcast_all")


def by_scipy(cost: Float[Array | np.ndarray, "*B T M"]) -> Int[np.ndarray, "*B M"]:
    """The token of each box, row by row."""
    costs = np.asarray(cost)
    tokens = np.zeros((*costs.shape[:-2], costs.shape[-1]), np.int32)
    for row in np.ndindex(costs.shape[:-2]):
        token, box = linear_sum_assignment(costs[row])
        tokens[row][box] = token
    return tokens


ASSIGNMENTS = {"device": on_device, "host": on_host}
