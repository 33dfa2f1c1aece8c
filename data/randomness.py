"""One random stream per purpose and place, reproducible in every process."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """First entry of every seed. To NumPy [1, 1] and [1, 1, 0] are the same seed: no purpose is 0, and the number of
    integers after a purpose is fixed."""

    ORDER = 1  # of images in an epoch: seed, epoch
    RESOLUTION = 2  # seed, epoch, block
    DROPPING = 3  # seed, epoch, block
    IMAGE = 4  # crop, colors, kept tokens: seed, epoch, image
    STRIP_DIGITS = 5  # seed, split
    STRIP_DIRECTION = 6  # seed, split
    STRIP_LIT = 7  # seed, split
    STRIP_GLYPHS = 8  # seed, split
    STRIP_STROKES = 9  # seed, split, image
    PATCH_SIZE = 10  # seed, epoch, block
    CAPTION = 11  # seed, epoch, block
    STRIP_CAPTIONS = 12  # seed, split
    GLYPH_FACTS = 13  # seed, split
    GLYPH_CAPTIONS = 14  # seed, split
    GLYPH_PIXELS = 15  # seed, split, image
    BALANCE = 16  # seed
    CORRUPTION = 17  # seed, CRC of the corruption, CRC of the name of the image
    PAGE_LAYOUT = 20  # seed, split
    PAGE_GLYPHS = 21  # seed, split
    PAGE_STROKES = 22  # seed, split
    PAGE_PIXELS = 23  # seed, split, image
    CLIP_FACTS = 30  # seed, split
    CLIP_PATHS = 31  # seed, split, clip
    SCENE_FACTS = 24  # seed, split
    SCENE_THINGS = 25  # seed, split, image
    SCENE_PIXELS = 26  # seed, split, image


def generator(purpose: Purpose, *place: int) -> np.random.Generator:
    """The random stream of a purpose at a place: see the comments of `Purpose`."""
    return np.random.default_rng([purpose, *place])
