"""The plan of an epoch: which images, how large, with how many tokens, in which row. No pixel is read.

A pure function of (manifest, seed, epoch, laws), so the stream is the same for any number of workers and
hosts, its length is known, and its position is one integer.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from reference.dropping import kept_tokens
from reference.packing import RULES, close_row

from .errors import DataError
from .laws import Constant, Dropping, Resolution
from .randomness import Purpose, generator


@dataclass(frozen=True)
class Packing:
    """How images share rows."""

    row_tokens: int = 0
    """T, tokens in a row; best a little above the longest image. 0 chooses from the data."""
    row_images: int = 0
    """I, most images in a row. 0 chooses from the data."""
    rule: Literal["exact_fit", "best_fit", "first_fit"] = "exact_fit"
    window: int = 64
    """Images that may wait (exact_fit) or rows that stay open (first_fit, best_fit)."""
    fill: bool = False
    """Let the last images of a row keep more of their tokens until the row is full."""


class Plan(NamedTuple):
    """Rows of one epoch; slots without an image hold −1 and zeros."""

    image_ids: Int[np.ndarray, "R I"]
    grids: Int[np.ndarray, "R I 2"]
    kept: Int[np.ndarray, "R I"]
    left_out: tuple[tuple[int, str], ...]

    def padding(self, row_tokens: int) -> float:
        """Share of token places that hold no token."""
        return 1 - self.kept.sum() / (len(self.kept) * row_tokens)

    def complete(self) -> "Plan":
        """This plan.   Raises DataError, naming an image, if any was left out."""
        if self.left_out:
            raise DataError(f"image {self.left_out[0][0]} fits no row: {self.left_out[0][1]}")
        return self


def plan_epoch(
    sizes: Int[np.ndarray, "N 2"],
    *,
    seed: int,
    epoch: int,
    patch_size: int,
    resolution: Resolution,
    dropping: Dropping,
    packing: Packing,
    shuffle: bool = True,
    longest_side: int,
) -> Plan:
    """Every image stands in exactly one row, or in `left_out` with the reason.

    `longest_side` is the largest grid side that has a position. Raises DataError where no image fits.
    """

    def rng(purpose: Purpose) -> np.random.Generator:
        return generator(purpose, seed, epoch)

    grids = resolution.grids(rng(Purpose.RESOLUTION), sizes, patch_size)
    tokens = grids.prod(-1)
    kept = kept_tokens(tokens, dropping.rates(rng(Purpose.DROPPING), len(sizes)))
    order = rng(Purpose.ORDER).permutation(len(sizes)) if shuffle else np.arange(len(sizes))
    fits = (kept <= packing.row_tokens) & (grids.max(-1) <= longest_side)
    order, misfits = order[fits[order]], np.flatnonzero(~fits)
    left_out = tuple((int(i), _why(grids[i], int(kept[i]), packing, longest_side)) for i in misfits)
    if not len(order):
        raise DataError(f"none of {len(sizes)} images fits a row; the first: {left_out[0][1]}")

    lengths = kept[order].tolist()
    rows = RULES[packing.rule](lengths, packing.row_tokens, packing.row_images, packing.window)
    image_ids = np.full((len(rows), packing.row_images), -1, np.int32)
    for r, row in enumerate(rows):
        image_ids[r, : len(row)] = order[row]
    used = image_ids >= 0
    plan_kept = np.where(used, kept[image_ids], 0).astype(np.int32)
    if packing.fill:
        plan_tokens = np.where(used, tokens[image_ids], 0)
        for r in np.flatnonzero(plan_kept.sum(-1) < packing.row_tokens):
            plan_kept[r] = close_row(plan_kept[r], plan_tokens[r], packing.row_tokens)
    plan_grids = np.where(used[..., None], grids[image_ids], 0).astype(np.int32)
    return Plan(image_ids, plan_grids, plan_kept, left_out)


def plan_evaluation(
    sizes: Int[np.ndarray, "N 2"],
    *,
    patch_size: int,
    resolution: Resolution,
    packing: Packing,
    longest_side: int,
) -> Plan:
    """Every image once, nothing dropped, in the order of the manifest as far as packing allows."""
    return plan_epoch(
        sizes,
        seed=0,
        epoch=0,
        patch_size=patch_size,
        resolution=resolution,
        dropping=Constant(0.0),
        packing=packing,
        shuffle=False,
        longest_side=longest_side,
    )


def _why(grid: np.ndarray, kept: int, packing: Packing, longest_side: int) -> str:
    shape = f"{grid[0]} x {grid[1]} patches"
    if kept > packing.row_tokens:
        return (
            f"{shape} keep {kept} tokens, a row holds {packing.row_tokens}: lower data.resolution, "
            "raise data.packing.row-tokens or drop more"
        )
    return f"{shape}, but positions end at {longest_side} a side: lower data.resolution or raise model.posembed.size"
