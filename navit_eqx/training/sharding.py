"""Devices: rows are split among them, and parameters too where the configuration says so."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .config import FSDP, DataParallel


def data_mesh() -> Mesh:
    """All devices of all hosts on one axis.

    Automatic axes: with JAX's default, explicit ones, a sharding constraint can be ignored silently.
    """
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def shard_rows(leaves: Any, mesh: Mesh) -> Any:
    """Arrays with a leading axis of rows: those of this host as its share of the global batch."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), leaves)


def partition_spec(shape: tuple[int, ...], rule: DataParallel | FSDP, devices: int) -> PartitionSpec:
    """Which axis of an array is split over the devices: the longest that they divide, if the rule splits it at all."""
    if isinstance(rule, DataParallel) or math.prod(shape) < rule.min_size:
        return PartitionSpec()
    divisible = [axis for axis, size in enumerate(shape) if size % devices == 0]
    if not divisible:
        return PartitionSpec()
    longest = max(divisible, key=lambda axis: shape[axis])
    return PartitionSpec(*[None] * longest, "data")


def shardings(shapes: Any, rule: DataParallel | FSDP, mesh: Mesh) -> Any:
    """The place of each leaf: parameters, average and optimiser alike, by shape alone."""
    return jax.tree.map(lambda leaf: NamedSharding(mesh, partition_spec(leaf.shape, rule, mesh.size)), shapes)


def bytes_per_device(placed: Any) -> int:
    """Of all leaves, as they are placed."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(placed)
    )


def abstract_arrays(shapes: Any, sharding: Any) -> Any:
    """Shapes and dtypes with a place, one for all or a tree of them: what to restore into."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        jax.tree.broadcast(sharding, shapes),
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def with_mesh(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`step`, traced with the mesh: kernels then run on the rows of each device; see `kernels.per_device`."""

    def traced(*args: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return step(*args)

    return traced if mesh.size > 1 else step
