"""A linear probe of the frozen features from k images per class.   [ViT, §4.1; NaViT, fig. 1 left]"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from data.laws import Resolution
from data.manifest import Manifest
from data.sources import Source
from navit_eqx.config_json import check
from navit_eqx.evaluate import features
from reference.probe import accuracy, ridge, sample_shots

from ..loading import open_source
from ..looks import Context, Look, halves, look
from ..pictures import sheet
from .findings import Findings

SHOTS = (1, 5, 10)  # [NaViT, fig. 1] is 10-shot
DRAWS = 5  # of the labelled images
L2 = 10.0 ** np.arange(-4, 4)  # Choice: in units of the features' total variance


@dataclass
class Subset:
    """Some images of a source."""

    source: Source
    manifest: Manifest
    indices: Int[np.ndarray, " N"]

    def image(self, index: int, shrink: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        return self.source.image(int(self.indices[index]), shrink)


def subset(source: Source, indices: Int[np.ndarray, " N"]) -> Subset:
    """The images at `indices`, in this order."""
    whole = source.manifest
    part = replace(whole, names=whole.names[indices], sizes=whole.sizes[indices], labels=whole.labels[indices])
    return Subset(source, part, indices)


def probe(context: Context) -> Findings:
    """What do the features know that a handful of labelled images can bring out?"""
    resolution = context.config.data.val_resolution
    law = context.law(resolution)
    seen = context.look(law, output=features)
    choose, test = halves(seen)
    train = open_source(context.config.data, "train")
    classes = len(train.manifest.classes)
    shots = [k for k in SHOTS if k <= np.bincount(train.manifest.labels, minlength=classes).min()]
    check(bool(shots), f"a probe needs an image of each class to train on; {train.manifest.where} has classes without")
    draws = [shown(context, train, law, max(shots), draw) for draw in range(DRAWS)]
    rows = [probe_row(draws, choose, test, classes, k) for k in shots]
    trained = float(halves(context.look(law))[1].correct.mean())
    return Findings(
        f"probe: ridge regression on frozen features of k training images per class, at resolution {resolution:g}; "
        f"mean of {DRAWS} draws on one half of the images, l2 chosen on the other",
        rows,
        f"{rows[-1]['shots']} images per class: {rows[-1]['accuracy']:.3f}; the model's own classifier, trained on all "
        f"images: {trained:.3f}",
        "probe.png",
        partial(picture, rows, trained, 1 / classes),
    )


def shown(context: Context, train: Source, law: Resolution, shots: int, draw: int) -> Look:
    """Features of `shots` random training images of each class."""
    rng = np.random.default_rng([context.config.seed, draw])
    indices = sample_shots(rng, train.manifest.labels, len(train.manifest.classes), shots)
    return look(context.model, context.config, subset(train, indices), law, output=features)


def probe_row(draws: list[Look], choose: Look, test: Look, classes: int, shots: int) -> dict:
    """The first `shots` images of each class of each draw: the more images include the fewer."""
    results = [fit(draw.only(first_of_each(draw.labels, shots)), choose, test, classes) for draw in draws]
    found, strength = zip(*results)
    return {
        "shots": shots,
        "accuracy": float(np.mean(found)),
        "accuracy_sd": float(np.std(found)),
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


def fit(train: Look, choose: Look, test: Look, classes: int) -> tuple[float, float]:
    """Accuracy with the l2 that is best on the images to choose on, and that l2."""
    x = train.output.astype(float)
    fitted = ridge(x, train.labels, classes, L2 * x.var(0).sum())
    best = int(accuracy(fitted, choose.output.astype(float), choose.labels).argmax())
    return float(accuracy(fitted, test.output.astype(float), test.labels)[best]), float(L2[best])


def picture(rows: list[dict], trained: float, chance: float, path: Path) -> None:
    with sheet(path, 1) as (axis,):
        shots, found, spread = ([row[c] for row in rows] for c in ("shots", "accuracy", "accuracy_sd"))
        axis.errorbar(shots, found, yerr=spread, fmt="o-", capsize=3, label="ridge probe on frozen features")
        axis.axhline(trained, ls="--", color="grey", label="the model's own classifier, trained on all images")
        axis.axhline(chance, ls=":", color="grey", label="chance")
        axis.set(xlabel="labelled images per class", ylabel="accuracy (bars: standard deviation over draws)")
        axis.set_xscale("log")
        axis.set_xticks(shots, [str(k) for k in shots])
        axis.minorticks_off()
        axis.set_ylim(0, min(1.05, 1.3 * max(*found, trained)))
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, loc="center right")
        axis.set_title("What k labelled images per class make of the frozen features", fontsize=11)
