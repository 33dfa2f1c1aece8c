"""What the model looks at: maps of attention on a few images, and how far it reaches.   [ViT, app. D.7 and D.8]"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num
from matplotlib.figure import Figure

from data.manifest import printable
from data.sampling.kinds import Patch
from data.sources.source import Chosen
from navit_eqx.errors import check
from navit_eqx.weights.bridge import to_reference
from reference.evaluation.attention_maps import attention_distance, attention_map, image_attention, tokens_read
from reference.rows import Tokens

from ...run.loading import evaluation_rows
from ..pictures import save
from ..predictions import Context
from .findings import Findings
from .mistakes import displayable, short

IMAGES = 4  # computed by the reference, with all weights in memory
MOST_TOKENS = 1024  # of an image, for the same reason


class Looked(NamedTuple):
    """An image, its map of attention, and for each layer and head the distance in pixels and the tokens read."""

    name: str
    image: Num[np.ndarray, "h w C"]
    map: Float[np.ndarray, "y x"]
    distance: Float[np.ndarray, "L H"]
    tokens_read: Float[np.ndarray, "L H"]
    tokens: int
    diagonal: float


def attention(context: Context) -> Findings:
    """Where does the model look, and how far does each layer reach?   Raises ConfigError without an image to show."""
    found = looked_at(context)
    check(bool(found), f"none of {IMAGES} images can be read, is flat and has at most {MOST_TOKENS} tokens")
    distance, read = (np.mean([getattr(each, name) for each in found], axis=0) for name in ("distance", "tokens_read"))
    diagonal, tokens = (float(np.mean([getattr(each, name) for each in found])) for name in ("diagonal", "tokens"))
    rows = [
        {
            "layer": layer + 1,
            "distance": float(of_heads.mean()),
            "distance_least": float(of_heads.min()),
            "distance_most": float(of_heads.max()),
            "tokens_read": float(read[layer].mean()),
            "tokens": tokens,
            "images": len(found),
        }
        for layer, of_heads in enumerate(distance)
    ]
    return Findings(
        "attention: mean distance of attention in pixels and number of tokens read by layer, and maps of attention "
        "from the pooled vector back to the patches",
        rows,
        f"attention reaches {rows[0]['distance']:.1f} pixels in the first layer and {rows[-1]['distance']:.1f} in the "
        f"last, of images with a diagonal of {diagonal:.0f}",
        "attention_maps.png",
        partial(draw, distance, found),
    )


def looked_at(context: Context) -> list[Looked]:
    """The first readable ones of a few images, the same for every model."""
    source, config = context.source, context.config
    count = len(source.manifest)
    chosen = np.sort(np.random.default_rng(0).permutation(count)[:IMAGES])
    params = to_reference(context.model.backbone)
    law = config.data.resolution.at(config.data.reported_at)  # nothing merged: maps are grids of patches
    batches, _ = evaluation_rows(config, Chosen(source, chosen), law)
    found = {}
    for batch in batches:
        for row, slot in np.argwhere(batch.grids[..., 0] > 0):
            here = batch.segment_ids[row] == slot + 1
            image = Tokens(batch.patches[row][here], batch.coords[row][here], batch.grids[row, slot])
            index = int(chosen[batch.image_ids[row, slot]])
            if len(image.grid) == 2 and len(image.coords) <= MOST_TOKENS:
                picture = displayable(source.image(index), config.model)
                found[index] = looked(params, image, config.model.patch, picture, source.manifest.name(index))
    return [found[index] for index in sorted(found)]


def looked(params: dict, image: Tokens, patch: Patch, picture: Num[np.ndarray, "h w C"], name: str) -> Looked:
    """The attention of one image, by the reference."""
    weights, shares = image_attention(params, image)
    return Looked(
        name,
        picture,
        attention_map(weights, shares, image),
        np.stack([attention_distance(layer, image.coords, patch) for layer in weights]),
        np.stack([tokens_read(layer) for layer in weights]),
        len(image.coords),
        float(np.hypot(*(image.grid * np.array(patch)))),
    )


def draw(distance: Float[np.ndarray, "L H"], found: list[Looked], path: Path) -> None:
    """Plot the distance of each head, and draw each image above its map of attention."""
    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[2, 3]).ravel()  # pyright: ignore[reportAttributeAccessIssue]
    axis, layers = left.subplots(), np.arange(1, len(distance) + 1)
    for head in distance.T:
        axis.plot(layers, head, "o", color="gray", alpha=0.5, ms=4)
    axis.plot(layers, distance.mean(-1), "o-", label="mean of the heads")
    axis.set(xlabel="layer", ylabel="pixels", title="How far attention reaches (gray: each head)")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    panels = right.subplots(2, len(found), squeeze=False)
    for column, each in zip(panels.T, found):
        height, width = each.image.shape[:2]
        column[0].imshow(each.image, extent=(0, width, height, 0))
        column[1].imshow(each.map, extent=(0, width, height, 0), vmin=0, cmap="magma")
        column[0].set_title(short(printable(each.name).rpartition("/")[2]), fontsize=8, parse_math=False)
        for one in column:
            one.set_axis_off()
    right.suptitle("Images, and the share of each patch in the pooled vector (rollout)", fontsize=11)
    save(figure, path)
