"""Device mesh and shardings: rows are sharded, and with FSDP parameters as well."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .config import FSDP, DataParallel


def data_mesh() -> Mesh:
    """All devices of all hosts on one mesh axis, "data".

    The axis type is Auto: with Explicit, JAX's default, a sharding constraint can be ignored silently.
    """
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def shard_rows(leaves: Any, mesh: Mesh) -> Any:
    """Arrays of this host with a leading axis of rows → its share of global arrays, sharded over rows."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), leaves)


def partition_spec(shape: tuple[int, ...], rule: DataParallel | FSDP, devices: int) -> PartitionSpec:
    """Sharding of one array: along the longest axis that `devices` divides with FSDP, else replicated."""
    if isinstance(rule, DataParallel) or math.prod(shape) < rule.min_size:
        return PartitionSpec()
    divisible = [axis for axis, size in enumerate(shape) if size % devices == 0]
    if not divisible:
        return PartitionSpec()
    longest = max(divisible, key=lambda axis: shape[axis])
    return PartitionSpec(*[None] * longest, "data")


def shardings(shapes: Any, rule: DataParallel | FSDP, mesh: Mesh) -> Any:
    """Sharding of each leaf of parameters, moving average and optimizer state, by its shape."""
    return jax.tree.map(lambda leaf: NamedSharding(mesh, partition_spec(leaf.shape, rule, mesh.size)), shapes)


def bytes_per_device(arrays: Any) -> int:
    """Bytes of all leaves on one device, by their shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(arrays)
    )


def abstract_arrays(shapes: Any, sharding: Any) -> Any:
    """Abstract arrays (shape, dtype, sharding) to restore into; `sharding` is one for all leaves, or a tree."""
    return jax.tree.map(
        lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s),
        shapes,
        jax.tree.broadcast(sharding, shapes),
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array with a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def with_mesh(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`step`, traced with the mesh: kernels then run on the rows of each device; see `kernels/per_device.py`."""

    def traced(*args: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return step(*args)

    return traced if mesh.size > 1 else step
