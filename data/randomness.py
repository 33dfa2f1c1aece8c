"""One stream of random numbers per purpose and place, the same in any process and at any time."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """First entry of every seed. NumPy takes [1, 1] and [1, 1, 0] for the same seed, so purposes must not be 0
    and a purpose must always come with as many integers."""

    ORDER = 1  # of images in an epoch: seed, epoch
    RESOLUTION = 2  # seed, epoch
    DROPPING = 3  # seed, epoch
    IMAGE = 4  # crop, colours, kept tokens: seed, epoch, image
    STRIP_DIGITS = 5  # seed, split
    STRIP_DIRECTION = 6  # seed, split
    STRIP_LIT = 7  # seed, split
    STRIP_GLYPHS = 8  # seed, split
    STRIP_STROKES = 9  # seed, split, image
    PATCH_SIZE = 10  # seed, epoch


def generator(purpose: Purpose, *place: int) -> np.random.Generator:
    """The stream of a purpose at a place."""
    return np.random.default_rng([purpose, *place])
