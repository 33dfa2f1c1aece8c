"""What the tests of several patch sizes share: images, rows of one size or of several, and the law that each is seen
at its own."""

from dataclasses import replace

import equinox as eqx
import numpy as np

from data.plan import Plan, plan_epoch
from data.rows import Pixels, PlannedRows
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sources.decode import resize
from data.sources.source import Arrays
from data.stream import Epochs
from navit_eqx.config import Flexi
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference.model import at_patch_size, forward_image
from reference.patches import normalize, patchify
from reference.rows import Row, Tokens
from tests.support.strategies import CONFIG, PATCH, I, T, backbone
from tests.support.tolerances import FLOAT64, assert_close

FAST = backbone(config=replace(CONFIG, flexi=Flexi((2, 3, 4))))
PARAMS = to_reference(FAST)
SHAPES = [(4, 7), (8, 6), (6, 9), (7, 5), (8, 9), (4, 12), (12, 4), (6, 6), (9, 5), (5, 11)]
_rng = np.random.default_rng(3)
IMAGES = [_rng.integers(0, 256, (*shape, 3), np.uint8) for shape in SHAPES]
ARRAYS = Arrays(IMAGES, np.arange(len(IMAGES), dtype=np.int32), classes=tuple("0123456789"))


def plan_of(law) -> Plan:
    """Every image in a row of T tokens, cut in patches of the sizes that the law draws."""
    return plan_epoch(
        ARRAYS.manifest.sizes, seed=1, epoch=0, patch_size=law, resolution=Native(), dropping=Constant(0.2),
        packing=Packing(T, I), longest_side=6, step_rows=1,
    ).complete()  # fmt: skip


def rows_of(plan: Plan, interpolation=None, patch: tuple[int, int] = PATCH) -> PlannedRows:
    """The rows of a plan, mapped to the kernel where an interpolation is given."""
    pixels = Pixels(patch, interpolation=interpolation)
    return PlannedRows(ARRAYS, Epochs(lambda epoch: plan), len(plan.image_ids), pixels, T, 1, None)


@eqx.filter_jit
def compiled(row):
    return FAST(row)


def forward(row: Row) -> np.ndarray:
    """In float64 from the pixels on: one compiled program for each patch size."""
    return np.asarray(compiled(to_device(row._replace(patches=normalize(row.patches).astype(float)))))


def in_its_own_patches(row: Row, plan: Plan, r: int, slot: int) -> tuple[Tokens, tuple[int, int]]:
    """The tokens of an image that stayed, cut from its pixels anew, and the size of its patches."""
    grid, size = plan.grids[r, slot], tuple(plan.patch_sizes[r, slot].tolist())
    whole = patchify(resize(IMAGES[plan.image_ids[r, slot]], tuple((grid * size).tolist())), size)
    coords = row.coords[row.segment_ids == slot + 1]
    assert (coords < grid).all()
    return Tokens(whole.patches[coords @ [grid[1], 1]], coords, whole.grid), size


def sees_each_image_at_its_size(rows: PlannedRows, limit: float = FLOAT64) -> None:
    """Each image of each row gets what a plain ViT, its kernel resized to the image's patches, gives it alone."""
    for r in range(len(rows)):
        _, plan, _ = rows.epochs.locate(r)
        row = rows[r]
        vectors = forward(row)
        for slot in np.flatnonzero(plan.image_ids[r] >= 0):
            stay, size = in_its_own_patches(row, plan, r, slot)
            assert_close(vectors[slot], forward_image(at_patch_size(PARAMS, PATCH, size), stay), limit)
