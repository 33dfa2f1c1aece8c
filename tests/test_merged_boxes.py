"""Boxes of merged images: a block proposes one box, from that of all its cells."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings

from data.sampling.merge import Merge
from harness.adaptive import merging
from navit_eqx.tasks import detect as fast
from navit_eqx.tasks.config_detect import Detect
from navit_eqx.weights.bridge import to_reference
from reference.adaptive import cut_by_budget, in_plane, owner_map, residual_scores
from reference.model import encode
from reference.rows import Batch, Row, Tokens, pack
from reference.tasks import detect as slow
from tests.support.detect import boxes_of, detector, reference_of
from tests.support.strategies import CONFIG, I, T, seeds
from tests.support.tolerances import EXACT, FLOAT64, assert_close
from tests.test_adaptive import PATCH, SCALES, budget, grids, picture, rows_of_merged, tokens_of
from tests.test_detect import detected, on_device, sums
from tests.test_resolve import config_of, images_for

RULE = "hungarian"


def plain(row: Row) -> Row:
    """The row as a model without levels reads it."""
    _, (patches, coords, sizes) = in_plane({"patch_embedding": None}, Tokens(row.patches, row.coords, row.grids))
    return row._replace(patches=patches, coords=coords, grids=sizes)


@given(seed=seeds, grid=grids)
@settings(max_examples=8)
def test_a_block_starts_from_the_box_of_its_cells(seed, grid):
    """Of the cells that the token owns; on both sides."""
    image, quads = picture(seed, grid), budget(seed, grid)
    tokens, owner = tokens_of(image, quads), owner_map(cut_by_budget(residual_scores(image, PATCH, SCALES), quads))
    want = []
    for token in range(len(tokens.coords)):
        y, x = np.nonzero(owner == token)
        low, high = np.array([x.min(), y.min()]), np.array([x.max(), y.max()]) + 1
        want.append([*(low + high) / 2 / grid[::-1], *(high - low) / grid[::-1]])
    sizes = np.broadcast_to(tokens.grid, tokens.coords.shape)
    assert_close(slow.cells(tokens.coords, sizes), np.array(want), EXACT)
    assert_close(fast.cells(jnp.asarray(tokens.coords), jnp.asarray(sizes)), np.array(want), EXACT)


@given(packed=rows_of_merged(), seed=seeds)
@settings(max_examples=4)
def test_both_sides_agree_and_packed_is_alone(packed, seed):
    """Loss and detections of a row; those of an image are those that it has alone."""
    params, batch = to_reference(detector(RULE)), Batch(packed.row, boxes_of(packed.row, seed))
    task, tokens = reference_of(params), encode(params["backbone"], plain(packed.row))[0]
    total, count, _ = sums(detector(RULE), on_device(batch))
    want, number = slow.loss(task, tokens, *batch)
    assert int(count) == number
    assert_close(total, want, FLOAT64)
    found = detected(RULE, packed.row)
    assert_close(found, slow.predict(task, tokens, packed.row), FLOAT64)
    for slot, image in enumerate(packed.images):
        assert_close(found[slot], detected(RULE, pack([image], [0], T, I))[0], FLOAT64)


def test_nothing_merged_is_the_loss_as_it_was():
    """To the bit: of an image whose blocks are all cells, and of the image in patches."""
    merged = pack([tokens_of(picture(0, (3, 5)), 0)], [0], T, I)
    params, truth = to_reference(detector(RULE)), boxes_of(merged, 3)
    tokens = encode(params["backbone"], plain(merged))[0]
    rows = merged, plain(merged)
    one, two = (slow.loss(reference_of(params), tokens, row, truth) for row in rows)
    assert one == two and one[1] > 0
    config = config_of(task=Detect(classes=1), merge=Merge())
    assert merging(config, images_for(config)) == (config, [])
    assert CONFIG.levels is None  # a level is needed for the cell alone
