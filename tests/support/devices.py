"""Devices, as the tests of several of them share them."""

import jax
from jax.sharding import AxisType


def mesh_of(count: int):
    """The first `count` devices on one axis."""
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
