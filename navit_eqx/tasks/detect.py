"""Detection: each token says which class lies there, and proposes one box.   [NaViT, table 1; arXiv:2205.06230]

A box is (cx, cy, w, h) in units of its image. Functions are those of one row, mapped over the rows of a batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

from ..boxes import giou, iou
from ..errors import check
from ..kernels.per_device import per_device
from ..layers import Linear, full
from ..masks import slot_tokens
from ..model import NaViT
from ..rows import Batch, Row
from . import config_detect as config
from .class_heads import PRIOR, TextHead, alone, with_texts
from .config_detect import ByText
from .task import AbstractTask, PreparedTask

ALPHA, GAMMA = 0.3, 2.0  # of the focal loss   [OWL-ViT]
SMALLEST, LARGEST = 1e-4, 0.99  # sides at which a token may start: beyond them σ has no slope
DEAREST = 1e3  # no cost within an image is beyond it
FAR = 1e6  # cost of a token of another image


Scorer = Callable[[Float[Array, "T D"]], Float[Array, "T Y"]]


class Targets(NamedTuple):
    """The boxes of the images of a row, in any order; segment id 0 in a place without a box."""

    boxes: Float[Array, "*B M 4"]
    classes: Int[Array, "*B M"]
    box_segment_ids: Int[Array, "*B M"]


class Proposals(NamedTuple):
    """Logits and the box of each token."""

    logits: Float[Array, "T Y"]
    boxes: Float[Array, "T 4"]


class BoxHead(eqx.Module):
    """An MLP of three layers; the last one starts at zero, so that a token starts from its own cell."""

    first: Linear
    second: Linear
    last: Linear

    def __init__(self, width: int, *, key: PRNGKeyArray):
        first, second, last = jr.split(key, 3)
        self.first = Linear(width, width, key=first)
        self.second = Linear(width, width, key=second)
        self.last = jax.tree.map(jnp.zeros_like, Linear(width, 4, key=last))

    def __call__(self, x: Float[Array, "T D"]) -> Float[Array, "T 4"]:
        return self.last(jax.nn.gelu(self.second(jax.nn.gelu(self.first(x)))))


class Detect(AbstractTask):
    """Heads of classes and boxes on the encoded tokens."""

    class_head: Linear | TextHead
    box_head: BoxHead
    assign: str = eqx.field(static=True)
    weights: tuple[float, float, float] = eqx.field(static=True)
    unit: str = eqx.field(static=True)
    detections: int = eqx.field(static=True)
    config: "config.Detect" = eqx.field(static=True)
    Targets = Targets
    every_patch = True
    naming_option = "--task.head bytext"

    def __init__(self, config: "config.Detect", width: int, *, key: PRNGKeyArray):
        classes, boxes = jr.split(key)
        head = config.head
        by_text = isinstance(head, ByText)
        self.class_head = TextHead(head, width, key=classes) if by_text else class_head(width, config, key=classes)
        self.box_head = BoxHead(width, key=boxes)
        self.assign, self.unit, self.detections = config.assign.rule, config.unit, config.detections
        self.weights = (config.weights.classes, config.weights.distance, config.weights.overlap)
        self.config = config

    def prompts(self, classes: Sequence[str]) -> dict[str, list[str]] | None:
        head = self.config.head
        return head.prompts(classes) if isinstance(head, ByText) else None

    def started_from(self, initial: dict, saved: dict, same_classes: bool) -> dict | None:
        """Where texts name the classes, other classes start nothing anew."""
        named = self.config.named_by_texts
        return with_texts(initial, saved) if named else super().started_from(initial, saved, same_classes)

    def predict(self, backbone: NaViT, row: Row) -> Float[Array, "*B I K 6"]:
        """The detections of each image slot: box, score, class, the highest score first."""

        def one(tokens: Float[Array, "T D"], row: Row) -> Float[Array, "I K 6"]:
            return detections(self.propose(tokens, row, score), row.segment_ids, row.grids.shape[-2], self.detections)

        score = self.scorer(backbone, self.config.classes)
        return over_rows(one, row.segment_ids.shape[:-1], backbone.tokens(row), row)

    def scorer(self, backbone: NaViT, classes: int | None = None) -> Scorer:
        """Tokens → logits, of the first `classes` classes; None: of all that training asks for."""
        head = self.class_head
        if not isinstance(head, TextHead):
            return head
        vectors = head.class_vectors()[:classes]
        return lambda x: head(alone(backbone.pool, x), vectors)

    def propose(self, tokens: Float[Array, "T D"], row: Row, score: Scorer) -> Proposals:
        """Logits, and boxes σ(MLP(x) + logit(cell)), of the tokens of one row.   [OWL-ViT]"""
        real = (row.segment_ids > 0)[:, None]
        x = full(jnp.where(real, tokens, 0))
        start = logit(jnp.clip(cells(jnp.where(real, row.coords, 0), token_grids(row)), SMALLEST, LARGEST))
        return Proposals(score(x), jax.nn.sigmoid(self.box_head(x) + start.astype(x.dtype)))

    def loss(
        self, backbone: NaViT, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        """The count is that of the boxes; `matched_iou` and `matched_accuracy` are sums over boxes and their tokens."""
        row, lead = batch.row, batch.row.segment_ids.shape[:-1]
        tokens, _ = backbone.encode(row, backbone.gates(key, row.image_ids))
        proposals = over_rows(partial(self.propose, score=self.scorer(backbone)), lead, tokens, row)
        targets = batch.targets._replace(boxes=batch.targets.boxes.astype(proposals.boxes.dtype))
        patch = backbone.config.patch[0], backbone.config.patch[1]
        fixed = jax.lax.stop_gradient(proposals)
        match = partial(self.match, patch=patch)
        matched = over_rows(match, lead, fixed, row, targets, apart=True)
        parts = over_rows(partial(self.loss_of_row, patch=patch), lead, proposals, matched, row, targets)
        total, extras = jax.tree.map(jnp.sum, parts)
        return total, (targets.box_segment_ids > 0).sum(dtype=jnp.int32), extras

    def match(self, proposals: Proposals, row: Row, targets: Any, patch: tuple[int, int]) -> Int[Array, " M"]:
        """The token of each box of one row by the rule of the configuration; −1 where there is none."""
        scale = box_units(row, targets, patch, self.unit)
        if self.assign == "centre":
            return centre(cells(row.coords, token_grids(row)), targets, scale, row.segment_ids)
        costs = cost(proposals, targets, scale.astype(proposals.boxes.dtype), self.weights)
        return hungarian(costs, row.segment_ids, targets.box_segment_ids, self.config.assign.on)

    def loss_of_row(
        self, proposals: Proposals, matched: Int[Array, " M"], row: Row, targets: Any, patch: tuple[int, int]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """λ_c Σ focal, over real tokens and classes, + Σ over boxes (λ_1 ‖Δ‖₁ + λ_g (1 − GIoU)); sums of measures."""
        real, length = matched >= 0, len(row.segment_ids)
        scale = box_units(row, targets, patch, self.unit).astype(proposals.boxes.dtype)
        there, absent = focal(proposals.logits)
        labels = (
            jnp.zeros(there.shape, bool).at[jnp.where(real, matched, length), targets.classes].set(True, mode="drop")
        )
        chosen = proposals.boxes[matched]
        distance = (jnp.abs(chosen - targets.boxes) * scale).sum(-1)
        by_class, by_distance, by_overlap = self.weights
        total = by_class * jnp.where((row.segment_ids > 0)[:, None], jnp.where(labels, there, absent), 0).sum()
        boxes = by_distance * distance + by_overlap * (1 - giou(chosen, targets.boxes))
        right = proposals.logits[matched].argmax(-1).astype(targets.classes.dtype) == targets.classes
        measures = {
            "matched_iou": jnp.where(real, iou(chosen, targets.boxes), 0).sum(),
            "matched_accuracy": (real & right).sum(dtype=jnp.int32),
        }
        return total + jnp.where(real, boxes, 0).sum(), measures

    @classmethod
    def prepare(cls, config: Any, classes: Sequence[str], load: Callable[[str], Any]) -> PreparedTask:
        """The number of classes is that of the data; the data side reads `boxes`, `detections` and, where classes are
        named by texts, those `seen` in training."""
        data = {"boxes": config.boxes, "detections": config.detections}
        prepared = super().prepare(config, classes, load)
        if not isinstance(config.head, ByText):
            return prepared._replace(data=data)
        head = config.head.asking(config.head.prompts(classes))
        return prepared._replace(config=replace(prepared.config, head=head), data=data | {"seen": tuple(classes)})


# heads ----------------------------------------------------------------------------------------------


def class_head(width: int, config: "config.Detect", *, key: PRNGKeyArray) -> Linear:
    """A row of weights for each class; at the start every class has the probability PRIOR everywhere."""
    head = jax.tree.map(jnp.zeros_like, Linear(width, config.classes or 0, key=key))
    return eqx.tree_at(lambda h: h.b, head, jnp.full_like(head.b, jnp.log(PRIOR / (1 - PRIOR))))


def over_rows(f: Callable[..., Any], lead: tuple[int, ...], *trees: Any, apart: bool = False) -> Any:
    """f of one row, for all rows of leading axes `lead`; `apart`: each device by itself, without waiting for others."""
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(lead) :]), trees)
    found = per_device(jax.vmap(f), *rows) if apart else jax.vmap(f)(*rows)
    return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), found)


def token_grids(row: Row) -> Num[Array, "T A"]:
    """The grid of the image of each token of a row; ones in padding."""
    real = (row.segment_ids > 0)[:, None]
    return jnp.where(real, row.grids[jnp.maximum(row.segment_ids, 1) - 1], 1)


def cells(coords: Num[Array, "T A"], grids: Num[Array, "T A"]) -> Float[Array, "T 4"]:
    """The box of each token's own cell: middle ((x + ½) / n_x, (y + ½) / n_y), sides 1 / n_x and 1 / n_y; of a merged
    block, with coords (level, y, x), 2^level times these sides."""
    cell = 1 / grids[:, :-3:-1].astype(float)
    sides = cell if coords.shape[-1] == 2 else jnp.exp2(coords[:, :1].astype(float)) * cell
    return jnp.concatenate([(coords[:, :-3:-1].astype(float) + 0.5) * cell, sides], -1)


def logit(p: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """log (p / (1 − p)), the inverse of σ."""
    return jnp.log(p) - jnp.log1p(-p)


def detections(proposals: Proposals, segment_ids: Int[Array, " T"], slots: int, most: int) -> Float[Array, "I K 6"]:
    """The K highest of all scores σ(logit) of an image, over tokens and classes: box, score, class, highest first.

    Score 0 and class −1 where there are fewer.
    """
    scores, classes = jax.nn.sigmoid(proposals.logits), proposals.logits.shape[-1]
    mine = slot_tokens(segment_ids, slots)
    flat = jnp.where(mine[..., None], scores[None], -1).reshape(slots, -1)
    best, place = jax.lax.top_k(flat, min(most, flat.shape[-1]))
    found = jnp.concatenate(
        [proposals.boxes[place // classes], best[..., None], (place % classes)[..., None].astype(best.dtype)], -1
    )
    nothing = jnp.zeros(6, found.dtype).at[5].set(-1)
    found = jnp.where(best[..., None] < 0, nothing[None, None], found)
    rest = jnp.broadcast_to(nothing, (slots, most - found.shape[1], 6))
    return jnp.concatenate([found, rest], 1)


# matching -------------------------------------------------------------------------------------------


def focal(logits: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Loss of a logit whose class is there, α (1 − p)^γ (−log p), and of one whose class is not,
    (1 − α) p^γ (−log (1 − p)), with p = σ(logit): easy ones count little.   [arXiv:1708.02002]"""
    p = jax.nn.sigmoid(logits)
    there = ALPHA * (1 - p) ** GAMMA * jax.nn.softplus(-logits)
    return there, (1 - ALPHA) * p**GAMMA * jax.nn.softplus(logits)


