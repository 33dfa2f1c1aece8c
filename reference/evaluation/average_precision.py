"""Average precision of detections, as COCO defines it.   [cocodataset.org, "Detection evaluation"]

A box is left, top, width, height in pixels. Detections of an image and a class take true boxes greedily, the highest
score first. `IOUS` are ten thresholds of overlap, and `RECALLS` 101 recalls at which precision is read.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
ALL = (0.0, 1e10)  # areas, in pixels
MOST = 100  # detections of an image and a class, those with the highest scores


class Matches(NamedTuple):
    """Detections of one class, the highest score first, at each IoU: true ones, and those that do not count."""

    scores: Float[np.ndarray, " n"]
    true: Bool[np.ndarray, "U n"]
    ignored: Bool[np.ndarray, "U n"]
    boxes: int
    """Number of true boxes that count."""


def overlaps(
    found: Float[np.ndarray, "n 4"], truth: Float[np.ndarray, "m 4"], crowd: Bool[np.ndarray, " m"]
) -> Float[np.ndarray, "n m"]:
    """|intersection| / |union|; of a crowd |intersection| / |detection|: it holds any number of detections."""
    a, b = found[:, None], truth[None]
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common, own = np.maximum(sides, 0.0).prod(-1), a[..., 2:].prod(-1)
    return common / np.maximum(np.where(crowd, own, own + b[..., 2:].prod(-1) - common), 1e-300)


def match(
    found: Float[np.ndarray, "n 4"],
    scores: Float[np.ndarray, " n"],
    truth: Float[np.ndarray, "m 4"],
    crowd: Bool[np.ndarray, " m"],
    area: Float[np.ndarray, " m"],
    *,
    within: tuple[float, float] = ALL,
    most: int = MOST,
    difficult: Bool[np.ndarray, " m"] | None = None,
) -> Matches:
    """Detections of one image and one class against its true boxes.

    A detection takes the free box it overlaps most. Boxes that do not count (crowds, difficult ones of VOC, areas not
    `within`) are taken only where no other is left, and what takes them does not count, nor does what takes nothing
    and is not `within`.
    """
    order = np.argsort(-scores, kind="stable")[:most]
    found, scores = found[order], scores[order]
    outside = crowd | (area < within[0]) | (area > within[1])
    outside = outside if difficult is None else outside | difficult
    size = found[:, 2:].prod(-1)
    true = np.zeros((len(IOUS), len(found)), bool)
    ignored = np.tile((size < within[0]) | (size > within[1]), (len(IOUS), 1))
    overlap, free = overlaps(found, truth, crowd), np.ones((len(IOUS), len(truth)), bool)
    for d in np.flatnonzero((overlap >= IOUS[0]).any(-1)):
        able = (free | crowd) & (overlap[d] >= IOUS[:, None])
        counts = able & ~outside
        able = np.where(counts.any(-1, keepdims=True), counts, able)
        best = len(truth) - 1 - np.where(able, overlap[d], -1.0)[:, ::-1].argmax(-1)  # of equal ones the last
        some = np.flatnonzero(able.any(-1))
        free[some, best[some]] = False
        true[some, d], ignored[some, d] = ~outside[best[some]], outside[best[some]]
    return Matches(scores, true, ignored, int((~outside).sum()))


def average_precision(parts: Sequence[Matches]) -> Float[np.ndarray, " U"]:
    """AP of one class at each IoU, over all images: the mean over `RECALLS` of the highest precision at that recall or
    above; NaN where there is no box."""
    boxes = sum(part.boxes for part in parts)
    if not boxes:
        return np.full(len(IOUS), np.nan)
    order = np.argsort(-np.concatenate([part.scores for part in parts]), kind="stable")
    true, ignored = (np.concatenate([getattr(p, name) for p in parts], -1)[:, order] for name in ("true", "ignored"))
    hits, misses = np.cumsum(true & ~ignored, -1), np.cumsum(~true & ~ignored, -1)
    precision = hits / np.maximum(hits + misses, np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], -1)[:, ::-1]
    places = [np.searchsorted(recall, RECALLS, side="left") for recall in hits / boxes]
    return np.array([np.append(row, 0.0)[place].mean() for row, place in zip(best, places)])


def recall(parts: Sequence[Matches]) -> Float[np.ndarray, " U"]:
    """Share of the true boxes of one class that some detection takes, at each IoU; NaN where there is no box."""
    boxes = sum(part.boxes for part in parts)
    if not boxes:
        return np.full(len(IOUS), np.nan)
    return np.sum([(part.true & ~part.ignored).sum(-1) for part in parts], 0) / boxes


def mean_average_precision(classes: Sequence[Sequence[Matches]]) -> tuple[float, float, float]:
    """AP, AP at IoU 0.5 and AP at IoU 0.75: means over the classes that have a box; NaN where none has."""
    known = [ap for ap in map(average_precision, classes) if not np.isnan(ap).any()]
    table = np.mean(known, 0) if known else np.full(len(IOUS), np.nan)
    return float(table.mean()), float(table[0]), float(table[5])
