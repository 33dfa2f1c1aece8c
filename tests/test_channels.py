"""Rows of images in patches of any shape, of any number of channels, in bytes or in normalized floats."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.augment import jitter, rotate
from data.errors import BadImage
from data.manifest import Manifest
from data.rows import Pixels, PlannedRows
from data.sampling.augment import Augment, Mix
from data.sampling.dropping import Constant
from data.sources.decode import resize
from data.sources.source import Arrays
from reference.patches import patchify, unpatchify
from reference.rows import Row
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.stream import T, images_in, plans_of, same, stream

SHAPES = [((4, 4), 1), ((3, 7), 3), ((8, 2), 4), ((5, 4), 6)]
shapes = pytest.mark.parametrize("patch, channels", SHAPES, ids=str)
dtypes = pytest.mark.parametrize("dtype", [np.uint8, np.float32])


def bands(channels: int, dtype: type) -> Arrays:
    """Images of so many channels, uint8 or normalized floats."""
    draw = np.random.default_rng(1)
    levels = [draw.integers(0, 256, (*draw.integers(4, 40, 2), channels), np.uint8) for _ in range(12)]
    images = levels if dtype == np.uint8 else [(x / 127.5 - 1).astype(np.float32) for x in levels]
    return Arrays(images, np.zeros(12, np.int32), ("a",))


def shows_whole_images(row: Row, source: Arrays, patch: tuple[int, int]) -> None:
    """Put together again, the tokens of an image are the image at its size in the plan, each channel resized alone."""
    found = images_in(row)
    assert found
    for image_id, (patches, coords, grid) in found.items():
        image, (height, width) = source.image(image_id), grid * patch
        np.testing.assert_array_equal(coords, np.argwhere(np.ones(grid)))
        assert patches.dtype == image.dtype
        seen = unpatchify(patches, grid, patch)
        assert seen.shape == (height, width, image.shape[2])
        for c in range(image.shape[2]):
            plane = Image.fromarray(image[..., c]).resize((width, height), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(seen[..., c], plane)


def rows_of_bands(patch: tuple[int, int], source: Arrays, augment: Augment | None = None) -> PlannedRows:
    plans = plans_of(source, Constant(0.0), patch)
    return stream(source, plans, augment, pixels=Pixels(patch, source.manifest.channels))


@shapes
@dtypes
def test_patches_and_channels_may_have_any_shape(patch, channels, dtype):
    source = bands(channels, dtype)
    rows = rows_of_bands(patch, source)
    for g in range(len(rows)):
        assert rows[g].patches.shape == (T, channels * patch[0] * patch[1]) and rows[g].patches.dtype == dtype
        shows_whole_images(rows[g], source, patch)


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("patchify", lambda image, patch: patchify(image.swapaxes(0, 1), patch[::-1])),
        ("patchify", lambda image, patch: patchify(image[..., ::-1], patch)),
        ("resize", lambda image, size, box: np.repeat(resize(image, size, box)[..., :1], image.shape[2], -1)),
        ("resize", lambda image, size, box: resize(image[:-1], size)),
    ],
    ids=["columns first", "channels turned round", "one channel for all", "a line lost"],
)
def test_another_picture_is_caught(monkeypatch, name, wrong):
    source = bands(6, np.uint8)
    monkeypatch.setattr("data.rows." + name, wrong)
    caught(shows_whole_images, rows_of_bands((5, 4), source)[0], source, (5, 4))


@shapes
@dtypes
def test_training_changes_images_of_any_channels(patch, channels, dtype):
    """Cropped, turned, jittered and mixed; every channel keeps its dtype, and every epoch draws its own."""
    source = bands(channels, dtype)
    law = Augment(True, 0.4, 0.3, 0.2, 0.3, Mix(1.0, 0.8, 0.5))
    rows = rows_of_bands(patch, source, law)
    for g in range(len(rows)):
        row = rows[g]
        assert row.patches.dtype == dtype and np.isfinite(row.patches).all()
        same(row, rows[g])
    assert not np.array_equal(rows[0].patches, rows_of_bands(patch, source)[0].patches)


@dtypes
def test_turned_corners_are_grey(dtype):
    """What comes into view is mid-grey in every channel: 128, or 0 in normalized pixels; the rest stays as it was."""
    for channels in (1, 3, 6):
        image = np.full((9, 9, channels), 7, dtype)
        turned = rotate(image, np.pi / 4)
        assert turned.dtype == dtype and (turned[0, 0] == (128 if dtype == np.uint8 else 0)).all()
        assert (turned[4, 4] == 7).all()


@given(seed=seeds, amount=st.floats(0.1, 1))
def test_jitter_of_grey_is_that_of_grey_in_three_channels(seed, amount):
    """Saturation does nothing to grey, whatever the channels; the luma of three equal channels is that channel."""
    grey = np.random.default_rng(seed).integers(0, 256, (5, 7, 1), np.uint8)
    one, three = (jitter(np.random.default_rng(seed), np.repeat(grey, n, -1), amount) for n in (1, 3))
    assert np.abs(three.astype(int) - one).max() <= 1, "but for rounding"


def test_a_row_of_unreadable_images_keeps_its_shape():
    """Patches of a row that holds no image are zeros of the shape and dtype that the others have."""
    source = bands(6, np.float32)
    rows = rows_of_bands((5, 4), source)
    rows.source = Unreadable(source.manifest)
    assert rows[0].patches.shape == (T, 6 * 20) and rows[0].patches.dtype == np.float32 and not rows[0].patches.any()


@dataclass
class Unreadable:
    """A source of which no image can be read."""

    manifest: Manifest

    def image(self, index: int, shrink: int = 1) -> np.ndarray:
        raise BadImage("spoilt")


@given(seed=seeds, angle=st.floats(-3.14, 3.14), mirrored=st.booleans())
def test_three_channels_are_rotated_as_each_alone(seed, angle, mirrored):
    """At once, which is faster; a mirrored image is a view with a negative stride."""
    draw = np.random.default_rng(seed)
    image = draw.integers(0, 256, (*draw.integers(1, 20, 2), 3), np.uint8)[:, :: -1 if mirrored else 1]
    alone = np.concatenate([rotate(image[..., c : c + 1], angle) for c in range(3)], -1)
    assert (rotate(image, angle) == alone).all()
