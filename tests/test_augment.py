"""Augmentation by its statistics: each choice is made both ways, as often and as far as its law says."""

import numpy as np
import pytest

from data.augment import crop_box, jitter, recolor, rotate
from data.geometry import sample_geometry
from data.plan import EpochPlans
from data.randomness import Purpose, generator
from data.rows import Pixels, PlannedRows
from data.sampling.augment import Augment, Mix
from data.sources.decode import resize
from data.sources.source import Arrays
from data.stream import Epochs
from tests.support.chance import are_unrelated, has_share, is_uniform
from tests.support.laws import caught

COUNT = 400
FRAME = 10, 20, 130, 80  # left, top, right, bottom
BT601 = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601


def draws(count: int = COUNT):
    return [np.random.default_rng([11, i]) for i in range(count)]


def boxes(options: Augment) -> np.ndarray:
    """Left, top, right and bottom of many crops, as shares of the frame."""
    left, top, right, bottom = FRAME
    found = np.array([crop_box(rng, FRAME, options) for rng in draws()])
    return (found - [left, top, left, top]) / [right - left, bottom - top, right - left, bottom - top]


# mirrors and crops --------------------------------------------------------------------------------------


def transformed(rng: np.random.Generator, image: np.ndarray, options: Augment) -> np.ndarray:
    """A whole image at its own size, as a random geometry shows it."""
    height, width = image.shape[:2]
    return sample_geometry(rng, (0, 0, width, height), (height, width), options).of_pixels(image)


def mirrored(flip: bool) -> list[bool]:
    """Whether each of many pictures is mirrored; it is itself otherwise."""
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    seen = [transformed(rng, image, Augment(flip=flip)) for rng in draws()]
    assert all(np.array_equal(each, image) or np.array_equal(each, image[:, ::-1]) for each in seen)
    return [np.array_equal(each, image[:, ::-1]) for each in seen]


def test_half_of_the_images_are_mirrored():
    has_share(mirrored(True), 0.5)
    assert not any(mirrored(False))
    caught(has_share, [True] * COUNT, 0.5)


@pytest.mark.parametrize("crop", [0.1, 0.5])
def test_the_share_of_a_crop_is_uniform(crop):
    left, top, right, bottom = boxes(Augment(crop=crop)).T
    is_uniform((right - left) * (bottom - top), crop, 1)
    np.testing.assert_allclose(right - left, bottom - top)  # without a stretch the aspect ratio stays


@pytest.mark.parametrize("stretch", [0.0, 0.5])
def test_crops_lie_anywhere_with_equal_probability(stretch):
    found = boxes(Augment(crop=0.2, stretch=stretch))
    found = found[(found[:, 2:] - found[:, :2] < 1 - 1e-6).all(-1)]  # with some freedom in both directions
    start = (found[:, :2] / (1 - found[:, 2:] + found[:, :2])).T
    for where in start:
        is_uniform(where, 0, 1)
    are_unrelated(*start)


def test_crops_are_stretched_either_way():
    left, top, right, bottom = boxes(Augment(crop=0.2, stretch=0.5)).T
    tilt = np.log((right - left) / (bottom - top))
    has_share(tilt > 0, 0.5)
    assert -np.log(1.5) <= tilt.min() < -0.3 and 0.3 < tilt.max() <= np.log(1.5)


# turns ------------------------------------------------------------------------------------------------------


def bar(angle: float = 0.0) -> np.ndarray:
    """A bright bar through the middle of a dark picture, at this angle counter-clockwise."""
    y, x = np.mgrid[:41, :41] - 20.0
    away = np.abs(y * np.cos(angle) + x * np.sin(angle))
    along = np.abs(x * np.cos(angle) - y * np.sin(angle))
    return np.repeat((255 * (away < 2) * (along < 14)).astype(np.uint8)[..., None], 3, -1)


def angle_of(picture: np.ndarray) -> float:
    """The angle of a bar, counter-clockwise, from its moments of inertia."""
    bright = np.where(picture[..., 0] > 200, 1.0, 0.0)
    y, x = np.mgrid[:41, :41] - 20.0
    xx, yy, xy = ((bright * m).sum() for m in (x * x, y * y, -x * y))
    return float(0.5 * np.arctan2(2 * xy, xx - yy))


def test_a_turn_is_that_of_its_angle():
    """In radians, counter-clockwise; the corners that show are gray."""
    for angle in (-0.7, -0.2, 0.0, 0.3, 0.7):
        turned = rotate(bar(), angle)
        assert abs(angle_of(turned) - angle) < 0.03
        assert np.array_equal(turned[0, 0], [128] * 3) == (abs(angle) > 0.05)
    assert abs(angle_of(rotate(bar(0.2), 0.3)) - 0.5) < 0.03


def test_turns_go_either_way():
    found = [angle_of(transformed(rng, bar(), Augment(rotate=0.6))) for rng in draws(200)]
    is_uniform(np.array(found) / 1.05, -0.6, 0.6)  # the pixels of a bar do not tell the last twentieth
    assert max(found) > 0.5 and min(found) < -0.5


# colors -----------------------------------------------------------------------------------------------------


def colors(dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (8, 8, 3)).astype(dtype)


def factors(amount: float) -> np.ndarray:
    """Brightness, contrast and saturation of many pictures, read off their pixels."""
    image, found = colors(), []
    luma = image @ BT601
    for rng in draws():
        seen = jitter(rng, image, amount)
        after = seen @ BT601
        brightness = after.mean() / luma.mean()
        contrast = after.std() / luma.std() / brightness
        chroma = (seen[..., 0] - seen[..., 2]).std() / (image[..., 0] - image[..., 2]).std()
        found.append((brightness, contrast, chroma / brightness / contrast))
    return np.array(found).T


