"""Segmentation: rows of whole images, random labels of their pixels, losses on both sides."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

from data.sources.source import Arrays
from navit_eqx.tasks.config import Segment
from navit_eqx.tasks.model import Model
from navit_eqx.weights.bridge import to_reference
from reference import encoder as slow_encoder
from reference.masks import same_image
from reference.model import embed_row
from reference.rows import Row, pack
from reference.tasks import segment as slow
from tests.support.strategies import I, Packed, T, grids, model, seeds, tokens_of

CLASSES, PATCH = 4, (2, 3)  # labels of a token need not have the size of its patch
DECODERS = ("pixels", "linear", "patch")
TASKS = {name: Segment(name, PATCH, CLASSES) for name in DECODERS}


@lru_cache
def segmenter(decoder: str) -> Model:
    """A float64 model in which every parameter matters."""
    return model(task=TASKS[decoder])


@lru_cache
def params_of(decoder: str) -> dict:
    """Its parameters as the reference reads them."""
    return to_reference(segmenter(decoder))


@st.composite
def whole_rows(draw, least: int = 1) -> Packed:
    """A row of whole images with shuffled tokens, often with padding."""
    rng = np.random.default_rng(draw(seeds))
    images, room = [], T
    for grid in draw(st.lists(grids, min_size=least, max_size=I)):
        if grid[0] * grid[1] <= room:
            image = tokens_of(rng, grid)
            mixed = rng.permutation(len(image.coords))
            images.append(image._replace(patches=image.patches[mixed], coords=image.coords[mixed]))
            room -= grid[0] * grid[1]
    return Packed(pack(images, range(len(images)), T, I), images)


def encoded(params: dict, row: Row) -> np.ndarray:
    """The encoded tokens of a row without registers."""
    x, ids, angles = embed_row(params["backbone"], row)
    return slow_encoder.encoder(params["backbone"]["encoder"], x, same_image(ids), angles)[: len(row.coords)]


def targets_of(row: Row, seed: int) -> slow.Targets:
    """Random labels, a third of them without a class; none in padding."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, (len(row.coords), *PATCH)).astype(np.uint8)
    labels[rng.random(labels.shape) < 1 / 3] = slow.IGNORE
    labels[row.segment_ids == 0] = slow.IGNORE
    return slow.Targets(labels, slow.neighbors(row.coords, row.segment_ids, row.grids))


def slow_sums(decoder: str, row: Row, targets: Any) -> tuple[float, int]:
    """(sum, count) of one row, in the reference."""
    params = params_of(decoder)
    return slow.loss(params["task"], encoded(params, row), targets)


class Painted(Arrays):
    """Images whose first channel is the class of each pixel."""

    def __init__(self, images: list[np.ndarray], classes: tuple[str, ...]):
        super().__init__(images, np.full((len(images), 1), -1, np.int32), classes)
        self.manifest = replace(self.manifest, masks=True)

    def mask(self, index: int) -> np.ndarray:
        return self.images[index][..., 0].copy()


def painted(seed: int, count: int, side: int, most: int = 5) -> Painted:
    """Random images with sides that are multiples of `side`."""
    rng = np.random.default_rng(seed)
    sizes = side * rng.integers(1, most + 1, (count, 2))
    return Painted([rng.integers(0, CLASSES, (*size, 3)).astype(np.uint8) for size in sizes], tuple("abcd"))
