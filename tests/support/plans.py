"""What the tests of plans share: sizes of photos, tables of slots read by image, and what every plan holds to."""

import numpy as np

from data.plan import Plan
from data.sampling.packing import Packing


def sizes_of(seed: int, count: int, median: float = 300.0) -> np.ndarray:
    """Sides as in collections of photos: log-normal in area and in aspect ratio."""
    rng = np.random.default_rng(seed)
    side, tilt = median * np.exp(0.4 * rng.normal(size=count)), np.exp(0.25 * rng.normal(size=count))
    return np.maximum(1, np.stack([side * tilt, side / tilt], -1)).astype(np.int32)


def per_image(plan: Plan, table: np.ndarray, count: int) -> np.ndarray:
    """A table of slots, in the order of the images; 0 where an image was left out."""
    used = plan.image_ids >= 0
    values = np.zeros((count, *table.shape[2:]), table.dtype)
    values[plan.image_ids[used]] = table[used]
    return values


def holds_every_image_once(plan: Plan, count: int, packing: Packing) -> None:
    """Every image in one slot, or left out with a reason; no row over T or I, none empty, no gap between slots."""
    used = plan.image_ids >= 0
    placed, named = plan.image_ids[used].tolist(), [i for i, _ in plan.left_out]
    assert sorted(placed + named) == list(range(count))
    assert all(reason for _, reason in plan.left_out)
    assert plan.image_ids.shape == plan.kept.shape == (len(plan.image_ids), packing.row_images)
    assert (plan.kept.sum(-1) <= packing.row_tokens).all() and used.any(-1).all()
    assert (plan.kept[used] >= 1).all() and (plan.kept <= plan.grids.prod(-1)).all()
    assert not plan.kept[~used].any() and not plan.grids[~used].any()
    assert (used == (np.cumsum(~used, -1) == 0)).all(), "an empty slot stands before an image"


def equal(a: Plan, b: Plan) -> bool:
    """To the bit, with the images left out and their reasons."""
    return a.left_out == b.left_out and all(np.array_equal(x, y) for x, y in zip(a[:4], b[:4]))
