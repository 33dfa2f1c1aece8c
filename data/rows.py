"""Packed rows by index: decode, augment, resize, patchify, drop and pack the images of a planned row."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
from jaxtyping import Float16, Int, Num, UInt8

from reference.patches import normalize, patchify
from reference.resize import Interpolation, base_patches
from reference.rows import Row, Tokens, pack

from .augment import mix, recolor
from .errors import BadImage
from .geometry import Geometry, sample_geometry, sample_quarter_turns, transposed
from .randomness import Purpose, generator
from .sampling.augment import Augment, Mix
from .sampling.kinds import Patch
from .sampling.token_selection import AtRandom, TokenSelection
from .sources.decode import Box, Decoding, Whole, resize
from .sources.source import Source
from .stream import Epochs


class Drawn(NamedTuple):
    """What was sampled for an image of a row and changes its target."""

    image_id: int
    partner_id: int = -1
    """The image mixed in; −1: none."""
    weight: float = 0.0
    """Weight of the partner in the mixed image."""
    geometry: Geometry | None = None
    """Where in the image each pixel of the picture comes from, for labels of pixels and for boxes."""


class Pixels(NamedTuple):
    """Format in which a model reads pixels."""

    patch: Patch
    """Patch size of the kernel of the model, in pixels."""
    channels: int = 3
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    interpolation: Interpolation | None = None
    """Maps patches of every size to `patch`, so that they share rows; None: all patches of a row have one size and are
    stored as they are."""
    detail: bool = False
    """Whether rows hold the parts of merged patches, too."""

    def as_stored(self, patches: Num[np.ndarray, "T Q"], size: Patch) -> Num[np.ndarray, "T P"]:
        """Patches of `size` in the format of a row: raw pixels, or normalized and mapped to the size of the model."""
        if self.interpolation is None:
            return patches
        if patches.dtype == np.uint8 and size == self.patch:
            return half_of_bytes(patches, self.mean, self.std)
        return base_patches(normalize(patches, self.mean, self.std), self.patch, size, self.interpolation)


def half_of_bytes(
    patches: UInt8[np.ndarray, "T P"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float16[np.ndarray, "T P"]:
    """Bytes, normalized and rounded to float16, to the bit: read from a table."""
    tables = half_tables(mean, std)
    if len(tables) == 1:
        return np.take(tables[0], patches)
    pixels = patches.reshape(len(patches), -1, len(tables))
    return np.stack([np.take(table, pixels[..., c]) for c, table in enumerate(tables)], -1).reshape(patches.shape)


@lru_cache
def half_tables(mean: tuple[float, ...], std: tuple[float, ...]) -> Float16[np.ndarray, "C 256"]:
    """Every byte, normalized, for each channel with a mean of its own."""
    channels = max(len(mean), len(std))
    every = np.arange(256, dtype=np.uint8)[:, None].repeat(channels, 1)
    return normalize(every, mean, std).astype(np.float16).T.copy()


@dataclass
class PlannedRows:
    """Rows of all epochs by index, from any thread or process.

    The tokens of an image that cannot be decoded are padding, in their place; its id is kept in an empty slot.
    """

    source: Source
    epochs: Epochs
    count: int
    """Rows in the stream."""
    pixels: Pixels
    row_tokens: int
    seed: int
    augment: Augment | None
    token_selection: TokenSelection = AtRandom()
    decoding: Decoding = Whole()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Row:
        return self.draw(index)[0]

    def costs(self, start: int, count: int) -> Int[np.ndarray, " n"]:
        """Σ tokens² over the images of each of `count` rows: what rows of one length differ by."""
        _, plan, first = self.epochs.locate(start)
        found = (plan.kept[first : first + count].astype(np.int64) ** 2).sum(-1)
        rest = count - len(found)
        return np.concatenate([found, self.costs(start + len(found), rest)]) if rest else found

    def draw(self, index: int) -> tuple[Row, list[Drawn]]:
        """Row `index`, and what was sampled for its images, slot by slot."""
        epoch, plan, r = self.epochs.locate(int(index))
        return self.load(epoch, plan.image_ids[r], plan.grids[r], plan.kept[r], plan.patch_sizes[r])

    def load(
        self,
        epoch: int,
        image_ids: Int[np.ndarray, " I"],
        grids: Int[np.ndarray, "I A"],
        kept: Int[np.ndarray, " I"],
        patch_sizes: Int[np.ndarray, "I 2"],
    ) -> tuple[Row, list[Drawn]]:
        """Read, augment, resize, patchify, drop and pack the images of one row."""
        bad, tokens, drawn, starts = [], [], [], []
        for i in np.flatnonzero(image_ids >= 0):
            patch = int(patch_sizes[i, 0]), int(patch_sizes[i, 1])
            try:
                image, how = self.tokens(epoch, int(image_ids[i]), grids[i], int(kept[i]), patch)
            except BadImage:
                bad.append(int(image_ids[i]))
            else:
                tokens.append(image)
                drawn.append(how)
                starts.append(int(kept[:i].sum()))
        good = [how.image_id for how in drawn]
        row = pack(tokens or [self.nothing(patch_sizes[0])], good or [-1], self.row_tokens, len(image_ids))
        row.image_ids[len(good) : len(good) + len(bad)] = bad
        return in_place(row, starts) if bad else row, drawn

    def nothing(self, patch: Int[np.ndarray, " 2"]) -> Tokens:
        """An image of zero tokens, for a row without images."""
        size = int(patch[0]), int(patch[1])
        pixels = np.zeros((1, self.pixels.channels * prod(size)), self.source.manifest.dtype)
        none = self.pixels.as_stored(pixels, size)[:0]
        return Tokens(none, np.zeros((0, 2), np.int32), np.zeros(2, np.int32))

    def tokens(
        self, epoch: int, image_id: int, grid: Int[np.ndarray, " A"], kept: int, patch: Patch
    ) -> tuple[Tokens, Drawn]:
        """The tokens of one image, independent of its row.   Raises BadImage."""
        rng = generator(Purpose.IMAGE, self.seed, epoch, image_id)
        turns = sample_quarter_turns(rng, self.augment)
        rows, columns = transposed((int(grid[-2]), int(grid[-1])), turns)
        picture, how = self.picture(rng, image_id, (rows * patch[0], columns * patch[1]), turns)
        return self.cut(rng, picture, grid, kept, patch), how

    def cut(
        self, rng: np.random.Generator, picture: Num[np.ndarray, "h w C"], grid: Int[np.ndarray, " A"], kept: int,
        patch: Patch,
    ) -> Tokens:  # fmt: skip
        """The tokens of a picture, as rows store them; some are dropped."""
        patches, coords, sides = patchify(picture, patch)
        if kept < len(patches):
            selected = self.token_selection.sample(rng, patches, kept)
            patches, coords = patches[selected], coords[selected]
        return Tokens(self.pixels.as_stored(patches, patch), coords, sides)

    def picture(
        self, rng: np.random.Generator, image_id: int, size: tuple[int, int], quarter_turns: int = 0
    ) -> tuple[Num[np.ndarray, "h w C"], Drawn]:
        """One augmented image at its planned size (height, width)."""
        options, frame = self.augment, self.frame(image_id)
        if options is None:
            geometry = Geometry(frame, size)
            return self.transformed(image_id, geometry), Drawn(image_id, geometry=geometry)
        geometry = sample_geometry(rng, frame, size, options, quarter_turns)
        pixels, drawn = recolor(rng, self.transformed(image_id, geometry), options), Drawn(image_id, geometry=geometry)
        if options.mix is None or rng.random() >= options.mix.share:
            return pixels, drawn
        return self.with_partner(rng, pixels, drawn, options.mix, options)

    def with_partner(
        self, rng: np.random.Generator, pixels: Num[np.ndarray, "h w C"], drawn: Drawn, mixing: Mix, options: Augment
    ) -> tuple[Num[np.ndarray, "h w C"], Drawn]:
        """Mix an image with a random partner; the image is unchanged where the partner cannot be read."""
        partner = int(rng.integers(len(self.source.manifest)))
        size, turns = (pixels.shape[0], pixels.shape[1]), drawn.geometry.quarter_turns if drawn.geometry else 0
        geometry = sample_geometry(rng, self.frame(partner), size, options, turns, fitted=True)
        try:
            other = recolor(rng, self.transformed(partner, geometry), options)
        except BadImage:
            return pixels, drawn
        pixels, weight = mix(rng, pixels, other, mixing)
        return pixels, drawn._replace(partner_id=partner, weight=weight)

    def transformed(self, image_id: int, geometry: Geometry) -> Num[np.ndarray, "h w C"]:
        """An image as its geometry shows it.   Raises BadImage."""
        return geometry.of_pixels(self.region(image_id, geometry.box, geometry.upright))

    def frame(self, image_id: int) -> Box:
        """The box of a whole image."""
        height, width = self.source.manifest.sizes[image_id, -2:].tolist()
        return 0, 0, width, height

    def region(self, image_id: int, box: Box, size: tuple[int, int]) -> Num[np.ndarray, "h w C"]:
        """A box of an image resized to `size`, decoded no larger than needed.   Raises BadImage."""
        return read_region(self.source, self.decoding, image_id, box, size)


def read_region(
    source: Source, decoding: Decoding, image_id: int, box: Box, size: tuple[int, int]
) -> Num[np.ndarray, "h w C"]:
    """A box of an image of a source resized to `size`, decoded no larger than needed.   Raises BadImage."""
    shrink = decoding.shrink(box, size)
    image = source.image(image_id, shrink)
    if image.shape[:2] != tuple(source.manifest.sizes[image_id]):
        left, top, right, bottom = box
        box = left / shrink, top / shrink, right / shrink, bottom / shrink
    return resize(image, size, box)


def in_place(row: Row, starts: Sequence[int]) -> Row:
    """The row with each image at its planned start: an image that cannot be read leaves a gap and moves no other."""
    patches, coords, segment_ids = (np.zeros_like(x) for x in (row.patches, row.coords, row.segment_ids))
    for slot, start in enumerate(starts, 1):
        mine = row.segment_ids == slot
        place = slice(start, start + mine.sum())
        patches[place], coords[place], segment_ids[place] = row.patches[mine], row.coords[mine], slot
    return row._replace(patches=patches, coords=coords, segment_ids=segment_ids)
