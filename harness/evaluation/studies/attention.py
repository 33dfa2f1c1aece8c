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
from navit_eqx.config import ModelConfig
from navit_eqx.errors import check
from navit_eqx.weights.bridge import to_reference
from reference.evaluation.attention_maps import (
    attention_distance,
    attention_map,
    clip_attention,
    clip_map,
    image_attention,
    tokens_read,
)
from reference.rows import Row, Tokens

from ...run.loading import evaluation_rows
from ..clip_pictures import frames_of
from ..pictures import as_color, save
from ..predictions import Context
from .findings import Findings
from .mistakes import displayable, short

IMAGES = 4  # computed by the reference, with all weights in memory
MOST_TOKENS = 1024  # of an image or a clip, for the same reason
CLIPS, FRAMES = 2, 4  # shown of them


class Looked(NamedTuple):
    """An image or a clip, its map of attention, and for each layer and head the distances and the tokens read."""

    name: str
    frames: Num[np.ndarray, "f h w C"]
    """An image is one frame."""
    map: Float[np.ndarray, "f y x"]
    distance: Float[np.ndarray, "L H"]
    """In pixels."""
    time: Float[np.ndarray, "L H"] | None
    """In frames, of a clip."""
    tokens_read: Float[np.ndarray, "L H"]
    tokens: int
    diagonal: float


def attention(context: Context) -> Findings:
    """Where does the model look, and how far does each layer reach?   Raises ConfigError without an image to show."""
    found = looked_at(context)
    check(bool(found), f"none of {IMAGES} images can be read and has at most {MOST_TOKENS} tokens")
    distance, read = (np.mean([getattr(each, name) for each in found], axis=0) for name in ("distance", "tokens_read"))
    times = [each.time for each in found if each.time is not None]
    diagonal, tokens = (float(np.mean([getattr(each, name) for each in found])) for name in ("diagonal", "tokens"))
    rows = [
        {
            "layer": layer + 1,
            "distance": float(of_heads.mean()),
            "distance_least": float(of_heads.min()),
            "distance_most": float(of_heads.max()),
            **({"frames": float(np.mean([time[layer] for time in times]))} if times else {}),
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
    """The first readable ones of a few images or clips, the same for every model."""
    source, model = context.source, context.config.model
    clips = model.tubelets is not None
    count = len(source.manifest)
    chosen = np.sort(np.random.default_rng(0).permutation(count)[: CLIPS if clips else IMAGES])
    params = to_reference(context.model.backbone)
    law = context.config.data.resolution.at(
        context.config.data.reported_at
    )  # nothing merged: maps are grids of patches
    batches, _ = evaluation_rows(context.config, Chosen(source, chosen), law)
    found = {}
    for batch in batches:
        for r, slot in np.argwhere(batch.grids[..., 0] > 0):
            row = Row(*(leaf[r] for leaf in batch[: len(Row._fields)]))
            here = row.segment_ids == slot + 1
            image = Tokens(row.patches[here], row.coords[here], row.grids[slot])
            index = int(chosen[row.image_ids[slot]])
            name = source.manifest.name(index)
            if len(image.coords) > MOST_TOKENS:
                continue
            if clips:
                found[index] = clip_looked(params, image, model, frames_of(row, slot + 1, model), name)
            elif len(image.grid) == 2:
                found[index] = looked(params, image, model.patch, displayable(source.image(index), model), name)
    return [found[index] for index in sorted(found)]


def looked(params: dict, image: Tokens, patch: Patch, picture: Num[np.ndarray, "h w C"], name: str) -> Looked:
    """The attention of one image, by the reference."""
    weights, shares = image_attention(params, image)
    return Looked(
        name,
        picture[None],
        attention_map(weights, shares, image)[None],
        np.stack([attention_distance(layer, image.coords, patch) for layer in weights]),
        None,
        np.stack([tokens_read(layer) for layer in weights]),
        len(image.coords),
        float(np.hypot(*(image.grid * np.array(patch)))),
    )


def clip_looked(
    params: dict, clip: Tokens, model: ModelConfig, frames: Num[np.ndarray, "f h w C"], name: str
) -> Looked:
    """The attention of one clip: a few of its frames."""
    weights, shares = clip_attention(params, clip)
    shown = np.unique(np.linspace(0, len(frames) - 1, FRAMES).round().astype(int))
    base, (height, width) = model.patch, frames.shape[1:3]
    return Looked(
        name,
        as_color(frames[shown]),
        clip_map(weights, shares, clip, base, model.tubelet_shapes)[shown],
        np.stack([attention_distance(layer, clip.coords[:, 2:], base[1:]) for layer in weights]),
        np.stack([attention_distance(layer, clip.coords[:, 1:2], base[:1]) for layer in weights]),
        np.stack([tokens_read(layer) for layer in weights]),
        len(clip.coords),
        float(np.hypot(height, width)),
    )


def draw(distance: Float[np.ndarray, "L H"], found: list[Looked], path: Path) -> None:
    """Plot the distance of each head, and draw each image, or some frames of each clip, above its map of attention."""
    pairs = [(each, frame) for each in found for frame in range(len(each.frames))]
    figure = Figure(figsize=(13, 5 if len(pairs) <= IMAGES else 3.6), layout="constrained")
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
    panels = right.subplots(2, len(pairs), squeeze=False)
    for column, (each, frame) in zip(panels.T, pairs):
        height, width = each.frames.shape[1:3]
        column[0].imshow(each.frames[frame], extent=(0, width, height, 0))
        column[1].imshow(each.map[frame], extent=(0, width, height, 0), vmin=0, vmax=each.map.max(), cmap="magma")
        if frame == 0:
            column[0].set_title(short(printable(each.name).rpartition("/")[2]), fontsize=8, parse_math=False)
        for one in column:
            one.set_axis_off()
    right.suptitle("Images, and the share of each patch in the pooled vector (rollout)", fontsize=11)
    save(figure, path)