def units(grids: Num[Array, "N A"], patch: tuple[int, int], unit: str) -> Float[Array, "N 4"]:
    """Factors of L1 distances: the sides of the image over its longer side, so that an error of a pixel costs the same
    on both axes; or ones, in units of the image.   [Choice; OWL-ViT: "image"]"""
    sides = jnp.maximum(grids, 1)[:, :-3:-1].astype(float) * jnp.array([patch[::-1]], float)
    scale = sides / sides.max(-1, keepdims=True) if unit == "longer side" else jnp.ones_like(sides)
    return jnp.tile(scale, (1, 2))


def box_units(row: Row, targets: Targets, patch: tuple[int, int], unit: str) -> Float[Array, "M 4"]:
    """`units` of the image of each box."""
    return units(row.grids, patch, unit)[jnp.maximum(targets.box_segment_ids, 1) - 1]


def cost(
    proposals: Proposals, targets: Targets, units: Float[Array, "M 4"], weights: tuple[float, float, float]
) -> Float[Array, "T M"]:
    """λ_c (focal if there − focal if not) + λ_1 ‖Δ‖₁ − λ_g GIoU of each token and each box.   [arXiv:2005.12872]"""
    there, absent = focal(proposals.logits[:, jnp.maximum(targets.classes, 0)])
    distance = (jnp.abs(proposals.boxes[:, None] - targets.boxes[None]) * units[None]).sum(-1)
    by_class, by_distance, by_overlap = weights
    overlap = giou(proposals.boxes[:, None], targets.boxes[None])
    return by_class * (there - absent) + by_distance * distance - by_overlap * overlap


