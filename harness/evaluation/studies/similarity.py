"""Similarity of tokens across patch sizes, layer by layer.   [FlexiViT, figs. 6 and 13]"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from data.sampling.kinds import Patch
from data.sources.source import Chosen, Source
from navit_eqx.errors import check
from navit_eqx.inference import hidden_states, outputs
from navit_eqx.rows import row_of
from reference.evaluation.similarity import linear_cka, on_grid, token_similarity

from ...run.loading import evaluation_rows
from ..pictures import COLORS, sheet
from ..predictions import Context, model_for_patch
from .findings import Findings
from .patches import patch_text, sizes_of

IMAGES = 500  # largest number of images
Tokens = dict[int, Float[np.ndarray, "states cells D"]]  # by image id


class SimilarityMap(NamedTuple):
    """Cosine similarity of the tokens of one image, at each patch size, to the center token at one size."""

    image: Num[np.ndarray, "h w C"]
    center: tuple[float, float]
    """Position of the center token, relative to the sides."""
    cosines: dict[Patch, Float[np.ndarray, "y x"]]


def similarity(context: Context) -> Findings:
    """How similar are the tokens of different patch sizes after each layer?"""
    own, sizes = context.config.model.patch, sizes_of(context)
    check({*sizes} != {own}, "there is only one patch size: set --patch-sizes to sizes other than that of the model")
    source = Chosen(context.source, np.arange(min(IMAGES, len(context.source.manifest))))
    common = largest_resolution(context).grids(np.random.default_rng(0), source.manifest.sizes, max([own, *sizes]))
    tokens = {size: on_common_grid(context, source, size, common) for size in sorted({own, *sizes})}
    images = sorted(set.intersection(*({*of_images} for of_images in tokens.values())))
    check(bool(images), "no image can be read at all these patch sizes: leave out the finest --patch-sizes")
    chance = len(images) / float(common[images].prod(-1).sum())
    rows = [
        {"patch_size": patch_text(size), "layer": layer, **row, "same_place_chance": chance, "images": len(images)}
        for size in tokens
        if size != own
        for layer, row in enumerate(layer_similarities(tokens[own], tokens[size], images))
    ]
    largest = max(images, key=lambda i: int(common[i].prod()))
    first, last = ([row["cka"] for row in rows if row["layer"] == layer] for layer in (0, rows[-1]["layer"]))
    return Findings(
        f"similarity: tokens at each patch size and at {patch_text(own)}, the size of the model, on a common grid, "
        "before the first layer (0) and after each layer",
        rows,
        f"linear CKA with patches of {patch_text(own)} is {min(first):.3f} to {max(first):.3f} before the first layer, "
        f"and {min(last):.3f} to {max(last):.3f} after the last",
        "similarity.png",
        partial(draw, rows, similarity_map(context, source, largest, own, sizes)),
    )


def largest_resolution(context: Context):
    """The sampling fixed at the largest resolution, as in the study `patches`; nothing is merged."""
    return context.config.data.resolution.at(context.resolutions[-1])


def tokens_at(context: Context, source: Source, size: Patch) -> Iterator[tuple[int, Float[np.ndarray, "states y x D"]]]:
    """Image ids and tokens on the grid of each image, layer by layer, at patch size `size`."""
    batches, _ = evaluation_rows(context.config, source, largest_resolution(context), patch=size)
    model = model_for_patch(context.model, size)
    for batch, values in outputs(model, (row_of(row) for row in batches), hidden_states):
        found = values.astype(np.float64)
        for row, slot in np.argwhere(batch.grids[..., 0] > 0):
            here, grid = batch.segment_ids[row] == slot + 1, batch.grids[row, slot]
            order = np.argsort(batch.coords[row][here] @ np.array([grid[1], 1]))
            tokens = found[row][:, here][:, order]
            yield int(batch.image_ids[row, slot]), tokens.reshape(len(tokens), *grid, tokens.shape[-1])


def on_common_grid(context: Context, source: Source, size: Patch, common: Int[np.ndarray, "N 2"]) -> Tokens:
    """The tokens of each image, resampled to the grid of the coarsest patches."""
    return {
        image_id: np.stack([on_grid(layer, common[image_id].tolist()) for layer in tokens])
        for image_id, tokens in tokens_at(context, source, size)
    }


def layer_similarities(base: Tokens, other: Tokens, images: list[int]) -> Iterator[dict]:
    """The columns of each layer."""
    for layer in range(len(base[images[0]])):
        pairs = [(base[i][layer], other[i][layer]) for i in images]
        hits = np.concatenate([token_similarity(x, y).argmax(-1) == np.arange(len(x)) for x, y in pairs])
        cka = linear_cka(*(np.concatenate(side) for side in zip(*pairs)))
        yield {"cka": cka, "same_place": float(hits.mean())}


def similarity_map(context: Context, source: Source, index: int, own: Patch, sizes: tuple[Patch, ...]) -> SimilarityMap:
    """The similarity map of one image after the last layer."""
    one = Chosen(source, [index])
    tokens = {size: next(tokens_at(context, one, size))[1][-1] for size in {own, *sizes}}
    height, width, _ = tokens[own].shape
    y, x = height // 2, width // 2
    center = tokens[own][y, x][None]
    cosines = {s: token_similarity(center, t.reshape(-1, t.shape[-1])).reshape(t.shape[:2]) for s, t in tokens.items()}
    return SimilarityMap(source.image(index), ((y + 0.5) / height, (x + 0.5) / width), dict(sorted(cosines.items())))


def draw(rows: list[dict], example: SimilarityMap, path: Path) -> None:
    """Plot CKA and share of equal places over layers, and the similarity map of an example."""
    sizes = sorted({row["patch_size"] for row in rows})
    with sheet(path, 3) as (left, middle, right):
        for axis, column in ((left, "cka"), (middle, "same_place")):
            for s, size in enumerate(sizes):
                line = [(row["layer"], row[column]) for row in rows if row["patch_size"] == size]
                axis.plot(*zip(*line), "o-", color=COLORS[s % len(COLORS)], label=f"patches of {size}")
            axis.set(xlabel="layer (0: embedding)", ylim=(0, 1.05))
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(alpha=0.3)
        left.set(ylabel="linear CKA with the patch size of the model", title="Similarity of the tokens")
        middle.axhline(rows[0]["same_place_chance"], ls=":", color="gray", label="chance")
        middle.set(ylabel="share of places", title="Most similar token: at the same place")
        middle.legend(frameon=False)
        draw_map(right, example)


def draw_map(axis, example: SimilarityMap) -> None:
    """Draw the image with its center token marked, and the cosines at each patch size."""
    height, width = example.image.shape[:2]
    step = (0, 1.25 * height + 4) if width >= height else (1.25 * width + 4, 0)
    panels = [("", example.image), *((f"{patch_text(size)}", cosines) for size, cosines in example.cosines.items())]
    for k, (name, panel) in enumerate(panels):
        x, y = k * step[0], k * step[1]
        axis.imshow(panel, extent=(x, x + width, y + height, y), vmin=-1, vmax=1, cmap="coolwarm")
        axis.plot(x + example.center[1] * width, y + example.center[0] * height, "+", color="lime", ms=9)
        axis.annotate(name, (x, y), xytext=(0, 2), textcoords="offset points", fontsize=9)
    end = len(panels) - 1
    axis.set(xlim=(-2, end * step[0] + width + 2), ylim=(end * step[1] + height + 2, -8))
    axis.set_axis_off()
    axis.set_title(
        "Cosine with the center token (+) at the patch size of the model,\nafter the last layer", fontsize=11
    )
