"""Packed rows by index: what the plan says, turned into pixels."""

import bisect
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Num, UInt8

from reference.packing import pack
from reference.patches import patchify
from reference.resize import Interpolation, base_patches
from reference.types import Row, Tokens

from .augment import changed, crop_box, fitting, mixed, resize
from .decode import Box, Decoding, Whole
from .errors import BadImage, DataError
from .laws import AtRandom, Augment, Choosing, Mix
from .ledger import Ledger
from .plan import Plan
from .randomness import Purpose, generator
from .sources import Source


class Epochs:
    """The rows of all epochs in one line, each epoch in so many blocks: `plan` makes the k-th block of the stream.

    Plans are made when needed, by one thread at a time; two are kept. Blocks before the one that is needed are planned
    as well, to count their rows, unless a ledger knows them.
    """

    def __init__(self, plan: Callable[[int], Plan], blocks: int = 1, ledger: Ledger | None = None):
        self.plan = plan
        self.blocks = blocks
        self.ledger = ledger
        self.known = ledger.rows() if ledger else {}
        self.firsts = [0]  # the first row of each block that was counted, and of the next
        self.kept: dict[int, Plan] = {}
        self.lock = threading.Lock()

    def __getstate__(self) -> tuple[Callable[[int], Plan], int, Ledger | None]:
        return self.plan, self.blocks, self.ledger

    def __setstate__(self, state: tuple[Callable[[int], Plan], int, Ledger | None]) -> None:
        self.__init__(*state)

    def locate(self, index: int) -> tuple[int, Plan, int]:
        """Epoch, the plan of the block, and the row in it, of row `index` of the stream.

        A block in which no image fits has no row.   Raises DataError where that is so of a whole epoch.
        """
        with self.lock:
            while self.firsts[-1] <= index:
                self._count()
            block = bisect.bisect_right(self.firsts, index) - 1
            return block // self.blocks, self._planned(block), index - self.firsts[block]

    def planned(self, block: int) -> Plan:
        """The plan of a block."""
        with self.lock:
            return self._planned(block)

    def _count(self) -> None:
        """The rows of one more block."""
        block = len(self.firsts) - 1
        rows = self.known[block] if block in self.known else len(self._planned(block).image_ids)
        if self.ledger and block not in self.known:
            self.ledger.add(block, rows)
        end = self.firsts[-1] + rows
        epoch, place = divmod(block, self.blocks)
        if place == self.blocks - 1 and end == self.firsts[epoch * self.blocks]:
            why = "".join(f"; the last: {why}" for _, why in self._planned(block).left_out[-1:])
            raise DataError(f"none of the images of epoch {epoch} fits a row{why}")
        self.firsts.append(end)

    def _planned(self, block: int) -> Plan:
        if block not in self.kept:
            self.kept = dict([*self.kept.items()][-1:])
            self.kept[block] = self.plan(block)
            rows = len(self.kept[block].image_ids)
            if self.ledger and self.known.get(block, rows) != rows:
                raise DataError(
                    f"{self.ledger.path}: block {block} has {rows} rows, not {self.known[block]}: remove this file"
                )
        return self.kept[block]


class Picture(NamedTuple):
    """Pixels at their planned size, and whose they are beside the image's own."""

    pixels: UInt8[np.ndarray, "h w 3"]
    partner: int = -1
    """Label of the image it was mixed with."""
    weight: float = 0.0