def hungarian(
    cost: Float[Array, "T M"], segment_ids: Int[Array, " T"], box_segment_ids: Int[Array, " M"], on: str = "device"
) -> Int[Array, " M"]:
    """The token of each box, with the least sum of costs; −1 in a place without a box.

    One assignment solves all images of a row: tokens of other images are far, and places without a box take what is
    left. A cost that is not finite is the dearest. Raises ConfigError where a row has more boxes than tokens.
    """
    from ..training.matching import ASSIGNMENTS

    check(cost.shape[1] <= cost.shape[0], f"task.boxes={cost.shape[1]} exceeds the {cost.shape[0]} tokens of a row")
    there = box_segment_ids > 0
    same = (segment_ids[:, None] == box_segment_ids[None]) & there[None]
    known = jnp.where(jnp.isfinite(cost), jnp.clip(cost, -DEAREST, DEAREST), DEAREST)
    matched = ASSIGNMENTS[on](jnp.where(same, known, jnp.where(there, FAR, 0.0).astype(cost.dtype)[None]))
    allowed: Bool[Array, " M"] = jnp.take_along_axis(same, matched[None], axis=0)[0]
    return jnp.where(allowed, matched, -1)


def centre(
    places: Float[Array, "T 4"], targets: Targets, units: Float[Array, "M 4"], segment_ids: Int[Array, " T"]
) -> Int[Array, " M"]:
    """The free token of the same image with the nearest middle, the smallest box first; −1 where there is none."""
    x, y, width, height = targets.boxes.T
    boxes = targets.boxes.astype(units.dtype)

    def take(free: Bool[Array, " T"], m: Int[Array, ""]) -> tuple[Bool[Array, " T"], Int[Array, ""]]:
        mine = free & (segment_ids == targets.box_segment_ids[m]) & (segment_ids > 0)
        distance = (((places[:, :2] - boxes[None, m, :2]) * units[None, m, :2]) ** 2).sum(-1)
        token = jnp.where(mine, distance, jnp.inf).argmin().astype(jnp.int32)
        return free.at[token].set(free[token] & ~mine[token]), jnp.where(mine[token], token, -1)

    order = jnp.lexsort((targets.classes, x, y, width * height))
    _, tokens = jax.lax.scan(take, jnp.ones(len(places), bool), order)
    return jnp.zeros(len(boxes), jnp.int32).at[order].set(tokens)
