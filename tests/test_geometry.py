"""Labels follow pixels: one geometry moves the picture, its mask and its boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.geometry import IGNORE, Geometry, sample_geometry
from data.plan import EpochPlans
from data.rows import Pixels, PlannedRows
from data.sampling.augment import Augment
from data.sources.decode import resize
from data.sources.source import Arrays
from data.stream import Epochs
from tests.support.chance import has_share
from tests.support.laws import caught
from tests.support.strategies import seeds

sizes = st.tuples(st.integers(6, 30), st.integers(6, 30))
OPTIONS = Augment(flip=True, crop=0.3, stretch=0.4, rotate=0.5)


def places(height: int, width: int) -> np.ndarray:
    """A picture that says of each pixel where its middle lies: x and y."""
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1).astype(np.float32)


def shown(geometry: Geometry, image: np.ndarray) -> np.ndarray:
    """The picture of a geometry."""
    return geometry.of_pixels(resize(image, geometry.upright, geometry.box))


def drawn(seed: int, height: int, width: int, size: tuple[int, int], **changes) -> Geometry:
    rng = np.random.default_rng(seed)
    found = sample_geometry(rng, (0, 0, width, height), size, OPTIONS, quarter_turns=int(rng.integers(4)))
    return found._replace(**changes)


def labels_follow_pixels(geometry: Geometry, height: int, width: int) -> None:
    """The label of a pixel is that of the place of the image which the pixel shows."""
    x, y = width / 2, height / 3
    mask = ((places(height, width)[..., 0] > x) + 2 * (places(height, width)[..., 1] > y)).astype(np.uint8)
    where = shown(geometry, places(height, width))
    left, top, right, bottom = geometry.box
    scale = 1 + max((right - left) / geometry.upright[1], (bottom - top) / geometry.upright[0])
    sure = (np.abs(where - [x, y]) > scale).all(-1) & (where.min(-1) > 0)  # exposed corners show 0
    labels = geometry.of_mask(mask)
    assert labels.shape == where.shape[:2] == geometry.size
    want = (where[..., 0] > x) + 2 * (where[..., 1] > y)
    inner = sure & (labels != IGNORE)
    assert (labels == want)[inner].all()
    if not geometry.angle:
        assert not (labels == IGNORE).any()


@given(seed=seeds, image=sizes, size=sizes)
def test_labels_follow_pixels(seed, image, size):
    labels_follow_pixels(drawn(seed, *image, size), *image)


@given(seed=seeds, image=sizes, size=sizes)
def test_a_label_is_that_of_the_middle_of_its_pixel(seed, image, size):
    """As Pillow finds the nearest pixel, half a pixel from its corner."""
    geometry = drawn(seed, *image, size, angle=0.0, quarter_turns=0, flip=False)
    mask = np.random.default_rng(seed).integers(0, 250, image, np.uint8)
    want = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST, box=geometry.box)
    assert (geometry.of_mask(mask) == np.asarray(want)).mean() > 0.99, "but for rounding"


@given(seed=seeds, image=sizes, size=sizes, turns=st.integers(0, 3), flip=st.booleans())
def test_a_box_holds_the_pixels_of_its_object(seed, image, size, turns, flip):
    """The box of a rectangle of the mask is where the rectangle went, but for a pixel."""
    (height, width), rng = image, np.random.default_rng(seed)
    geometry = drawn(seed, height, width, size, angle=0.0, quarter_turns=turns, flip=flip, box=(0, 0, width, height))
    top, left = (int(rng.integers(0, n - 4)) for n in image)
    bottom, right = top + int(rng.integers(3, height - top + 1)), left + int(rng.integers(3, width - left + 1))
    mask = np.zeros(image, np.uint8)
    mask[top:bottom, left:right] = 1
    ((x0, y0, x1, y1),) = geometry.of_boxes(np.array([[left, top, right, bottom]]))
    seen = np.argwhere(geometry.of_mask(mask) == 1)
    if len(seen):
        (r0, c0), (r1, c1) = seen.min(0), seen.max(0) + 1
        assert np.abs(np.array([x0, y0, x1, y1]) - [c0, r0, c1, r1]).max() <= 1


@given(seed=seeds, image=sizes, size=sizes)
def test_a_rotated_box_holds_its_corners(seed, image, size):
    """What is labeled in the picture lies in the box of its object."""
    geometry = drawn(seed, *image, size)
    mask = np.zeros(image, np.uint8)
    mask[2:5, 1:5] = 1
    ((x0, y0, x1, y1),) = geometry.of_boxes(np.array([[1, 2, 5, 5]]))
    for r, c in np.argwhere(geometry.of_mask(mask) == 1):
        assert x0 - 1 <= c + 0.5 <= x1 + 1 and y0 - 1 <= r + 0.5 <= y1 + 1


@given(seed=seeds, image=sizes, size=sizes)
def test_mirroring_commutes_with_everything(seed, image, size):
    """The mirror of a picture is the picture of the mirrored image: pixels, mask and boxes."""
    height, width = image
    plain = drawn(seed, height, width, size, flip=False, angle=0.0, quarter_turns=0, box=(0, 0, width, height))
    rng = np.random.default_rng(seed)
    pixels, mask = rng.integers(0, 256, (*image, 3), np.uint8), rng.integers(0, 5, image, np.uint8)
    boxes = np.array([[1.0, 2.0, 4.0, 5.5]])
    flipped = plain._replace(flip=True)
    np.testing.assert_array_equal(shown(flipped, pixels), shown(plain, pixels)[:, ::-1])
    np.testing.assert_array_equal(flipped.of_mask(mask), plain.of_mask(mask)[:, ::-1])
    mirrored = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
    np.testing.assert_allclose(flipped.of_boxes(boxes), plain.of_boxes(mirrored))


class Astray(Geometry):
    """Labels of another geometry than the pixels."""

    wrong: dict

    def of_mask(self, mask):
        return Geometry(*self._replace(**self.wrong)).of_mask(mask)


@pytest.mark.parametrize("wrong", [{"flip": False}, {"quarter_turns": 3}, {"angle": -0.3}, {"box": (0, 0, 15, 16)}])
def test_labels_that_go_astray_are_caught(wrong):
    geometry = Geometry((0, 0, 20, 16), (12, 10), 1, True, 0.3)
    labels_follow_pixels(geometry, 16, 20)
    astray = Astray(*geometry)
    astray.wrong = wrong
    caught(labels_follow_pixels, astray, 16, 20)


def rows_of(image: np.ndarray, options: Augment) -> PlannedRows:
    source = Arrays([image], np.zeros(1, np.int32), ("one",))
    return PlannedRows(source, Epochs(EpochPlans(source, {})), 0, Pixels((2, 3)), 16, 0, options)


def test_a_quarter_of_the_pictures_is_turned_each_way():
    """An odd turn exchanges the sides of the grid, whatever the patch; the tokens are as many."""
    image = np.random.default_rng(0).integers(0, 256, (12, 6, 3), np.uint8)
    rows, turned = rows_of(image, Augment(quarter_turns=True)), []
    for epoch in range(400):
        tokens, how = rows.tokens(epoch, 0, np.array([4, 2], np.int32), 8, (2, 3))
        assert how.geometry is not None and len(tokens.patches) == 8
        turned.append(how.geometry.quarter_turns)
        odd = turned[-1] % 2 == 1
        assert tokens.grid.tolist() == ([2, 4] if odd else [4, 2])
        assert how.geometry.size == ((4, 12) if odd else (8, 6)) and tuple(tokens.coords.max(0) + 1) == (*tokens.grid,)
    for turns in range(4):
        has_share(np.array(turned) == turns, 0.25)


@pytest.mark.parametrize("turns", range(4))
def test_a_turn_is_counterclockwise(turns):
    """Pixels by 90 degrees, at their own size."""
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    size = (4, 6) if turns % 2 == 0 else (6, 4)
    geometry = Geometry((0, 0, 6, 4), size, turns)
    np.testing.assert_array_equal(shown(geometry, image), np.rot90(image, turns))
    np.testing.assert_array_equal(geometry.of_mask(image[..., 0]), np.rot90(image[..., 0], turns))