def test_jitter_goes_either_way_and_each_its_own():
    found = factors(0.4)
    for values in found:
        is_uniform(values, 0.6 - 1e-4, 1.4 + 1e-4)
    are_unrelated(*found)


def test_saturation_keeps_the_luma():
    """Pixels as bright as each other stay so, whatever their colors."""
    image = colors()
    image += (100 - image @ BT601)[..., None].astype(np.float32)
    for rng in draws(20):
        luma = jitter(rng, image, 0.9) @ BT601
        assert luma.std() < 1e-3 * luma.mean()


def test_jitter_keeps_the_order_of_brightness():
    """A gray ramp stays gray and rises; what leaves 0…255 is cut off, not wrapped around."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, -1)
    ends = np.array([jitter(rng, ramp, 0.9)[0] for rng in draws(50)])
    assert (np.diff(ends[..., 0].astype(int)) >= 0).all()
    assert (ends == ends[..., :1]).all()
    assert (ends[:, -1] == 255).any() and (ends[:, 0] == 0).any()


def test_jitter_keeps_the_order_of_channels():
    """A color keeps its hue: the strongest channel stays the strongest."""
    image = colors()
    for rng in draws(20):
        assert (jitter(rng, image, 0.9).argsort(-1) == image.argsort(-1)).all()


def test_shares_of_gray_and_inverted_images():
    """Gray is the luma in every channel; what is inverted is 255 less; alpha stays."""
    image = colors(np.uint8)
    luma = np.repeat((image @ BT601)[..., None], 3, -1).round()
    flat, turned = [], []
    for rng in draws():
        seen = recolor(rng, image, Augment(gray=0.3, invert=0.6)).astype(float)
        flat.append(bool((seen == seen[..., :1]).all()))
        plain = luma if flat[-1] else image.astype(float)
        turned.append(bool(np.abs(seen - plain).max() > 1))
        np.testing.assert_allclose(255 - seen if turned[-1] else seen, plain, atol=1)
    has_share(np.array(flat), 0.3)
    has_share(np.array(turned), 0.6)
    are_unrelated(np.array(flat, float), np.array(turned, float))
    alpha = np.concatenate([image, image[..., :1]], -1)
    assert (recolor(np.random.default_rng(0), alpha, Augment(gray=1, invert=1))[..., 3] == alpha[..., 3]).all()


# images of a set --------------------------------------------------------------------------------------------

SET = 64


def rows_of(images: list[np.ndarray], options: Augment) -> PlannedRows:
    """Only the pixels of images are asked for."""
    source = Arrays(images, np.zeros(len(images), np.int32), ("one",))
    return PlannedRows(source, Epochs(EpochPlans(source, {})), 0, Pixels((4, 4)), 16, 0, options)


def test_images_are_augmented_each_its_own_way():
    """Of many equal images half are mirrored in every epoch, and another half in the next."""
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    rows = rows_of([image] * SET, Augment(flip=True))
    grid = np.ones(2, np.int32)
    epochs = [[rows.tokens(e, i, grid, 1, (4, 4))[0].patches.tolist() for i in range(SET)] for e in (0, 1)]
    sides = [[pixels != epoch[0] for pixels in epoch] for epoch in epochs]
    for side in sides:
        has_share(side, 0.5)
    assert sides[0] != sides[1]


def partners(mix: Mix) -> list[int]:
    rows = rows_of([np.zeros((4, 4, 3), np.uint8)] * 8, Augment(mix=mix))
    return [rows.picture(rng, 3, (4, 4))[1].partner_id for rng in draws()]


def test_the_share_of_mixed_images():
    for share in (0.0, 0.3, 1.0):
        has_share(np.array(partners(Mix(share=share))) >= 0, share)


def test_any_image_is_a_partner():
    found = np.array(partners(Mix(share=1)))
    for image in range(8):
        has_share(found == image, 1 / 8)


def test_a_partner_keeps_its_aspect_ratio():
    """A picture whose red rises to the right and whose green rises downwards, by as much a pixel: it still does."""
    ramp = np.zeros((60, 60, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.mgrid[:60, :60][::-1] * 4
    rows, found = rows_of([np.zeros((20, 60, 3), np.uint8), ramp], Augment(mix=Mix(share=1, cutmix=0))), 0
    for rng in draws(12):
        pixels, how = rows.picture(rng, 0, (16, 48))
        if how.partner_id == 1 and how.weight > 0.4:
            right, down = np.diff(pixels[8, 4:44, 0].astype(int)).mean(), np.diff(pixels[2:14, 8, 1].astype(int)).mean()
            assert abs(down / right - 1) < 0.1
            found += 1
    assert found > 1


def test_the_order_of_draws_does_not_depend_on_the_size():
    """The same choices at every size: a teacher and a student see one picture."""
    options = Augment(flip=True, crop=0.3, stretch=0.3, rotate=0.2, jitter=0.2, mix=Mix(share=0.5))
    images = [resize(np.random.default_rng(i).integers(0, 256, (3, 3, 3), np.uint8), (40, 60)) for i in range(4)]
    rows = rows_of(images, options)
    for i in range(10):
        small, large = (rows.picture(generator(Purpose.IMAGE, 0, i, 1), 1, size) for size in ((12, 18), (24, 36)))
        assert small[1] == large[1]._replace(geometry=large[1].geometry.at((12, 18)))
        apart = resize(large[0], (12, 18)).astype(int) - small[0]
        assert np.median(np.abs(apart)) < 6
