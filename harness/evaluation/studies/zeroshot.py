"""Zero-shot classification: classes named by texts."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.sources.source import Attribute, Source
from navit_eqx.errors import ConfigError
from navit_eqx.zero_shot import embed_texts, image_vectors

from ..pictures import sheet
from ..predictions import Context
from .findings import Findings


def zeroshot(context: Context) -> Findings:
    """How often is the text of the right class the most similar one?   Raises ConfigError without texts or labels."""
    reader = context.reader
    if reader is None:
        raise ConfigError("zero-shot classification needs a model that was trained on images and texts")
    resolution = context.config.data.reported_at
    attributes = attributes_of(context.source)
    if not attributes:
        raise ConfigError(f"{context.source.manifest.where} has no classes to name: give labeled images, --data.root")
    found = context.predict(context.sampling_at(resolution), output=image_vectors)
    rows = []
    for attribute in attributes:
        labels = attribute.labels[found.image_ids]
        known = labels >= 0
        vectors = embed_texts(reader, attribute.prompts)
        right = (found.outputs[known] @ vectors.T).argmax(-1) == labels[known]
        rows.append(row(attribute.name, right, np.bincount(labels[known], minlength=len(attribute.prompts))))
    return Findings(
        f"zeroshot: {context.source.manifest.where}, at resolution {resolution:g}",
        rows,
        "zero-shot accuracy: " + ", ".join(f"{r['classes_of']} {r['accuracy']:.3f}" for r in rows),
        "zeroshot.png",
        partial(draw, rows),
    )


def attributes_of(source: Source) -> tuple[Attribute, ...]:
    """The classes to name: those that the source knows, or the labels of a source of labeled images."""
    known: Any = getattr(source, "attributes", ())
    manifest = source.manifest
    if known or manifest.labels.ndim != 1:
        return known
    return (Attribute("class", manifest.classes, manifest.labels),)


def row(name: str, right: np.ndarray, counts: np.ndarray) -> dict:
    """One row of the table; `chance` is that of a random class, `largest` that of always the largest class."""
    return {
        "classes_of": name,
        "accuracy": float(right.mean()) if len(right) else None,
        "accuracy_se": float(right.std() / np.sqrt(max(len(right), 1))),
        "chance": 1 / len(counts),
        "largest": float(counts.max() / max(counts.sum(), 1)),
        "classes": len(counts),
        "images": len(right),
    }


def draw(rows: list[dict], path: Path) -> None:
    """Draw the accuracies and their chance levels."""
    with sheet(path, 1) as (axis,):
        names = [f"{r['classes_of']} ({r['classes']})" for r in rows]
        axis.bar(names, [r["accuracy"] or 0 for r in rows], yerr=[r["accuracy_se"] for r in rows], capsize=3)
        for x, r in enumerate(rows):
            axis.plot([x - 0.4, x + 0.4], [r["largest"]] * 2, color="black", linestyle="--", linewidth=1)
        axis.set(ylim=(0, 1.05), ylabel="accuracy (bars: one standard error)")
        axis.set_title("Zero-shot classification\n(dashed: always the largest class; number of classes)", fontsize=11)
