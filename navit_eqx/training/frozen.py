"""Frozen and trained parameters of a model.

The optimizer sees the trained ones alone, so frozen ones have no gradient, no state and no decay. Blocks are stacked on
a leading axis: of a stack, the first blocks may be frozen and the last ones trained.
"""

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import tree_leaves, tree_map_with_path

from ..errors import check
from .config import Backbone, Parts

BLOCKS = ["backbone", "encoder", "blocks"]
AFTER_BLOCKS = (["backbone", "encoder", "norm"], ["backbone", "pool"])


def partition(model: Any, frozen: Backbone | Parts | None) -> tuple[Any, Any]:
    """(trained, frozen) arrays of a model, each with None where it has nothing.

    Raises ConfigError where `frozen` does not fit the model, or leaves nothing to train.
    """
    if frozen is None:
        return model, jax.tree.map(lambda _: None, model)
    check_fits(model, frozen)
    parts = partial(split, frozen=frozen)
    trained, fixed = (tree_map_with_path(lambda path, leaf, k=k: parts(path, leaf)[k], model) for k in (0, 1))
    check(bool(tree_leaves(trained)), f"optim.frozen={frozen} leaves nothing to train: name fewer parts")
    return trained, fixed


def merge(trained: Any, fixed: Any) -> Any:
    """The model whose `partition` is (trained, fixed)."""

    def whole(a, b):
        return b if a is None else a if b is None else jnp.concatenate([b, a])

    return jax.tree.map(whole, trained, fixed, is_leaf=lambda leaf: leaf is None)


def split(path: Any, leaf: Any, frozen: Backbone | Parts) -> tuple[Any, Any]:
    """(trained, frozen) part of the parameter with this path; None for nothing."""
    names = [key.name for key in path]
    if isinstance(frozen, Parts):
        below = any(starts(names, name.split(".")) for name in frozen.names)
    else:
        if starts(names, BLOCKS) and frozen.last_n:
            first = len(leaf) - frozen.last_n
            return leaf[first:], leaf[:first] if first else None
        after = bool(frozen.last_n) and any(starts(names, part) for part in AFTER_BLOCKS)
        below = names[0] == "backbone" and not after
    return (None, leaf) if below else (leaf, None)


def starts(names: Sequence[str], part: Sequence[str]) -> bool:
    """Whether a path begins with the path of a part."""
    return [*names[: len(part)]] == [*part]


def part_at(model: Any, names: Sequence[str]) -> Any:
    """The part of a model with this path."""
    return reduce(getattr, names, model)


def check_fits(model: Any, frozen: Backbone | Parts) -> None:
    """Raises ConfigError where a part does not exist, or the model has fewer blocks than `last_n`."""
    if isinstance(frozen, Backbone):
        depth = model.backbone.encoder.depth
        check(frozen.last_n <= depth, f"optim.frozen.last_n={frozen.last_n}, but the model has {depth} blocks")
        return
    paths = [[key.name for key in path] for path, _ in jax.tree_util.tree_leaves_with_path(model)]
    for name in frozen.names:
        check(
            any(starts(path, name.split(".")) for path in paths),
            f"optim.frozen.names: the model has no part {name!r}, it has {', '.join(sorted(known_parts(paths)))}",
        )


def known_parts(paths: Sequence[Sequence[str]]) -> set[str]:
    """Names of the parts of a model, two levels deep."""
    return {".".join(path[:depth]) for path in paths for depth in (1, 2)}
