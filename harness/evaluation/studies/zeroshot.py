"""Zero-shot classification: classes named by texts, and true captions beside false ones."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from data.sources.source import Attribute, Foils, Source
from data.sources.source import attributes_of as known_attributes
from navit_eqx.errors import ConfigError
from navit_eqx.tasks.model import Model
from navit_eqx.zero_shot import class_vectors, embed_texts, image_vectors, reading_texts
from reference.evaluation.retrieval import ranks

from ..pictures import sheet
from ..predictions import Context, Predictions
from .findings import Findings


def zeroshot(context: Context) -> Findings:
    """How often is the text of the right class the most similar one, and a true caption more so than a false one?

    Equal similarities count against the model.   Raises ConfigError without texts or labels.
    """
    reader = context.reader
    if reader is None:
        raise ConfigError("zero-shot classification needs a model that was trained on images and texts")
    resolution = context.config.data.reported_at
    attributes, foils = attributes_of(context.source), getattr(context.source, "foils", ())
    if not attributes and not foils:
        raise ConfigError(f"{context.source.manifest.where} has no classes to name: give labeled images, --data.root")
    found = context.predict(context.sampling_at(resolution), output=image_vectors)
    rows = [of_attribute(reader, attribute, found) for attribute in attributes]
    rows += [of_foils(reader, each, found) for each in foils]
    return Findings(
        f"zeroshot: {context.source.manifest.where}, at resolution {resolution:g}",
        rows,
        "zero-shot accuracy: " + ", ".join(f"{r['of']} {said(r['accuracy'])}" for r in rows),
        "zeroshot.png",
        partial(draw, rows),
    )


def attributes_of(source: Source) -> tuple[Attribute, ...]:
    """The classes to name: those that the source knows, or the labels of a source of labeled images."""
    manifest = source.manifest
    if manifest.labels.ndim != 1:
        return known_attributes(source)
    return (Attribute("class", manifest.classes, manifest.labels),)


def of_attribute(reader: Model, attribute: Attribute, found: Predictions) -> dict:
    """Accuracy by all texts of each class, and by its name alone."""
    labels = attribute.labels[found.image_ids]
    known = labels >= 0
    images, labels = found.outputs[known], labels[known]
    named = tuple((value,) for value in attribute.values)
    right, by_name = (first(reader, images, texts, labels) for texts in (attribute.texts, named))
    counts = np.bincount(labels, minlength=len(attribute.values))
    return row(
        attribute.name,
        right,
        class_name_only=mean_of(by_name),
        chance=1 / len(counts),
        largest=float(counts.max() / max(counts.sum(), 1)),
        floor=attribute.floor,
        classes=len(counts),
    )


def first(
    reader: Model, images: Float[np.ndarray, "N E"], texts: Sequence[Sequence[str]], labels: Int[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Whether the class of each image is the most similar one."""
    own = distinct(reader, texts)
    return ranks(images @ class_vectors(reader, texts).T, own[labels][:, None] == own) == 1


def distinct(reader: Model, texts: Sequence[Sequence[str]]) -> Int[np.ndarray, " Y"]:
    """The first class with the same token ids as each: these cannot be told apart, but for rounding."""
    tokenizer: Any = reading_texts(reader).config.tokenizer
    seen: dict[Any, int] = {}
    encoded = [tuple(tuple(tokenizer.encode(text)) for text in each) for each in texts]
    return np.array([seen.setdefault(each, k) for k, each in enumerate(encoded)])


def of_foils(reader: Model, foils: Foils, found: Predictions) -> dict:
    """How often the true caption of an image is more similar than the false one."""
    place = np.full(1 + max(foils.images.max(initial=-1), found.image_ids.max(initial=-1)), -1)
    place[found.image_ids] = np.arange(len(found.image_ids))
    read = np.flatnonzero(place[foils.images] >= 0)
    images = found.outputs[place[foils.images[read]]]
    captions, false = (embed_texts(reader, [texts[k] for k in read]) for texts in (foils.captions, foils.foils))
    scores = np.stack([(images * captions).sum(-1), (images * false).sum(-1)], -1)
    apart = [distinct(reader, [[foils.captions[k]], [foils.foils[k]]])[1] == 1 for k in read]
    right = (ranks(scores, np.broadcast_to([True, False], scores.shape)) == 1) & apart
    return row(f"foils: {foils.name}", right, None, chance=0.5, largest=0.5, floor=foils.floor, classes=2)


def row(name: str, right: Bool[np.ndarray, " N"], class_name_only: float | None, **rest: float | None) -> dict:
    """One row of the table; `chance` is that of a random class, `largest` that of always the largest class, `floor`
    that of simple methods."""
    return {
        "of": name,
        "accuracy": mean_of(right),
        "accuracy_se": float(right.std() / np.sqrt(len(right))) if len(right) else None,
        "class_name_only": class_name_only,
        **rest,
        "images": len(right),
    }


def mean_of(right: Bool[np.ndarray, " N"]) -> float | None:
    """The share of right answers; None without a question."""
    return float(right.mean()) if len(right) else None


def said(accuracy: float | None) -> str:
    """An accuracy in words."""
    return "of no image" if accuracy is None else f"{accuracy:.3f}"


def draw(rows: list[dict], path: Path) -> None:
    """Draw the accuracies, those by names alone, and what they are to be compared with."""
    with sheet(path, 1) as (axis,):
        places = np.arange(len(rows))
        axis.bar(places, [r["accuracy"] or 0 for r in rows], yerr=[r["accuracy_se"] or 0 for r in rows], capsize=3)
        for column, marker, label in (("class_name_only", "D", "by the name of the class alone"),
                                      ("largest", "_", "always the largest class"),
                                      ("floor", "x", "simple methods")):  # fmt: skip
            known = [(x, r[column]) for x, r in zip(places, rows) if r[column] is not None]
            if known:
                axis.scatter(*zip(*known), marker=marker, s=60, color="black", label=label, zorder=3)
        axis.set_xticks(places, [f"{r['of']} ({r['classes']})" for r in rows], rotation=30, ha="right", fontsize=8)
        axis.set(ylim=(0, 1.05), ylabel="accuracy (bars: one standard error)")
        axis.legend(frameon=False, fontsize=8)
        axis.set_title("Zero-shot classification (number of classes)", fontsize=11)
