"""The part of patch handling that runs on the device."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Num


def normalise(patches: Num[Array, "..."]) -> Float[Array, "..."]:
    """Pixels 0…255 to −1…1; floating-point patches are taken as already normalised.

    Pixels cross to the device as uint8, a quarter of the bytes of float32.
    """
    if jnp.issubdtype(patches.dtype, jnp.floating):
        return patches
    return patches.astype(jnp.float32) / 127.5 - 1.0
