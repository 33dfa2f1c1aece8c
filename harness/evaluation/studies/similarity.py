"""Do patches of different sizes lead to the same place, layer by layer?   [FlexiViT, figs. 6 and 13]"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from data.sampling.kinds import Patch
from data.sources.source import Source
from navit_eqx.errors import check
from navit_eqx.inference import hidden_states
from navit_eqx.rows import to_device
from reference.evaluation.similarity import linear_cka, on_grid, token_similarity

from ...run.loading import evaluation_rows
from ..pictures import COLORS, sheet
from ..predictions import Context, able_to_read
from .findings import Findings
from .patches import shown, sizes_of
from .probe import subset

IMAGES = 500  # at most, the first of the set
Tokens = dict[int, Float[np.ndarray, "states cells D"]]  # by image


class Map(NamedTuple):
    """How much the tokens of one image, in patches of each size, are like its centre token in those of one size."""

    image: Num[np.ndarray, "h w C"]
    centre: tuple[float, float]
    """Its place, as shares of the sides."""
    cosines: dict[Patch, Float[np.ndarray, "y x"]]


def similarity(context: Context) -> Findings:
    """After how many layers does it not matter any more in which patches an image was cut?"""
    own, sizes = context.config.model.patch, sizes_of(context)
    check({*sizes} != {own}, "there is nothing to compare: name other --patch-sizes than the model's")
    source = subset(context.source, np.arange(min(IMAGES, len(context.source.manifest))))
    common = law_of(context).grids(np.random.default_rng(0), source.manifest.sizes, max([own, *sizes]))
    tokens = {size: on_common_grid(context, source, size, common) for size in sorted({own, *sizes})}
    images = sorted(set.intersection(*({*of_images} for of_images in tokens.values())))
    check(bool(images), "no image can be seen in all these patch sizes: leave out the finest --patch-sizes")
    chance = len(images) / float(common[images].prod(-1).sum())
    rows = [
        {"patch_size": shown(size), "layer": layer, **row, "same_place_chance": chance, "images": len(images)}
        for size in tokens
        if size != own
        for layer, row in enumerate(compared(tokens[own], tokens[size], images))
    ]
    largest = max(images, key=lambda i: int(common[i].prod()))
    first, last = ([row["cka"] for row in rows if row["layer"] == layer] for layer in (0, rows[-1]["layer"]))
    return Findings(
        f"similarity: tokens in patches of each size and of the model's own, {shown(own)}, on a common grid, before the first "
        "layer (0) and after each",
        rows,
        f"linear CKA with patches of {shown(own)} is {min(first):.3f} to {max(first):.3f} before the first layer, and "
        f"{min(last):.3f} to {max(last):.3f} after the last",
        "similarity.png",
        partial(draw, rows, map_of(context, source, largest, own, sizes)),
    )


def law_of(context: Context):
    """The largest resolution, as in the study `patches`."""
    return context.sampling_at(context.resolutions[-1])


def tokens_at(context: Context, source: Source, size: Patch) -> Iterator[tuple[int, Float[np.ndarray, "states y x D"]]]:
    """Image ids, and the tokens of each at their places, layer by layer, in patches of `size`."""
    batches, _ = evaluation_rows(context.config, source, law_of(context), patch=size)
    model = able_to_read(context.model, size)
    for batch in batches:
        found = np.asarray(hidden_states(model, to_device(batch)), np.float64)
        for row, slot in np.argwhere(batch.grids[..., 0] > 0):
            here, grid = batch.segment_ids[row] == slot + 1, batch.grids[row, slot]
            order = np.argsort(batch.coords[row][here] @ np.array([grid[1], 1]))
            tokens = found[:, row, here][:, order]
            yield int(batch.image_ids[row, slot]), tokens.reshape(len(tokens), *grid, tokens.shape[-1])


def on_common_grid(context: Context, source: Source, size: Patch, common: Int[np.ndarray, "N 2"]) -> Tokens:
    """The tokens of each image, as those of the coarsest patches lie."""
    return {
        image_id: np.stack([on_grid(layer, common[image_id].tolist()) for layer in tokens])
        for image_id, tokens in tokens_at(context, source, size)
    }


def compared(base: Tokens, other: Tokens, images: list[int]) -> Iterator[dict]:
    """The columns of each layer, over these images."""
    for layer in range(len(base[images[0]])):
        pairs = [(base[i][layer], other[i][layer]) for i in images]
        hits = np.concatenate([token_similarity(x, y).argmax(-1) == np.arange(len(x)) for x, y in pairs])
        cka = linear_cka(*(np.concatenate(side) for side in zip(*pairs)))
        yield {"cka": cka, "same_place": float(hits.mean())}


def map_of(context: Context, source: Source, index: int, own: Patch, sizes: tuple[Patch, ...]) -> Map:
    """Of one image, after the last layer."""
    one = subset(source, np.array([index]))
    tokens = {size: next(tokens_at(context, one, size))[1][-1] for size in {own, *sizes}}
    height, width, _ = tokens[own].shape
    y, x = height // 2, width // 2
    centre = tokens[own][y, x][None]
    cosines = {s: token_similarity(centre, t.reshape(-1, t.shape[-1])).reshape(t.shape[:2]) for s, t in tokens.items()}
    return Map(source.image(index), ((y + 0.5) / height, (x + 0.5) / width), dict(sorted(cosines.items())))


def draw(rows: list[dict], seen: Map, path: Path) -> None:
    """CKA and places along the layers; and the map, one image above or beside the other."""
    sizes = sorted({row["patch_size"] for row in rows})
    with sheet(path, 3) as (left, middle, right):
        for axis, column in ((left, "cka"), (middle, "same_place")):
            for s, size in enumerate(sizes):
                line = [(row["layer"], row[column]) for row in rows if row["patch_size"] == size]
                axis.plot(*zip(*line), "o-", color=COLORS[s % len(COLORS)], label=f"patches of {size}")
            axis.set(xlabel="layer (0: embedding)", ylim=(0, 1.05))
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(alpha=0.3)
        left.set(ylabel="linear CKA with the model's own patch size", title="How alike the tokens are")
        middle.axhline(rows[0]["same_place_chance"], ls=":", color="grey", label="chance")
        middle.set(ylabel="share of places", title="Most similar token: at the same place")
        middle.legend(frameon=False)
        draw_map(right, seen)


def draw_map(axis, seen: Map) -> None:
    """The image with its centre token marked, and the cosines in patches of each size."""
    height, width = seen.image.shape[:2]
    step = (0, 1.25 * height + 4) if width >= height else (1.25 * width + 4, 0)
    panels = [("", seen.image), *((f"{shown(size)}", cosines) for size, cosines in seen.cosines.items())]
    for k, (name, panel) in enumerate(panels):
        x, y = k * step[0], k * step[1]
        axis.imshow(panel, extent=(x, x + width, y + height, y), vmin=-1, vmax=1, cmap="coolwarm")
        axis.plot(x + seen.centre[1] * width, y + seen.centre[0] * height, "+", color="lime", ms=9)
        axis.annotate(name, (x, y), xytext=(0, 2), textcoords="offset points", fontsize=9)
    end = len(panels) - 1
    axis.set(xlim=(-2, end * step[0] + width + 2), ylim=(end * step[1] + height + 2, -8))
    axis.set_axis_off()
    axis.set_title("Cosine with the centre token (+) of the model's own size,\nafter the last layer", fontsize=11)
