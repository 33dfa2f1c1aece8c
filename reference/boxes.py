"""Boxes (cx, cy, w, h): middle, width and height, all in one unit."""

import numpy as np
from jaxtyping import Float

TINY = 1e-9  # an area below which a quotient of areas is no longer one


def corners(boxes: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """Left, top, right and bottom: middle ∓ half of the side."""
    middle, sides = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([middle - sides / 2, middle + sides / 2], -1)


def areas(
    a: Float[np.ndarray, "*#n 4"], b: Float[np.ndarray, "*#n 4"]
) -> tuple[Float[np.ndarray, "*n"], Float[np.ndarray, "*n"], Float[np.ndarray, "*n"]]:
    """Areas of the intersection, the union and the hull (the smallest box around both)."""
    p, q = corners(a), corners(b)
    common = np.maximum(np.minimum(p[..., 2:], q[..., 2:]) - np.maximum(p[..., :2], q[..., :2]), 0.0).prod(-1)
    hull = (np.maximum(p[..., 2:], q[..., 2:]) - np.minimum(p[..., :2], q[..., :2])).prod(-1)
    return common, a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - common, hull


def iou(a: Float[np.ndarray, "*#n 4"], b: Float[np.ndarray, "*#n 4"]) -> Float[np.ndarray, "*n"]:
    """|intersection| / |union|"""
    common, union, _ = areas(a, b)
    return common / np.maximum(union, TINY)


def giou(a: Float[np.ndarray, "*#n 4"], b: Float[np.ndarray, "*#n 4"]) -> Float[np.ndarray, "*n"]:
    """IoU − (|hull| − |union|) / |hull|, in [−1, 1]: it has a slope where boxes are apart.   [arXiv:1902.09630]"""
    common, union, hull = areas(a, b)
    return common / np.maximum(union, TINY) - (hull - union) / np.maximum(hull, TINY)
