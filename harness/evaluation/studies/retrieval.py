"""Texts found by images, and images found by texts."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from matplotlib.figure import Figure

from data.errors import BadImage
from data.manifest import printable
from data.tasks.multi_label import label_sets
from navit_eqx.errors import ConfigError
from reference.evaluation.retrieval import mean_reciprocal_rank, ranks, recall

from ..pictures import displayable
from ..predictions import Context
from .findings import Findings

SHOWN = 12  # images in the picture, each with its text


def retrieval(context: Context) -> Findings:
    """Does an image find its text, and a text its image? "first text": among texts that are the first of an image.

    Raises ConfigError where the model reads no text."""
    task: Any = context.task
    if not hasattr(task, "distinct"):
        raise ConfigError("retrieval needs a model that was trained on images and texts")
    resolution = context.config.data.reported_at
    found = context.predict(context.sampling_at(resolution))
    scores, positive = task.distinct(found.outputs, found.image_ids, context.source.manifest)
    asked = positive.any(0)
    rows = [row("text of an image", scores, positive), row("image of a text", scores.T[asked], positive.T[asked])]
    if label_sets(context.source.manifest).shape[1] > 1:
        rows.append(row("first text", *task.main(found.outputs, found.image_ids, context.source.manifest)))
    return Findings(
        f"retrieval: {context.source.manifest.where}, at resolution {resolution:g}",
        rows,
        f"R@1: {rows[0]['R@1']:.3f} for texts of images, {rows[1]['R@1']:.3f} for images of texts "
        f"(chance {rows[0]['chance']:.3f}, {rows[1]['chance']:.3f})",
        "retrieval.png",
        partial(draw, context),
    )


def row(query: str, scores: Float[np.ndarray, "N M"], positive: Bool[np.ndarray, "N M"]) -> dict:
    """One row of the table: recall and median rank of one direction; `chance` is the R@1 of a random order."""
    found = ranks(scores, positive)
    return {
        "query": query,
        **{f"R@{k}": recall(found, k) for k in (1, 5, 10)},
        "median_rank": float(np.median(found)),
        "mrr": mean_reciprocal_rank(found),
        "chance": float(positive.mean()),
        "queries": len(scores),
        "candidates": scores.shape[1],
    }


def draw(context: Context, path: Path) -> None:
    """Draw the similarities of some images (rows) and the texts of the same images (columns)."""
    found = context.predict(context.sampling_at(context.config.data.reported_at))
    manifest, truth = context.source.manifest, context.truth(found)
    chosen, texts, pictures = examples(context, found.image_ids, truth)
    scores, right = found.outputs[np.ix_(chosen, texts)], truth[np.ix_(chosen, texts)]
    figure = Figure(figsize=(13, 0.55 * len(chosen) + 3.5), layout="constrained")
    grid = figure.add_gridspec(len(chosen), 2, width_ratios=[1, 6])
    for row, picture in enumerate(pictures):
        axis = figure.add_subplot(grid[row, 0])
        axis.imshow(displayable(picture, context.config.model))
        axis.set_axis_off()
        axis.set_anchor("E")  # beside its row
    axis = figure.add_subplot(grid[:, 1])
    axis.imshow(scores, cmap="viridis", aspect="auto")
    for y, x in np.argwhere(right):
        axis.plot(x, y, "o", color="white", markersize=5)
    names = [printable(manifest.classes[t])[:60] for t in texts]
    axis.set_xticks(range(len(texts)), names, rotation=30, ha="right", fontsize=8, parse_math=False)
    axis.set_yticks([])
    axis.set_title("Similarity of images and texts (white dot: a text of the image)", fontsize=11)
    figure.savefig(path, dpi=110)


def examples(
    context: Context, image_ids: Int[np.ndarray, " N"], truth: Bool[np.ndarray, "N Y"]
) -> tuple[list[int], list[int], list[Num[np.ndarray, "h w C"]]]:
    """Images with different texts: their numbers, one text of each, their pixels."""
    chosen, texts, pictures, seen = [], [], [], np.zeros(truth.shape[1], bool)
    for n in np.random.default_rng(0).permutation(len(image_ids)):
        own = np.flatnonzero(truth[n])
        if not len(own) or seen[own].any():
            continue
        try:
            pictures.append(context.source.image(int(image_ids[n])))
        except BadImage:
            continue
        chosen.append(int(n))
        texts.append(int(own[0]))
        seen |= truth[n]
        if len(chosen) == SHOWN:
            break
    return chosen, texts, pictures
