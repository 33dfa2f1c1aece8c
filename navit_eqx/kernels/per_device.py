"""Helpers of all kernels: sharding over rows, padding."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array


def per_device(f: Callable[..., Any], *rows: Any) -> Any:
    """f on trees of arrays with a leading axis of rows: what it gives has one too.

    Under a mesh (`training.sharding.with_mesh`) every device runs f on its own rows, where the devices divide the
    number of rows. Where each device has its own program already (`inference.on_mesh`), it has its own rows too.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and not mesh.manual_axes and mesh.size > 1 and len(jax.tree.leaves(rows)[0]) % mesh.size == 0:
        spec = PartitionSpec(mesh.axis_names)
        f = jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return f(*rows)


def shard_over_rows(f: Callable[..., Array], q: Array, *arrays: Array) -> Array:
    """f on arrays whose batch axes are flattened to one axis of rows; `q` is *B H T K.

    The compiler cannot partition a custom kernel: see `per_device`.
    """
    lead = q.shape[:-3]
    flat = [x.reshape(-1, *x.shape[len(lead) :]) for x in (q, *arrays)]
    return per_device(f, *flat).reshape(q.shape)


def padded(x: Array, lengths: Mapping[int, int]) -> Array:
    """x zero-padded at the end of the axes in `lengths`, to these lengths."""
    widths = [(0, lengths.get(axis, size) - size) for axis, size in enumerate(x.shape)]
    return jnp.pad(x, widths) if any(after for _, after in widths) else x