@dataclass
class PlannedRows:
    """Row g of the stream of all epochs, any g at any time, from any thread or process.

    An image that cannot be decoded leaves its room as padding: its id stands in an empty slot (label −1).
    """

    source: Source
    epochs: Epochs
    count: int
    """Rows in the stream."""
    patch_size: int
    """Of the model."""
    row_tokens: int
    seed: int
    augment: Augment | None
    choosing: Choosing = AtRandom()
    interpolation: Interpolation | None = None
    """Maps patches of every size to `patch_size`, so that they share rows; None leaves them as they are cut, all of a
    row at one size."""
    decoding: Decoding = Whole()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Row:
        epoch, plan, r = self.epochs.locate(int(index))
        return self.load(epoch, plan.image_ids[r], plan.grids[r], plan.kept[r], plan.patch_sizes[r])

    def load(
        self,
        epoch: int,
        image_ids: Int[np.ndarray, " I"],
        grids: Int[np.ndarray, "I 2"],
        kept: Int[np.ndarray, " I"],
        patch_sizes: Int[np.ndarray, " I"],
    ) -> Row:
        """Read, resize, cut, drop and place the images of one row."""
        good, bad, tokens, pictures = [], [], [], []
        for i in np.flatnonzero(image_ids >= 0):
            try:
                seen, picture = self.see(epoch, int(image_ids[i]), grids[i], int(kept[i]), int(patch_sizes[i]))
                tokens.append(seen)
                pictures.append(picture)
                good.append(int(image_ids[i]))
            except BadImage:
                bad.append(int(image_ids[i]))
        if not tokens:
            size = int(patch_sizes[0])
            none = self.stored(np.zeros((1, 3 * size**2), np.uint8), size)[:0]
            tokens = [Tokens(none, np.zeros((0, 2), np.int32), np.zeros(2, np.int32))]
        labels = [int(self.source.manifest.labels[i]) for i in good]
        row = pack(tokens, labels or [-1], good or [-1], self.row_tokens, len(image_ids))
        row.image_ids[len(good) : len(good) + len(bad)] = bad
        row.partners[: len(good)] = [picture.partner for picture in pictures]
        row.weights[: len(good)] = [picture.weight for picture in pictures]
        return row

    def see(
        self, epoch: int, image_id: int, grid: Int[np.ndarray, " 2"], kept: int, patch_size: int
    ) -> tuple[Tokens, Picture]:
        """One image as tokens, the same whatever row it stands in, and its picture.   Raises BadImage."""
        rng = generator(Purpose.IMAGE, self.seed, epoch, image_id)
        picture = self.picture(rng, image_id, (int(grid[0]) * patch_size, int(grid[1]) * patch_size))
        patches, coords, _ = patchify(picture.pixels, (patch_size, patch_size))
        if kept < len(patches):
            stay = self.choosing.sample(rng, patches, kept)
            patches, coords = patches[stay], coords[stay]
        return Tokens(self.stored(patches, patch_size), coords, np.asarray(grid, np.int32)), picture

    def stored(self, patches: UInt8[np.ndarray, "T Q"], patch_size: int) -> Num[np.ndarray, "T P"]:
        """Patches as a row holds them."""
        if self.interpolation is None:
            return patches
        return base_patches(patches, (self.patch_size,) * 2, (patch_size,) * 2, self.interpolation)

    def picture(self, rng: np.random.Generator, image_id: int, size: tuple[int, int]) -> Picture:
        """One image at its planned size (height, width), perhaps with another one in it."""
        law, box = self.augment, self.frame(image_id)
        if law is None:
            return Picture(self.region(image_id, box, size))
        pixels = changed(rng, self.region(image_id, crop_box(rng, box, law), size), law)
        if law.mix is None or rng.random() >= law.mix.share:
            return Picture(pixels)
        return self.with_partner(rng, pixels, law.mix, law)

    def with_partner(self, rng: np.random.Generator, pixels: np.ndarray, mix: Mix, augment: Augment) -> Picture:
        """Mixed with a random image of the set; as it is where that one cannot be read."""
        partner = int(rng.integers(len(self.source.manifest)))
        size = pixels.shape[0], pixels.shape[1]
        box = crop_box(rng, fitting(rng, self.frame(partner), size), augment)
        try:
            other = changed(rng, self.region(partner, box, size), augment)
        except BadImage:
            return Picture(pixels)
        pixels, weight = mixed(rng, pixels, other, mix)
        return Picture(pixels, int(self.source.manifest.labels[partner]), weight)

    def frame(self, image_id: int) -> Box:
        """All of an image."""
        height, width = self.source.manifest.sizes[image_id].tolist()
        return 0, 0, width, height

    def region(self, image_id: int, box: Box, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
        """A part of an image at `size`, decoded no larger than that needs.   Raises BadImage."""
        shrink = self.decoding.shrink(box, size)
        image = self.source.image(image_id, shrink)
        if image.shape[:2] != tuple(self.source.manifest.sizes[image_id]):
            left, top, right, bottom = box
            box = left / shrink, top / shrink, right / shrink, bottom / shrink
        return resize(image, size, box)
