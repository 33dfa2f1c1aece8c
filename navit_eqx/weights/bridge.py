"""Modules ↔ nested dicts of arrays. `reference` and `navit_eqx` use the same names, so no table of names is needed."""

import dataclasses
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np

M = TypeVar("M", bound=eqx.Module)


def to_reference(module: eqx.Module) -> dict:
    """Parameters as a nested dict for `reference`: field names are keys, arrays are NumPy arrays.

    The key "kind" holds the class name of a module; the reference uses it to select among alternatives.
    """

    def convert(node: Any) -> Any:
        if isinstance(node, eqx.Module):
            fields = {f.name: convert(getattr(node, f.name)) for f in dataclasses.fields(node)}
            return {"kind": type(node).__name__, **fields}
        return np.asarray(node) if eqx.is_array(node) else node

    return convert(module)


def from_reference(params: dict, abstract: M) -> M:
    """A module with the structure and dtypes of `abstract` (a module of arrays or abstract arrays), and the arrays of
    `params`.

    Raises ValueError, naming the parameter, where one is missing or has another shape.
    """

    def fill(path, leaf):
        node: Any = params
        for key in path:
            if key.name not in node:
                raise ValueError(f"parameter {jax.tree_util.keystr(path)} is missing")
            node = node[key.name]
        if node.shape != leaf.shape:
            raise ValueError(f"parameter {jax.tree_util.keystr(path)} has shape {node.shape}, expected {leaf.shape}")
        return jax.numpy.asarray(node, leaf.dtype)

    arrays, static = eqx.partition(abstract, lambda x: eqx.is_array(x) or isinstance(x, jax.ShapeDtypeStruct))
    return eqx.combine(jax.tree_util.tree_map_with_path(fill, arrays), static)


def flatten(model: eqx.Module) -> dict[str, np.ndarray]:
    """Arrays of a module by dotted name, as stored in safetensors files.

    Arrays are contiguous: safetensors would store a view, such as a transpose, in its memory order.
    """
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(model, eqx.is_array))
    return {".".join(key.name for key in path): np.asarray(leaf, order="C") for path, leaf in leaves}


def unflatten(tensors: dict[str, np.ndarray]) -> dict:
    """Arrays by dotted name → nested dict."""
    tree: dict = {}
    for name, tensor in tensors.items():
        *outer, last = name.split(".")
        node = tree
        for key in outer:
            node = node.setdefault(key, {})
        node[last] = tensor
    return tree
