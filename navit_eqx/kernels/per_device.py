"""Helpers of all kernels: sharding over rows, padding."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array


def shard_over_rows(f: Callable[..., Array], q: Array, *arrays: Array) -> Array:
    """f on arrays whose batch axes are flattened to one axis of rows; `q` is *B H T K.

    The compiler cannot partition a custom kernel. Under a mesh (`training.sharding.with_mesh`) every device runs f on
    its own rows, where the devices divide the number of rows. Where each device has its own program already
    (`inference.on_mesh`), it has its own rows too.
    """
    lead = q.shape[:-3]
    flat = [x.reshape(-1, *x.shape[len(lead) :]) for x in (q, *arrays)]
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and not mesh.manual_axes and mesh.size > 1 and len(flat[0]) % mesh.size == 0:
        rows = PartitionSpec(mesh.axis_names)
        f = jax.shard_map(f, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
    return f(*flat).reshape(q.shape)


def padded(x: Array, lengths: Mapping[int, int]) -> Array:
    """x zero-padded at the end of the axes in `lengths`, to these lengths."""
    widths = [(0, lengths.get(axis, size) - size) for axis, size in enumerate(x.shape)]
    return jnp.pad(x, widths) if any(after for _, after in widths) else x
