"""Boxes (cx, cy, w, h): middle, width and height, all in one unit."""

import jax.numpy as jnp
from jaxtyping import Array, Float

TINY = 1e-9  # an area below which a quotient of areas is no longer one


def corners(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Left, top, right and bottom: middle ∓ half of the side."""
    middle, sides = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([middle - sides / 2, middle + sides / 2], -1)


def areas(
    a: Float[Array, "*#n 4"], b: Float[Array, "*#n 4"]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"], Float[Array, "*n"]]:
    """Areas of the intersection, the union and the hull (the smallest box around both)."""
    p, q = corners(a), corners(b)
    common = jnp.maximum(jnp.minimum(p[..., 2:], q[..., 2:]) - jnp.maximum(p[..., :2], q[..., :2]), 0).prod(-1)
    hull = (jnp.maximum(p[..., 2:], q[..., 2:]) - jnp.minimum(p[..., :2], q[..., :2])).prod(-1)
    return common, a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - common, hull


def iou(a: Float[Array, "*#n 4"], b: Float[Array, "*#n 4"]) -> Float[Array, "*n"]:
    """|intersection| / |union|"""
    common, union, _ = areas(a, b)
    return common / jnp.maximum(union, TINY)


def giou(a: Float[Array, "*#n 4"], b: Float[Array, "*#n 4"]) -> Float[Array, "*n"]:
    """IoU − (|hull| − |union|) / |hull|, in [−1, 1]: it has a slope where boxes are apart.   [arXiv:1902.09630]"""
    common, union, hull = areas(a, b)
    return common / jnp.maximum(union, TINY) - (hull - union) / jnp.maximum(hull, TINY)
