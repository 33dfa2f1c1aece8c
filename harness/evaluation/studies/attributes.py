"""Linear probes of attributes on frozen features, at native aspect ratio and in squares.   [NaViT, fig. 12]"""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from data.sampling.merge import Law
from data.sources.source import Attribute, Chosen, Source, attributes_of
from navit_eqx.errors import check
from navit_eqx.inference import pooled
from reference.evaluation.metrics import balanced_accuracy
from reference.evaluation.probe import predictions, ridge
from reference.evaluation.signed_rank import signed_rank, smallest_p

from ...run.loading import open_source
from ..pictures import sheet
from ..predictions import Context, Predictions, evaluate, groups
from .aspect import both_laws
from .findings import Findings
from .leaks import NEIGHBORS
from .probe import L2

VIEWS = ("native", "square")
IMAGES = 2_000  # largest number of training images
FIFTH = 5  # one in so many training images chooses l2
FEWEST = 10  # images of a group that is reported
ENOUGH = 6  # differences without which Wilcoxon's p is never below .05


class Part(NamedTuple):
    """Images with a value of an attribute."""

    ids: Int[np.ndarray, " N"]
    x: Float[np.ndarray, "N D"]
    """Frozen features."""
    sizes: Float[np.ndarray, "N 2"]
    labels: Int[np.ndarray, " N"]


def attributes(context: Context) -> Findings:
    """What do frozen features tell of an image beside its label, and more at native aspect ratio than in a square?"""
    own, train = attributes_of(context.source), open_source(context.config, "train")
    check(
        bool(own),
        f"{context.source.manifest.where} has no attributes: columns of attributes.csv, of labels.csv, or of parquet "
        "files by data.source.attributes",
    )
    count = len(train.manifest)
    chosen = np.sort(np.random.default_rng([context.config.seed, 0]).permutation(count)[:IMAGES])
    few = Chosen(train, chosen)
    rows = []
    for view, law in zip(VIEWS, both_laws(context, context.config.data.reported_at)):
        seen = [features_of(context, few, law), context.predict(law, output=pooled)]
        for attribute in own:
            learned = numbered_alike(attributes_of(train), attribute)[chosen]
            probed = part_of(seen[0], learned, few)
            rows.append(row(context, attribute, view, probed, part_of(seen[1], attribute.labels, context.source)))
    difference = differences(rows)
    return Findings(
        f"attributes: linear probes of frozen features at resolution {context.config.data.reported_at:g}; balanced "
        "accuracy, native aspect ratio and squares at equal tokens",
        rows,
        compared(difference),
        "attributes.png",
        partial(draw, rows),
    )


def features_of(context: Context, source: Source, law: Law) -> Predictions:
    """Frozen features of training images."""
    return evaluate(context.model, context.config, source, context.task, law, output=pooled, patch=context.patch)


def numbered_alike(known: Sequence[Attribute], own: Attribute) -> Int[np.ndarray, " N"]:
    """Labels of the training images that index the values of the evaluated ones, by name; −1 for others.

    Raises ConfigError where training images lack the attribute.
    """
    train = next((each for each in known if each.name == own.name), None)
    check(train is not None, f"the training images have no attribute {own.name!r}: add its column to their table")
    assert train
    place = {name: i for i, name in enumerate(own.values)}
    table = np.array([*(place.get(name, -1) for name in train.values), -1])
    return table[train.labels]


def part_of(found: Predictions, labels: Int[np.ndarray, " M"], source: Source) -> Part:
    """Images that were read and have a value, with the logarithms of height and width."""
    ids = found.image_ids[labels[found.image_ids] >= 0]
    x = found.outputs[labels[found.image_ids] >= 0].astype(float)
    return Part(ids, x, np.log(source.manifest.sizes[ids, -2:].astype(float)), labels[ids])


def row(context: Context, attribute: Attribute, view: str, train: Part, test: Part) -> dict:
    """One row of the table."""
    kinds, counts = np.unique(test.labels, return_counts=True)
    enough = len({*train.labels.tolist()}) > 1 and len(kinds) > 1 and len(train.labels) > FIFTH
    check(enough, f"attribute {attribute.name!r} has fewer than two values with images: leave its column out")
    said = by_ridge(train.x, train.labels, test.x)
    return {
        "attribute": attribute.name,
        "view": view,
        "score": balanced_accuracy(said, test.labels),
        "logistic": balanced_accuracy(by_logistic(train.x, train.labels, test.x), test.labels),
        "size_alone": balanced_accuracy(by_neighbors(train.sizes, train.labels, test.sizes), test.labels),
        "chance": 1 / len(kinds),
        "largest": float(counts.max() / counts.sum()),
        **worst_group(context, said == test.labels, test.ids),
        "train_images": len(train.labels),
        "images": len(test.labels),
    }


