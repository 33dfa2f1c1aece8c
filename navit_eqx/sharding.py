"""Devices: rows are split among them, parameters are on each of them."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from .types import Row


def data_mesh() -> Mesh:
    """All devices of all hosts on one axis.

    Automatic axes: with JAX's default, explicit ones, a sharding constraint can be ignored silently.
    """
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def split_rows(batch: tuple[np.ndarray, ...], mesh: Mesh) -> Row:
    """This host's rows as its share of the global batch."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return Row(*(jax.make_array_from_process_local_data(sharding, leaf) for leaf in batch))


def placed(shapes: Any, sharding: Sharding) -> Any:
    """Shapes and dtypes with a place: what to restore into."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def everywhere(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())
