"""Mixing belongs to an image: it survives packing, and its labels are what its pixels are."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.augment import fit_box
from data.augment import mix as mixed
from data.errors import BadImage
from data.plan import plan_epoch
from data.rows import Pixels, PlannedRows
from data.sampling.augment import Augment, Mix
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sources.source import Arrays
from data.stream import Epochs
from data.tasks import TASKS
from reference.patches import unpatchify
from reference.sampling.mixing import cutmix, mixup, sample_box
from tests.support.strategies import seeds
from tests.support.tolerances import EXACT, LEVEL

PATCH = (4, 4)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def flat(level: int, size: tuple[int, int]) -> np.ndarray:
    return np.full((*size, 3), level, np.uint8)


@given(size=sizes, weight=st.floats(0, 1), seed=seeds)
def test_a_box_lies_inside_and_has_about_its_share(size, weight, seed):
    top, left, bottom, right = sample_box(np.random.default_rng(seed), size, weight)
    assert 0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]
    for n, side in zip(size, (bottom - top, right - left)):
        assert side == 1 or abs(side - n * weight**0.5) <= 0.5


@given(size=sizes, seed=seeds, cut=st.sampled_from([0.0, 1.0]))
def test_the_weight_is_the_partners_share_of_the_pixels(size, seed, cut):
    """A dark and a bright image: the mean level of the mix tells how much of each is in it."""
    picture, weight = mixed(np.random.default_rng(seed), flat(0, size), flat(200, size), Mix(cutmix=cut))
    assert 0 <= weight <= 1 and picture.shape == (*size, 3) and picture.dtype == np.uint8
    assert abs(picture.mean() / 200 - weight) <= (EXACT if cut else 0.5 / 200 + EXACT)


@given(size=sizes, weight=st.floats(0, 1), seed=seeds)
def test_mixing_an_image_with_itself_changes_nothing(size, weight, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    np.testing.assert_array_equal(mixup(image, image, weight), image)
    np.testing.assert_array_equal(cutmix(image, image, sample_box(rng, size, weight))[0], image)
    np.testing.assert_array_equal(mixup(image, 255 - image, 0.0), image)


def test_a_box_is_the_partners_and_the_rest_is_not():
    picture, weight = cutmix(flat(1, (4, 5)), flat(9, (4, 5)), (1, 2, 3, 5))
    np.testing.assert_array_equal(picture[..., 0], [[1, 1, 1, 1, 1], [1, 1, 9, 9, 9], [1, 1, 9, 9, 9], [1, 1, 1, 1, 1]])
    assert weight == 6 / 20


@given(size=sizes, target=sizes, seed=seeds)
def test_a_partner_is_cropped_to_the_aspect_ratio(size, target, seed):
    left, top, right, bottom = fit_box(np.random.default_rng(seed), (0, 0, size[1], size[0]), target)
    assert 0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]
    part = bottom - top, right - left
    assert part[0] == size[0] or part[1] == size[1], "larger would still fit"
    scale = min(n / m for n, m in zip(size, target))
    for side, m in zip(part, target):
        assert abs(side - max(1.0, m * scale)) <= 0.5


# in packed rows ----------------------------------------------------------------------------------------------

COUNT = 24
IMAGES = [flat(10 * i, (8 + 4 * (i % 3), 12)) for i in range(COUNT)]  # the level tells which it is
LABELS = np.arange(COUNT, dtype=np.int32)
SETS = np.stack([LABELS, np.where(LABELS % 3, -1, (LABELS + 1) % COUNT)], -1).astype(np.int32)  # of one or two classes


class Spoilt(Arrays):
    """Image 5 cannot be read."""

    def image(self, index, shrink=1):
        if index == 5:
            raise BadImage("spoilt")
        return super().image(index, shrink)


def stream(mix: Mix | None, row_images: int = 6, source=Arrays) -> PlannedRows:
    images = source(IMAGES, LABELS, tuple(map(str, range(COUNT))))

    def plan(epoch):
        return plan_epoch(
            images.manifest.sizes, seed=3, epoch=epoch, patch_size=PATCH, resolution=Native(),
            dropping=Constant(0.0), packing=Packing(30, row_images), longest_side=9,
        )  # fmt: skip

    return PlannedRows(images, Epochs(plan), 60, Pixels(PATCH), 30, 3, Augment(mix=mix))


def seen(rows: PlannedRows, count: int) -> dict[int, tuple]:
    """Image → its pixels, label, partner and weight in the first rows."""
    found, batches = {}, TASKS["Classify"]().batches(rows)
    for r in range(count):
        row, targets = batches[r]
        for slot in np.flatnonzero(targets.labels >= 0):
            pixels = unpatchify(row.patches[row.segment_ids == slot + 1], row.grids[slot], PATCH)
            found.setdefault(int(row.image_ids[slot]), (pixels, *(leaf[slot] for leaf in targets)))
    return found


def test_rows_tell_what_their_pixels_are():
    """Levels of gray tell images apart, so the labels can be read off the pixels."""
    both = 0
    for image_id, (pixels, label, partner, weight) in seen(stream(Mix(share=0.7)), 10).items():
        assert label == image_id
        assert (partner == -1) == (weight == 0) or partner >= 0
        if partner >= 0:
            both += 1
            assert abs(pixels.mean() - (1 - weight) * 10 * image_id - weight * 10 * partner) <= LEVEL
        else:
            assert (pixels == 10 * image_id).all()
    assert 0.4 * COUNT < both < COUNT


def test_label_sets_tell_what_their_pixels_are():
    """The sets of both images, slot by slot, by the same draw as the labels."""
    rows = stream(Mix(share=0.7))
    rows.source.manifest = replace(rows.source.manifest, labels=SETS)
    both = 0
    for r in range(6):
        row, targets = TASKS["MultiLabel"]().batches(rows)[r]
        _, drawn = rows.draw(r)
        for slot, image in enumerate(drawn):
            both += image.partner_id >= 0
            other = SETS[image.partner_id] if image.partner_id >= 0 else [-1, -1]
            assert image.image_id == row.image_ids[slot]
            np.testing.assert_array_equal(targets.label_sets[slot], SETS[image.image_id])
            np.testing.assert_array_equal(targets.partner_sets[slot], other)
            assert targets.weights[slot] == np.float32(image.weight)
        assert (targets.label_sets[len(drawn) :] == -1).all() and not targets.weights[len(drawn) :].any()
    assert both


def test_mixing_does_not_see_packing():
    wide, narrow = seen(stream(Mix(share=0.7)), 10), seen(stream(Mix(share=0.7), row_images=1), 24)
    assert len(wide) == len(narrow) == COUNT
    for image_id, (pixels, *labels) in wide.items():
        np.testing.assert_array_equal(pixels, narrow[image_id][0])
        assert labels == list(narrow[image_id][1:])


def test_without_mixing_nobody_has_a_partner():
    for _, _, partner, weight in seen(stream(None), 10).values():
        assert (partner, weight) == (-1, 0)


def test_a_partner_that_cannot_be_read_is_not_mixed_in():
    found = seen(stream(Mix(share=1.0), source=Spoilt), 12)
    assert 5 not in found and len(found) == COUNT - 1
    assert 5 not in {int(partner) for _, _, partner, _ in found.values()}


@pytest.mark.parametrize("alpha, cut", [(0.8, 0.0), (1.0, 1.0)])
def test_weights_follow_their_law(alpha, cut):
    rng = np.random.default_rng(0)
    weights = np.array(
        [mixed(rng, flat(0, (40, 40)), flat(9, (40, 40)), Mix(alpha=alpha, cutmix=cut))[1] for _ in range(2000)]
    )
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(weights.mean() - 0.5) < 4 * sqrt(variance / 2000)
    assert abs(weights.var() - variance) < 0.01
