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

BLOCKS = ["encoder", "blocks"]
AFTER_BLOCKS = (["encoder", "norm"], ["pool"])


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
    below = [names[len(part) :] for part in parts_of(frozen) if starts(names, part)]
    if not below or frozen.last_n and any(starts(below[0], part) for part in AFTER_BLOCKS):
        return leaf, None
    if frozen.last_n and starts(below[0], BLOCKS):
        first = len(leaf) - frozen.last_n
        return leaf[first:], leaf[:first] if first else None
    return None, leaf


def parts_of(frozen: Backbone | Parts) -> list[list[str]]:
    """Paths of the frozen parts."""
    return [["backbone"]] if isinstance(frozen, Backbone) else [name.split(".") for name in frozen.names]


def starts(names: Sequence[str], part: Sequence[str]) -> bool:
    """Whether a path begins with the path of a part."""
    return [*names[: len(part)]] == [*part]


def part_at(model: Any, names: Sequence[str]) -> Any:
    """The part of a model with this path."""
    return reduce(getattr, names, model)


def check_fits(model: Any, frozen: Backbone | Parts) -> None:
    """Raises ConfigError where a part does not exist, or the model has fewer blocks than `last_n`."""
    paths = [[key.name for key in path] for path, _ in jax.tree_util.tree_leaves_with_path(model)]
    for part in parts_of(frozen):
        name = ".".join(part)
        check(
            any(starts(path, part) for path in paths),
            f"optim.frozen.names: the model has no part {name!r}, it has {', '.join(sorted(known_parts(paths)))}",
        )
        if frozen.last_n:
            check(
                any(starts(path, [*part, *BLOCKS]) for path in paths),
                f"optim.frozen.last_n={frozen.last_n}, but {name} is no tower of blocks: name backbone or task.text",
            )
            depth = part_at(model, part).encoder.depth
            check(frozen.last_n <= depth, f"optim.frozen.last_n={frozen.last_n}, but the {name} has {depth} blocks")


def known_parts(paths: Sequence[Sequence[str]]) -> set[str]:
    """Names of the parts of a model, two levels deep."""
    return {".".join(path[:depth]) for path in paths for depth in (1, 2)}
