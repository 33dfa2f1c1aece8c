"""Pictures of a run: packed rows, attention mask, accuracy against tokens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from navit_eqx.config import ModelConfig
from navit_eqx.files import replacing
from reference.masks import same_image
from reference.rows import Row

COLORS = matplotlib.color_sequences["tab10"]
DROPPED = 235  # gray level of dropped tokens
GAP = 0.35  # gap between images, in patches


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG.   Raises OSError with file and remedy."""
    with replacing(path) as draft:
        figure.savefig(draft, dpi=110, format="png")


def color(slot: int) -> Any:
    """The color of an image slot."""
    return COLORS[(slot - 1) % len(COLORS)]


def patch_of(row: Row, model: ModelConfig) -> tuple[int, ...]:
    """The patch size of the rows of a step: each size that a model has means another number of values a token."""
    values = row.patches.shape[-1]
    return next(patch for patch in model.patches if model.channels * prod(patch) == values)


def without_parts(row: Row, model: ModelConfig) -> Row:
    """A row without the parts of merged patches that stand beside them (`model.detail`)."""
    return row._replace(patches=row.patches[..., : model.patch_dim]) if model.detail else row


def image_of(
    row: Row, slot: int, patch: tuple[int, ...], mean: tuple[float, ...] = (0.5,), std: tuple[float, ...] = (0.5,)
) -> np.ndarray:
    """One image of a row; dropped tokens are light gray. Mapped patches have the patch size of the model, and are
    normalized by its `mean` and `std`; those of merged blocks are enlarged."""
    height, width = (row.grids[slot - 1, -2:] * patch).astype(int)
    kept = row.patches[row.segment_ids == slot]
    if np.issubdtype(kept.dtype, np.floating):
        pixels = kept.reshape(len(kept), prod(patch), -1).astype(np.float32)
        kept = np.rint(255 * denormalized(pixels, mean, std)).reshape(kept.shape)
    pixels = kept.reshape(len(kept), *patch, -1)
    image = np.full((height, width, pixels.shape[-1]), DROPPED, np.uint8)
    for block, (top, left, side) in zip(pixels, blocks(row, slot)):
        enlarged = block.repeat(side, 0).repeat(side, 1)
        y, x = top * patch[0], left * patch[1]
        image[y : y + enlarged.shape[0], x : x + enlarged.shape[1]] = enlarged
    return as_color(image)


def blocks(row: Row, slot: int) -> Int[np.ndarray, "T 3"]:
    """Top, left and side of the tokens of an image, in patches; the side is 1 where nothing is merged."""
    coords = row.coords[row.segment_ids == slot].astype(float)
    side = 2 ** coords[:, :-2].sum(-1, keepdims=True)
    return np.rint(np.concatenate([coords[:, -2:] + 0.5 - side / 2, side], -1)).astype(int)


