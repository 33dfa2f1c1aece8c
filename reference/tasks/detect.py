"""Detection: each token says which class lies there, and proposes one box.   [NaViT, table 1; arXiv:2205.06230]

A box is (cx, cy, w, h) in units of its image, so it is the same at every resolution. A token starts from the box of its
own cell. In training every true box is matched with one token of its image; at inference the proposals with the highest
scores are the detections: nothing is suppressed.

params: class_head, box_head, assign ("hungarian" or "centre"), weights (of class, L1 and GIoU), unit ("longer side" or
"image"), patch, detections (K, of an image); where texts name the classes, pool: that of the backbone, and class_head
has their vectors
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from ..boxes import giou
from ..layers import gelu_tanh, linear
from ..rows import Row
from .class_heads import alone, text_head

ALPHA, GAMMA = 0.3, 2.0  # of the focal loss   [OWL-ViT]
SMALLEST, LARGEST = 1e-4, 0.99  # sides at which a token may start: beyond them σ has no slope


class Targets(NamedTuple):
    """The boxes of the images of a row, in any order; segment id 0 in a place without a box."""

    boxes: Float[np.ndarray, "M 4"]
    classes: Int[np.ndarray, " M"]
    box_segment_ids: Int[np.ndarray, " M"]


class Proposals(NamedTuple):
    """Logits and the box of each token."""

    logits: Float[np.ndarray, "T Y"]
    boxes: Float[np.ndarray, "T 4"]


# heads ----------------------------------------------------------------------------------------------


def cells(coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"]) -> Float[np.ndarray, "T 4"]:
    """The box of each token's own cell: middle ((x + ½) / n_x, (y + ½) / n_y), sides 1 / n_x and 1 / n_y.

    Of a merged block, with coords (level, y, x), that of all its cells: the same middle, 2^level times these sides.
    Choice: OWL-ViT's code takes the lower right corner as the middle, and 1 / n_x for both sides: half a cell off, and
    ten times too large on a grid of 4 x 40.
    """
    cell = 1.0 / grids[:, :-3:-1]
    return np.concatenate([(coords[:, :-3:-1] + 0.5) * cell, 2.0 ** coords[:, :-2].sum(-1, keepdims=True) * cell], -1)


def logit(p: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """log (p / (1 − p)), the inverse of σ."""
    return np.log(p) - np.log1p(-p)


def sigmoid(x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """σ(x) = 1 / (1 + e⁻ˣ), without overflow."""
    return np.exp(-np.logaddexp(0.0, -x))


def box_head(params: dict, x: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T 4"]:
    """An MLP of three layers."""
    return linear(params["last"], gelu_tanh(linear(params["second"], gelu_tanh(linear(params["first"], x)))))


def propose(params: dict, tokens: Float[np.ndarray, "T D"], row: Row) -> Proposals:
    """Logits, and boxes σ(MLP(x) + logit(cell)).   [OWL-ViT]"""
    real = (row.segment_ids > 0)[:, None]
    tokens = np.where(real, tokens, 0.0)
    grids = np.where(real, row.grids[np.maximum(row.segment_ids, 1) - 1], 1)
    start = logit(cells(np.where(real, row.coords, 0), grids).clip(SMALLEST, LARGEST))
    return Proposals(class_logits(params, tokens), sigmoid(box_head(params["box_head"], tokens) + start))


def class_logits(params: dict, x: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T Y"]:
    """Logits of each token and class: linear, or by the vectors of the classes, which texts give."""
    head = params["class_head"]
    if "vectors" not in head:
        return linear(head, x)
    return text_head(head, alone(params["pool"], x), head["vectors"])


def predict(params: dict, tokens: Float[np.ndarray, "T D"], row: Row) -> Float[np.ndarray, "I K 6"]:
    """The detections of each image slot."""
    return detections(propose(params, tokens, row), row.segment_ids, len(row.grids), params["detections"])


def detections(
    proposals: Proposals, segment_ids: Int[np.ndarray, " T"], slots: int, most: int
) -> Float[np.ndarray, "I K 6"]:
    """The K highest of all scores σ(logit) of an image, over tokens and classes: box, score, class, highest first.

    A token may be in it with several classes. Score 0 and class −1 where there are fewer.
    """
    found = np.zeros((slots, most, 6))
    found[..., 5] = -1
    for slot in range(slots):
        mine = np.flatnonzero(segment_ids == slot + 1)
        scores = sigmoid(proposals.logits[mine])
        best = np.argsort(-scores, axis=None, kind="stable")[:most]
        token, label = np.unravel_index(best, scores.shape)
        found[slot, : len(best), :4] = proposals.boxes[mine[token]]
        found[slot, : len(best), 4], found[slot, : len(best), 5] = scores[token, label], label
    return found


# matching -------------------------------------------------------------------------------------------


def focal(logits: Float[np.ndarray, "*n"]) -> tuple[Float[np.ndarray, "*n"], Float[np.ndarray, "*n"]]:
    """Loss of a logit whose class is there, α (1 − p)^γ (−log p), and of one whose class is not,
    (1 − α) p^γ (−log (1 − p)), with p = σ(logit): easy ones count little.   [arXiv:1708.02002]"""
    p = sigmoid(logits)
    there = ALPHA * (1 - p) ** GAMMA * np.logaddexp(0.0, -logits)
    return there, (1 - ALPHA) * p**GAMMA * np.logaddexp(0.0, logits)


def units(grids: Num[np.ndarray, "N A"], patch: tuple[int, int], unit: str) -> Float[np.ndarray, "N 4"]:
    """Factors of L1 distances: the sides of the image over its longer side, so that an error of a pixel costs the same
    on both axes; or ones, in units of the image.   [Choice; OWL-ViT: "image"]"""
    sides = np.maximum(grids, 1)[:, :-3:-1] * np.array(patch[::-1], float)
    scale = sides / sides.max(-1, keepdims=True) if unit == "longer side" else np.ones_like(sides)
    return np.tile(scale, 2)


def cost(
    proposals: Proposals, targets: Targets, units: Float[np.ndarray, "M 4"], weights: tuple[float, float, float]
) -> Float[np.ndarray, "T M"]:
    """λ_c (focal if there − focal if not) + λ_1 ‖Δ‖₁ − λ_g GIoU of each token and each box.   [arXiv:2005.12872]"""
    there, absent = focal(proposals.logits[:, np.maximum(targets.classes, 0)])
    distance = (np.abs(proposals.boxes[:, None] - targets.boxes) * units).sum(-1)
    by_class, by_distance, by_overlap = weights
    overlap = giou(proposals.boxes[:, None], targets.boxes[None])
    return by_class * (there - absent) + by_distance * distance - by_overlap * overlap


def hungarian(
    cost: Float[np.ndarray, "T M"], segment_ids: Int[np.ndarray, " T"], box_segment_ids: Int[np.ndarray, " M"]
) -> Int[np.ndarray, " M"]:
    """The token of each box, with the least sum of costs, image by image; −1 in a place without a box.

    Raises ValueError where an image has more boxes than tokens.
    """
    from scipy.optimize import linear_sum_assignment

    matched = np.full(len(box_segment_ids), -1)
    for image in range(1, box_segment_ids.max(initial=0) + 1):
        tokens, boxes = np.flatnonzero(segment_ids == image), np.flatnonzero(box_segment_ids == image)
        if len(boxes) > len(tokens):
            raise ValueError(f"image slot {image - 1} has {len(boxes)} boxes and {len(tokens)} tokens")
        token, box = linear_sum_assignment(cost[np.ix_(tokens, boxes)])
        matched[boxes[box]] = tokens[token]
    return matched


def centre(
    places: Float[np.ndarray, "T 4"],
    targets: Targets,
    units: Float[np.ndarray, "M 4"],
    segment_ids: Int[np.ndarray, " T"],
) -> Int[np.ndarray, " M"]:
    """The free token of the same image with the nearest middle, the smallest box first; −1 where there is none.

    `places` are the cells of the tokens. Equal boxes are told apart by place and class, equal distances by the order
    of tokens. Choice: small boxes cover few tokens, so they choose first.
    """
    matched, free = np.full(len(targets.boxes), -1), np.ones(len(places), bool)
    x, y, width, height = targets.boxes.T
    for m in np.lexsort([targets.classes, x, y, width * height]):
        mine = free & (segment_ids == targets.box_segment_ids[m]) & (segment_ids > 0)
        if mine.any():
            distance = (((places[:, :2] - targets.boxes[m, :2]) * units[m, :2]) ** 2).sum(-1)
            matched[m] = np.where(mine, distance, np.inf).argmin()
            free[matched[m]] = False
    return matched


# loss -----------------------------------------------------------------------------------------------


def loss(params: dict, tokens: Float[np.ndarray, "T D"], row: Row, targets: Targets) -> tuple[float, int]:
    """λ_c Σ focal, over real tokens and classes, + Σ over boxes (λ_1 ‖Δ‖₁ + λ_g (1 − GIoU)); and the number of boxes.

    A token that is matched with a box has the class of the box and no other; the others have none.
    """
    proposals = propose(params, tokens, row)
    scale = units(row.grids, params["patch"], params["unit"])[np.maximum(targets.box_segment_ids, 1) - 1]
    matched = match(params, proposals, row, targets, scale)
    real: Bool[np.ndarray, " M"] = matched >= 0
    token, truth = matched[real], targets.boxes[real]
    there, absent = focal(proposals.logits)
    labels = np.zeros(proposals.logits.shape, bool)
    labels[token, targets.classes[real]] = True
    by_class, by_distance, by_overlap = params["weights"]
    total = by_class * np.where(labels, there, absent)[row.segment_ids > 0].sum()
    total += by_distance * (np.abs(proposals.boxes[token] - truth) * scale[real]).sum()
    total += by_overlap * (1 - giou(proposals.boxes[token], truth)).sum()
    return float(total), int((targets.box_segment_ids > 0).sum())


def match(
    params: dict, proposals: Proposals, row: Row, targets: Targets, units: Float[np.ndarray, "M 4"]
) -> Int[np.ndarray, " M"]:
    """The token of each box by the rule `params["assign"]`; −1 where there is none."""
    if params["assign"] == "centre":
        grids = np.maximum(row.grids[np.maximum(row.segment_ids, 1) - 1], 1)
        return centre(cells(row.coords, grids), targets, units, row.segment_ids)
    costs = cost(proposals, targets, units, params["weights"])
    return hungarian(costs, row.segment_ids, targets.box_segment_ids)
