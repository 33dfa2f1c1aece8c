"""Rows for other trainers: the same images, the same tokens, in the order that each reads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navit_eqx.interop import Sequences, block_coords, block_order, channels_first, from_sequences, to_sequences
from navit_eqx.rows import Row
from navit_eqx.weights.bridge import to_reference
from reference.model import forward
from reference.patches import patchify, raster
from reference.rows import Row as SlowRow
from reference.rows import Tokens, pack
from tests.support.laws import caught
from tests.support.strategies import I, P, T, backbone, rows, seeds, tokens_of
from tests.support.tolerances import FLOAT64, assert_close

PARAMS = to_reference(backbone())


def holds_its_images(convert, row: Row, images: list[Tokens]) -> None:
    """Between the borders of an image stand its tokens, in raster order, and nothing else."""
    found = convert(row)
    assert found.cu_seqlens.tolist() == np.cumsum([0, *(len(image.patches) for image in images)]).tolist()
    assert found.grid_thw.tolist() == [[1, *image.grid.tolist()] for image in images]
    assert len(found.patches) == found.cu_seqlens[-1] and found.image_ids.tolist() == list(range(len(images)))
    for image, start, end in zip(images, found.cu_seqlens, found.cu_seqlens[1:]):
        order = np.lexsort(image.coords.T[::-1])
        np.testing.assert_array_equal(found.patches[start:end], image.patches[order])
        np.testing.assert_array_equal(found.coords[start:end], image.coords[order])


@given(packed=rows())
def test_sequences_hold_the_images_of_a_row(packed):
    holds_its_images(to_sequences, Row(*packed.row), packed.images)


def test_wrong_sequences_are_caught():
    images = [tokens_of(np.random.default_rng(k), (2, 3)) for k in range(2)]
    row = Row(*pack(images, [0, 1], T, I))
    late = lambda row: to_sequences(row)._replace(cu_seqlens=to_sequences(row).cu_seqlens + 1)
    turned = lambda row: to_sequences(row)._replace(grid_thw=to_sequences(row).grid_thw[:, [0, 2, 1]])
    for wrong in (late, turned, lambda row: to_sequences(row._replace(coords=row.coords[..., ::-1]))):
        caught(holds_its_images, wrong, row, images)


def vectors(rows_: Row) -> dict[int, np.ndarray]:
    """What a model says of each image of several rows."""
    found = {}
    for r in range(len(rows_.segment_ids)):
        row = SlowRow(*(np.asarray(leaf[r]) for leaf in rows_))
        found |= {int(i): v for i, v in zip(row.image_ids, forward(PARAMS, row)) if i >= 0}
    return found


@given(packed=rows(), row_tokens=st.integers(T, T + 5))
def test_a_model_says_the_same_of_images_that_come_back(packed, row_tokens):
    """Other rows, the same images: packing is not observable."""
    there = Row(*(leaf[None] for leaf in packed.row))
    back = from_sequences(to_sequences(there), row_tokens, I)
    assert back.segment_ids.shape[1] == row_tokens
    before, after = vectors(there), vectors(back)
    assert before.keys() == after.keys()
    for image, vector in before.items():
        assert_close(after[image], vector, FLOAT64)


@given(grid=st.tuples(st.integers(1, 3), st.integers(1, 3)), merge=st.integers(1, 3), seed=seeds)
def test_blocks_are_those_of_a_merger(grid, merge, seed):
    """By reshaping the whole grid: rows of blocks, columns of blocks, then within."""
    height, width = grid[0] * merge, grid[1] * merge
    whole = tokens_of(np.random.default_rng(seed), (height, width))
    numbers = np.arange(height * width).reshape(grid[0], merge, grid[1], merge).transpose(0, 2, 1, 3).ravel()
    np.testing.assert_array_equal(block_order(raster((height, width)), merge), numbers)
    found = to_sequences(Row(*pack([whole], [0], 81, 1)), merge)
    np.testing.assert_array_equal(found.patches, whole.patches[numbers])
    np.testing.assert_array_equal(block_coords(found.grid_thw, merge), found.coords)


def test_broken_blocks_are_refused():
    for image in (tokens_of(np.random.default_rng(0), (2, 3)), tokens_of(np.random.default_rng(0), (2, 2), keep=3)):
        with pytest.raises(ValueError, match="blocks of 2 x 2 need all tokens"):
            to_sequences(Row(*pack([image], [0], T, I)), merge=2)


@given(seed=seeds, frames=st.integers(1, 2))
def test_channels_come_first(seed, frames):
    image = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    tokens = patchify(image, (2, 3))
    for flat, (y, x) in zip(channels_first(tokens.patches, (2, 3), frames), tokens.coords):
        part = image[2 * y : 2 * y + 2, 3 * x : 3 * x + 3]
        want = np.stack([np.moveaxis(part, -1, 0)] * frames, axis=1)
        np.testing.assert_array_equal(flat.reshape(3, frames, 2, 3), want)


WHOLE = to_sequences(Row(*pack([tokens_of(np.random.default_rng(0), (2, 3))], [7], T, I)))


@pytest.mark.parametrize(
    "change, why",
    [
        ({"cu_seqlens": np.array([0, 5])}, "must rise from 0 to the 6 patches"),
        ({"cu_seqlens": np.array([1, 6])}, "must rise from 0"),
        ({"cu_seqlens": np.array([0, 3, 6])}, "2 sequences, 1 grids"),
        ({"grid_thw": np.array([[2, 2, 3]])}, "time 1"),
        ({"grid_thw": np.array([[1, 1, 6]])}, "outside of the grid"),
        ({"coords": WHOLE.coords[:4]}, "a coordinate for each patch"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, why):
    with pytest.raises(ValueError, match=why):
        from_sequences(WHOLE._replace(**change), T, I)


def test_what_fits_no_row_is_named():
    with pytest.raises(ValueError, match="image 7 has 6 tokens, a row holds 5"):
        from_sequences(WHOLE, 5, I)
    clip = Row(*pack([Tokens(np.zeros((1, P)), np.zeros((1, 3), np.int32), np.ones(3, np.int32))], [0], T, I))
    with pytest.raises(ValueError, match="3 coordinates a token"):
        to_sequences(clip)


def test_nothing_is_nothing():
    empty = from_sequences(to_sequences(Row(*pack([tokens_of(np.random.default_rng(0), (1, 1))], [0], T, I))), T, I)
    nothing = to_sequences(empty._replace(grids=0 * empty.grids, segment_ids=0 * empty.segment_ids))
    assert isinstance(nothing, Sequences) and nothing.cu_seqlens.tolist() == [0] and nothing.patches.shape == (0, P)
    assert from_sequences(nothing, T, I).segment_ids.sum() == 0
