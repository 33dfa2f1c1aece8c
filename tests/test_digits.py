"""Digit strips: drawn from their index, with their label and sizes."""

import numpy as np
import pytest

from data.sources.digits import (
    CELL,
    FIRST_TEST_GLYPH,
    HORIZONTAL,
    MOST,
    ROTATION,
    TRAIN_ODDS,
    Digits,
    DigitStrips,
    Strokes,
    draw_glyphs,
    glyphs,
)
from tests.support.chance import are_unrelated, has_share, is_uniform

STRIPS = {split: DigitStrips(split, 200, 0) for split in ("train", "val")}


both = pytest.mark.parametrize("split", STRIPS)


@both
def test_a_strip_is_drawn_from_its_index_alone(split):
    strips, fewer = STRIPS[split], DigitStrips(split, 20, 0)
    for i in (0, 7, 19):
        np.testing.assert_array_equal(strips.image(i), fewer.image(i))
        np.testing.assert_array_equal(strips.image(i), strips.image(i))
    np.testing.assert_array_equal(strips.manifest.labels[:20], fewer.manifest.labels)
    np.testing.assert_array_equal(strips.manifest.sizes[:20], fewer.manifest.sizes)


def test_splits_and_seeds_are_different_strips():
    a, b, c = STRIPS["train"], STRIPS["val"], DigitStrips("train", 200, 1)
    for other in (b, c):
        assert not np.array_equal(a.manifest.sizes, other.manifest.sizes)
    assert Digits(50, 20).open("", "train").manifest.digest == DigitStrips("train", 50, 0).manifest.digest
    assert len(Digits(50, 20).open("", "val").manifest) == 20


@both
def test_strips_have_the_sizes_of_their_manifest(split):
    strips = STRIPS[split]
    for i in range(0, 200, 5):
        image = strips.image(i)
        assert image.dtype == np.uint8 and image.shape == (*strips.manifest.sizes[i], 3)
        assert (image == image[..., :1]).all()
    assert (strips.manifest.sizes.min(-1) == CELL).all()
    assert set(strips.manifest.sizes.max(-1)) == {CELL * k for k in range(1, MOST + 1)}


def test_aspects_run_from_8_to_1_to_1_to_8():
    height, width = STRIPS["val"].manifest.sizes.T
    assert (height / width).max() == MOST and (width / height).max() == MOST


@both
def test_the_label_is_the_highlighted_digit(split):
    """The brightest paper marks one cell; the glyph that was chosen for it carries the label."""
    strips = STRIPS[split]
    for i in range(0, 200, 5):
        image = strips.image(i)[..., 0]
        cells = np.split(image, strips.digits[i], axis=int(strips.horizontal[i]))
        lit = int(np.argmax([np.median(cell) for cell in cells]))
        glyph = strips.pool[strips.chosen[i, lit]]
        assert glyphs()[1][glyph] == strips.manifest.labels[i]


def test_training_and_test_share_no_glyph():
    train, test = STRIPS["train"].pool, STRIPS["val"].pool
    assert not set(train) & set(test) and len(train) + len(test) == len(glyphs()[1]) == 1797
    assert len(train) == FIRST_TEST_GLYPH
    assert {int(d) for d in glyphs()[1][test]} == set(range(10))


@both
def test_strips_follow_their_law(split):
    """Lengths by their odds, directions by their share, any digit lit as often as any other; all independent."""
    strips = DigitStrips(split, 4000, 1)
    odds = TRAIN_ODDS if split == "train" else (1 / MOST,) * MOST
    for k, share in enumerate(odds, start=1):
        has_share(strips.digits == k, share)
        for place in range(k if k > 1 else 0):
            has_share(strips.lit[strips.digits == k] == place, 1 / k)
    height, width = strips.manifest.sizes.T
    has_share((width > height)[strips.digits > 1], HORIZONTAL)
    for digit in range(10):
        share = (glyphs()[1][strips.pool] == digit).mean()
        has_share(strips.manifest.labels == digit, share)
    are_unrelated(
        strips.digits, strips.horizontal, (strips.lit - (strips.digits - 1) / 2) / strips.digits, strips.manifest.labels
    )


def test_digits_lean_either_way():
    """A horizontal stroke, which shear and shift leave horizontal."""
    stroke = np.zeros((8, 8))
    stroke[3:5] = 1
    cells = draw_glyphs(Strokes.sample(np.random.default_rng(0), 200), np.repeat(stroke[None], 200, 0))
    y, x = np.mgrid[:CELL, :CELL]
    middle = np.abs(x - (CELL - 1) / 2) < 5
    slopes = [np.polyfit(x[middle], y[middle], 1, w=cell[middle])[0] for cell in cells]
    is_uniform(np.arctan(slopes) / ROTATION, -1.2, 1.2)
    assert max(slopes) > 0.6 * ROTATION and min(slopes) < -0.6 * ROTATION
