"""What the tests of rows share: plans and rows of several epochs, and the images of a row."""

import numpy as np

from data.plan import Plan, plan_epoch
from data.rows import Pixels, PlannedRows
from data.sampling.augment import Augment
from data.sampling.dropping import Dropping
from data.sampling.packing import Packing
from data.sampling.resolution import Sides
from data.sources.source import Source
from data.stream import Epochs
from reference.rows import Row

T, I = 48, 6
PATCH = 4, 4
EPOCHS = 3
PIXELS = Pixels(PATCH)


def plans_of(source: Source, dropping: Dropping, patch: tuple[int, int] = PATCH, **packing) -> list[Plan]:
    """Of each epoch."""
    return [
        plan_epoch(
            source.manifest.sizes,
            seed=7,
            epoch=epoch,
            patch_size=patch,
            resolution=Sides(8, 24),
            dropping=dropping,
            packing=Packing(T, I, **packing),
            longest_side=40,
        )
        for epoch in range(EPOCHS)
    ]


def stream(
    source: Source, plans: list[Plan], augment: Augment | None, seed: int = 7, pixels: Pixels = PIXELS
) -> PlannedRows:
    """All epochs. The plans are a list: workers need nothing of the tests."""
    count = sum(len(plan.image_ids) for plan in plans)
    return PlannedRows(source, Epochs(plans.__getitem__), count, pixels, T, seed, augment)


def same(a: Row, b: Row) -> None:
    """To the bit, dtypes included."""
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype


def images_in(row: Row) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Patches, coordinates and grid of every image that has tokens, by its id."""
    slots = [s for s in range(I) if (row.segment_ids == s + 1).any()]
    return {
        int(row.image_ids[s]): (
            row.patches[row.segment_ids == s + 1],
            row.coords[row.segment_ids == s + 1],
            row.grids[s],
        )
        for s in slots
    }
