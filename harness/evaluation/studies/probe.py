"""A linear probe of the frozen features from k images per class.   [ViT, §4.1; NaViT, fig. 1 left]"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from data.sampling.merge import Law
from data.sources.source import Chosen, Source
from navit_eqx.errors import check
from navit_eqx.inference import pooled
from reference.evaluation.probe import accuracy, ridge, sample_shots

from ...run.loading import open_source
from ..pictures import sheet
from ..predictions import Context, evaluate, halves, labels_of
from .findings import Findings

SHOTS = (1, 5, 10)  # [NaViT, fig. 1] is 10-shot
DRAWS = 5  # samples of the labeled images
L2 = 10.0 ** np.arange(-4, 4)  # Choice: in units of the features' total variance


class Features(NamedTuple):
    """Frozen features and labels of images."""

    values: Float[np.ndarray, "N D"]
    labels: Int[np.ndarray, " N"]


def probe(context: Context) -> Findings:
    """How accurate is a linear classifier on frozen features, trained on k labeled images per class?"""
    resolution = context.config.data.reported_at
    sampling = context.sampling_at(resolution)
    features = context.predict(sampling, output=pooled)
    labels = labels_of(context.source.manifest)
    choose, test = (Features(half.outputs.astype(float), labels[half.image_ids]) for half in halves(features))
    train = open_source(context.config, "train")
    classes = len(train.manifest.classes)
    shots = [k for k in SHOTS if k <= np.bincount(labels_of(train.manifest), minlength=classes).min()]
    check(
        bool(shots), f"a probe needs a training image of each class; {train.manifest.where} has classes without images"
    )
    draws = [training_features(context, train, sampling, max(shots), draw) for draw in range(DRAWS)]
    rows = [probe_row(draws, choose, test, classes, k) for k in shots]
    own = context.model.task.config.classes is not None
    trained = float(halves(context.predict(sampling))[1].correct.mean()) if own else None
    return Findings(
        f"probe: ridge regression on frozen features of k training images per class, at resolution {resolution:g}; "
        f"mean of {DRAWS} draws on one half of the images, l2 chosen on the other",
        rows,
        f"{rows[-1]['shots']} images per class: {rows[-1]['score']:.3f}" + ("" if trained is None else beside(trained)),
        "probe.png",
        partial(picture, rows, trained, 1 / classes),
    )


def beside(trained: float) -> str:
    """The accuracy of the model's own classifier, in words."""
    return f"; the model's own classifier, trained on all images: {trained:.3f}"


def training_features(context: Context, train: Source, sampling: Law, shots: int, draw: int) -> Features:
    """Features of `shots` random training images of each class."""
    rng = np.random.default_rng([context.config.seed, draw])
    indices = sample_shots(rng, labels_of(train.manifest), len(train.manifest.classes), shots)
    images = Chosen(train, indices)
    found = evaluate(context.model, context.config, images, context.task, sampling, output=pooled)
    return Features(found.outputs.astype(float), labels_of(images.manifest)[found.image_ids])


def probe_row(draws: list[Features], choose: Features, test: Features, classes: int, shots: int) -> dict:
    """One row of the table, on the first `shots` images of each class of each draw."""
    results = [
        fit(Features(*(part[first_of_each(draw.labels, shots)] for part in draw)), choose, test, classes)
        for draw in draws
    ]
    found, strength = zip(*results)
    return {
        "shots": shots,
        "score": float(np.mean(found)),
        "score_sd": float(np.std(found)),
        "l2": float(np.median(strength)),
        "draws": len(draws),
        "images": len(test.labels),
    }


def first_of_each(labels: Int[np.ndarray, " N"], shots: int) -> np.ndarray:
    """True at the first `shots` occurrences of each label."""
    order = np.argsort(labels, kind="stable")
    start = np.searchsorted(labels[order], labels[order])
    rank = np.empty(len(labels), int)
    rank[order] = np.arange(len(labels)) - start
    return rank < shots


def fit(train: Features, choose: Features, test: Features, classes: int) -> tuple[float, float]:
    """Test accuracy at the l2 with the best accuracy on `choose`, and that l2."""
    x = train.values
    fitted = ridge(x, train.labels, classes, L2 * x.var(0).sum())
    best = int(accuracy(fitted, choose.values, choose.labels).argmax())
    return float(accuracy(fitted, test.values, test.labels)[best]), float(L2[best])


def picture(rows: list[dict], trained: float | None, chance: float, path: Path) -> None:
    """Draw the score against the images per class."""
    with sheet(path, 1) as (axis,):
        shots, found, spread = ([row[c] for row in rows] for c in ("shots", "score", "score_sd"))
        axis.errorbar(shots, found, yerr=spread, fmt="o-", capsize=3, label="ridge probe on frozen features")
        if trained is not None:
            axis.axhline(trained, ls="--", color="gray", label="the model's own classifier, trained on all images")
        axis.axhline(chance, ls=":", color="gray", label="chance")
        axis.set(xlabel="labeled images per class", ylabel="accuracy (bars: standard deviation over draws)")
        axis.set_xscale("log")
        axis.set_xticks(shots, [str(k) for k in shots])
        axis.minorticks_off()
        axis.set_ylim(0, min(1.05, 1.3 * max(*found, trained or 0.0)))
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, loc="center right")
        axis.set_title("Linear probe of frozen features from k labeled images per class", fontsize=11)