def denormalized(pixels: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """Normalized pixels "*n C" in 0…1."""
    return np.clip(pixels * np.asarray(std) + np.asarray(mean), 0, 1)


def as_color(image: np.ndarray) -> np.ndarray:
    """An image as RGB: gray repeated, or the first three channels."""
    return np.repeat(image[..., :1], 3, -1) if image.shape[-1] < 3 else image[..., :3]


def displayable(image: np.ndarray, shape: ModelConfig) -> np.ndarray:
    """An image "h w C" as RGB bytes; normalized pixels by the mean and std of the model."""
    pixels = image if image.dtype == np.uint8 else 255 * denormalized(image, shape.mean, shape.std)
    return as_color(np.rint(pixels).astype(np.uint8))


def draw_rows(rows: Sequence[Row], patch: tuple[int, ...], path: Path, **normalized: tuple[float, ...]) -> None:
    """Draw each row as its images side by side and, below, its tokens in order, with padding hatched.

    `normalized` are the mean and std of pixels, as in `image_of`.
    """
    inches = [float(np.clip(0.3 * row.grids[:, -2].max(), 0.8, 2.0)) for row in rows]
    figure = Figure(figsize=(12, 1.2 + sum(inches) + 0.45 * len(rows)), layout="constrained")
    heights = [h for t in inches for h in (t, 0.3)]
    axes = figure.subplots(2 * len(rows), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for r, row in enumerate(rows):
        _draw_images(axes[2 * r, 0], row, r, partial(image_of, patch=patch, **normalized))
        draw_tokens(axes[2 * r + 1, 0], row)
    handles = [
        Patch(facecolor=color(1), label="one color = one image"),
        Patch(facecolor="white", edgecolor="gray", hatch="////", label="padding"),
        Patch(facecolor=str(DROPPED / 255), edgecolor="gray", label="dropped token"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(
        f"Packed rows of {len(rows[0].segment_ids)} tokens: images of any size share a row "
        f"(patches of {' x '.join(map(str, patch))} px; the bar shows the row as the model reads it)"
    )
    save(figure, path)


def _draw_images(axis, row: Row, number: int, image_at: Callable[[Row, int], np.ndarray]) -> None:
    left = 0.0
    for slot in range(1, int(row.segment_ids.max(initial=0)) + 1):
        height, width = row.grids[slot - 1, -2:]
        axis.imshow(image_at(row, slot), extent=(left, left + width, height, 0), aspect="equal")
        axis.add_patch(Rectangle((left, 0), width, height, fill=False, edgecolor=color(slot), linewidth=2.5))
        for y, x, side in blocks(row, slot) if row.coords.shape[-1] == 3 else ():
            axis.add_patch(Rectangle((left + x, y), side, side, fill=False, edgecolor=color(slot), linewidth=0.6))
        left += width + GAP
    axis.set(xlim=(-GAP, max(left, 1)), ylim=(row.grids[:, -2].max() + GAP, -GAP))
    axis.set_anchor("W")
    axis.set_title(f"row {number}", loc="left", fontsize=9)
    bare(axis)


def draw_tokens(axis, row: Row) -> None:
    """Draw a row as the model reads it: one piece per image, padding hatched."""
    tokens = len(row.segment_ids)
    for slot in range(1, int(row.segment_ids.max(initial=0)) + 1):
        places = np.flatnonzero(row.segment_ids == slot)
        axis.add_patch(
            Rectangle((places[0], 0), len(places), 1, facecolor=color(slot), edgecolor="white", linewidth=1.5)
        )
        axis.text(places.mean() + 0.5, 0.5, len(places), ha="center", va="center", color="white", fontsize=8)
    real = int((row.segment_ids > 0).sum())
    if real < tokens:
        axis.add_patch(
            Rectangle((real, 0), tokens - real, 1, facecolor="white", edgecolor="gray", hatch="////", linewidth=0.5)
        )
    axis.set(xlim=(0, tokens), ylim=(0, 1))
    bare(axis)


def bare(axis) -> None:
    """Remove ticks and frame of a panel."""
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)


def draw_mask(row: Row, path: Path) -> None:
    """Draw the attention mask: one colored block per image, no attention between images or to padding."""
    mask = same_image(row.segment_ids)
    picture = np.ones((*mask.shape, 3))
    for slot in range(1, int(row.segment_ids.max(initial=0)) + 1):
        picture[mask & (row.segment_ids == slot)[:, None]] = color(slot)
    figure = Figure(figsize=(6.6, 6.4), layout="constrained")
    axis = figure.subplots()
    axis.imshow(picture, interpolation="nearest")
    real = int((row.segment_ids > 0).sum())
    tokens = len(row.segment_ids)
    if real < tokens:
        for x, y, w, h in ((real, 0, tokens - real, tokens), (0, real, real, tokens - real)):
            style = {"facecolor": "none", "edgecolor": "lightgray", "hatch": "////", "linewidth": 0}
            axis.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, **style))
    axis.set(xlabel="key token", ylabel="query token")
    axis.set_title(
        f"Attention mask of row 0: {mask.mean():.0%} of the pairs, one block per image\n"
        f"(white: other images{', hatched: padding' if real < tokens else ''})",
        fontsize=11,
    )
    save(figure, path)


@contextmanager
def sheet(path: Path, panels: int) -> Iterator[Any]:
    """A figure of panels side by side, saved at the end of the block."""
    figure = Figure(figsize=(6.8 * panels, 4.6), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)
    yield axes[0]
    save(figure, path)


def accuracy_curve(
    axis,
    tokens: Sequence[float],
    accuracy: Sequence[float],
    error: Sequence[float],
    *,
    label="",
    notes: Sequence[str] = (),
) -> None:
    """Plot accuracy with standard errors against tokens, with a note at each point."""
    axis.errorbar(tokens, accuracy, yerr=error, fmt="o-", capsize=2, elinewidth=1, label=label or None)
    for x, y, note in zip(tokens, accuracy, notes):
        axis.annotate(note, (x, y), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=9)


def accuracy_axis(axis, tokens: Sequence[float]) -> None:
    """Label the axes: tokens, logarithmic with ticks at `tokens`, and accuracy from 0."""
    axis.set(xlabel="tokens per image (mean)", ylabel="accuracy (bars: one standard error)")
    axis.set_ylim(0, min(1.05, 1.08 * axis.get_ylim()[1]))
    axis.set_xscale("log", base=2)
    axis.set_xticks(tokens, [f"{t:.0f}" for t in tokens])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