def by_ridge(x: np.ndarray, labels: Int[np.ndarray, " N"], test: np.ndarray) -> Int[np.ndarray, " M"]:
    """Predictions of a ridge probe; l2 is chosen on every fifth image, then all are fitted."""
    x, test = standardized(x, test)
    classes, l2 = int(labels.max()) + 1, L2 * x.var(0).sum()
    aside = np.arange(len(labels)) % FIFTH == 0
    tried = predictions(ridge(x[~aside], labels[~aside], classes, l2), x[aside])
    best = int(np.argmax([balanced_accuracy(said, labels[aside]) for said in tried]))
    return predictions(ridge(x, labels, classes, l2[best : best + 1]), test)[0]


def by_logistic(x: np.ndarray, labels: Int[np.ndarray, " N"], test: np.ndarray) -> Int[np.ndarray, " M"]:
    """Predictions of logistic regression with classes of equal weight, a check of the ridge probe."""
    x, test = standardized(x, test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few more steps would change no digit that is shown
        return LogisticRegression(class_weight="balanced", max_iter=300).fit(x, labels).predict(test)


def by_neighbors(x: np.ndarray, labels: Int[np.ndarray, " N"], test: np.ndarray) -> Int[np.ndarray, " M"]:
    """The most frequent label of the nearest training images, each weighed by the rarity of its label."""
    weights = 1 / np.bincount(labels)[labels]
    near = np.argsort(np.abs(test[:, None] - x).sum(-1), kind="stable")[:, :NEIGHBORS]
    return np.array([np.bincount(labels[some], weights[some]).argmax() for some in near])


def standardized(x: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features with mean 0 and deviation 1 over the training images."""
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    return (x - mean) / deviation, (test - mean) / deviation


def worst_group(context: Context, right: np.ndarray, ids: Int[np.ndarray, " N"]) -> dict:
    """The group of images with the lowest share of right answers, its distance from the best one, and all groups;
    groups of few images have no share."""
    masks = groups(context.config, context.source.manifest)
    found = {name: right[mask[ids]] for name, mask in masks.items()}
    shares = {name: float(some.mean()) if len(some) >= FEWEST else None for name, some in found.items()}
    known = {name: share for name, share in shares.items() if share is not None}
    if not known:
        return {"worst_group": None, "worst": None, "worst_se": None, "gap": None, "groups": shares}
    worst = min(known, key=known.__getitem__)
    error = float(found[worst].std() / np.sqrt(len(found[worst])))
    gap = max(known.values()) - known[worst]
    return {"worst_group": worst, "worst": known[worst], "worst_se": error, "gap": gap, "groups": shares}


def differences(rows: Sequence[dict]) -> Float[np.ndarray, " n"]:
    """Native minus square, for each attribute."""
    of = lambda view: np.array([r["score"] for r in rows if r["view"] == view])
    return of("native") - of("square")


def compared(difference: Float[np.ndarray, " n"]) -> str:
    """The differences in words, with Wilcoxon's exact p and what so few can show."""
    count, above = len(difference), int((difference > 0).sum())
    limit = "" if count >= ENOUGH else f"; {count} can never be below {smallest_p(count):.3g}"
    return (
        f"native above square in {above} of {count} attributes, median {100 * np.median(difference):+.1f} points; "
        f"exact Wilcoxon p = {signed_rank(difference):.3g}{limit}"
    )


def draw(rows: list[dict], path: Path) -> None:
    """Draw the balanced accuracy of each attribute by view, what the size alone tells, and chance."""
    with sheet(path, 1) as (axis,):
        names = list(dict.fromkeys(r["attribute"] for r in rows))
        places = np.arange(len(names))
        for column, label, marker in (("size_alone", "size of the image alone", "x"), ("chance", "chance", "_")):
            axis.plot(places, [r[column] for r in rows if r["view"] == "native"], marker, color="black", label=label)
        for shift, view in ((-0.15, "native"), (0.15, "square")):
            score = [r["score"] for r in rows if r["view"] == view]
            axis.plot(places + shift, score, "o", label=f"ridge, {view}")
        axis.set_xticks(places, names)
        axis.set(ylim=(0, 1.05), ylabel="balanced accuracy")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
        axis.set_title("What frozen features tell beside the label", fontsize=11)
