"""Boxes with classes: those of the images of a row, and average precision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from reference.evaluation.average_precision import ALL, MOST, Matches, match, mean_average_precision
from reference.tasks.detect import Targets

from ..boxes import COUNTS, CROWD, IGNORED, Boxes, corners_of, middles
from ..errors import DataError
from ..manifest import Manifest
from ..rows import Drawn, PlannedRows
from ..sampling.kinds import PatchSize
from .task import DataTask, Lengths, TargetRows

LEAST_VISIBLE = 0.25  # share of a box that a crop must leave for it to stay: half of a digit can still be read
MARGIN = 1.5  # places for boxes in a row over their mean number
STEP = 8  # places are multiples of this
AREAS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # as COCO has them
RESAMPLED = 20  # times images are drawn again for a standard error
SURE, OVERLAP = 0.3, 0  # for scores of single images: least score (focal losses keep scores low), place of IoU 0.5


@dataclass(frozen=True)
class BoxBudget:
    """Tokens of a row for images with boxes, so that a row of T tokens never has more than M boxes.

    Choice: one number for tokens and boxes keeps the packing rules unchanged, as for the rows of a teacher.
    """

    counts: Int[np.ndarray, " N"]
    """Boxes of each image."""
    row_boxes: int

    def tokens(
        self,
        images: Int[np.ndarray, " N"],
        kept: Int[np.ndarray, " N"],
        grids_at: Callable[[PatchSize], Int[np.ndarray, "N 2"]],
        row_tokens: int,
    ) -> Int[np.ndarray, " N"]:
        """max(k, ⌈n T / M⌉) for k tokens and n boxes; T + 1 where an image has more boxes than tokens or places."""
        counts = self.counts[images]
        taken = np.maximum(kept, -(-counts * row_tokens // self.row_boxes))
        return np.where(counts <= np.minimum(kept, self.row_boxes), taken, row_tokens + 1)

    def why(self, image: int, kept: int) -> str:
        """More boxes than tokens, or than places."""
        count = self.counts[image]
        if count > kept:
            return f"it has {count} boxes and {kept} tokens, each of which finds one: raise data.resolution"
        return f"it has {count} boxes, a row has places for {self.row_boxes}: raise task.boxes"

    def __repr__(self) -> str:
        return f"BoxBudget({self.row_boxes})"


class Detect(DataTask):
    """Targets are the boxes of the manifest, as the geometry of each picture shows them.

    `seen`: the classes with boxes in training, where texts name classes: those of a set of images may be others.
    """

    metric = "average_precision"
    studies = ("sweep", "detections", "attention")

    def __init__(self, *, boxes: int | None, detections: int, seen: tuple[str, ...] | None = None):
        self.boxes, self.detections, self.seen = boxes, detections, seen
        self.own_classes = seen is None
        self.last: tuple[Any, Any, list[dict[int, Matches]]] | None = None
        self.counts: Int[np.ndarray, " N"] | None = None

    @property
    def budget(self) -> BoxBudget | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return None if self.boxes is None or self.counts is None else BoxBudget(self.counts, self.boxes)

    def check(self, manifest: Manifest) -> None:
        """Raises DataError where the images have no boxes."""
        self.counts = boxes_in(manifest).counts

    def resolve(self, lengths: Lengths) -> tuple[dict[str, Any], list[str]]:
        """Places for boxes in a row: half as many again as a row has in the mean, and those of every image that has
        no more boxes than tokens."""
        if self.boxes is not None:
            return {}, []
        boxes = boxes_in(lengths.manifest)
        counts = boxes.counts
        mean = counts.mean() / lengths.kept.mean() * lengths.row_tokens
        most = int(counts[counts <= lengths.row_tokens].max(initial=1))
        needed = max(most, ceil(MARGIN * mean))
        self.boxes = min(lengths.row_tokens, STEP * ceil(needed / STEP))
        note = f"task.boxes = {self.boxes}: a row has {mean:.1f} boxes in the mean, an image at most {most}"
        return {"boxes": self.boxes}, [note]

    def batches(self, rows: PlannedRows) -> TargetRows:
        """Raises DataError where images are mixed: a mixed image has boxes of two."""
        if rows.augment and rows.augment.mix:
            raise DataError("data.augment.mix: boxes of mixed images are not known; turn it off")
        return TargetRows(rows, self.targets)

    def targets(self, drawn: Sequence[Drawn], manifest: Manifest, slots: int) -> Targets:
        assert self.boxes is not None, "task.boxes is auto: call `harness.resolve.resolve` first"
        parts = [shown(boxes_in(manifest).of(image.image_id), image) for image in drawn]
        places = np.concatenate([np.zeros((0, 4)), *(places for places, _ in parts)])
        classes = np.concatenate([np.zeros(0, int), *(classes for _, classes in parts)])
        ids = np.repeat(np.arange(1, len(parts) + 1), [len(classes) for _, classes in parts])
        empty = self.boxes - len(ids)
        return Targets(
            np.pad(places, ((0, empty), (0, 0))).astype(np.float32),
            np.pad(classes, (0, empty)).astype(np.int32),
            np.pad(ids, (0, empty)).astype(np.int32),
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"last": None}

    def matches(
        self, outputs: Float[np.ndarray, "N K 6"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> list[dict[int, Matches]]:
        """Detections against true boxes of each image, by class; those of the last outputs are kept."""
        if self.last is None or self.last[0] is not outputs or self.last[1] is not manifest:
            self.last = outputs, manifest, matches(outputs, image_ids, manifest)
        return self.last[2]

    def scores(
        self, outputs: Float[np.ndarray, "N K 6"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> Float[np.ndarray, " N"]:
        """F-score of each image, 2 hits / (boxes + detections), of detections with a score of at least SURE, at IoU
        0.5; 1 where there is nothing and nothing is found."""
        found = self.matches(outputs, image_ids, manifest)

        def one(parts: dict[int, Matches]) -> float:
            sure = [part.scores >= SURE for part in parts.values()]
            hits = sum(int((part.true[OVERLAP] & s).sum()) for part, s in zip(parts.values(), sure))
            counted = sum(int((s & ~part.ignored[OVERLAP]).sum()) for part, s in zip(parts.values(), sure))
            total = counted + sum(part.boxes for part in parts.values())
            return 2 * hits / total if total else 1.0

        return np.array([one(parts) for parts in found], float)

    def score(
        self, outputs: Float[np.ndarray, "N K 6"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> tuple[float, float]:
        """COCO's AP, the mean over IoU 0.5 to 0.95, and the standard deviation over samples of images, drawn with
        replacement."""
        found = self.matches(outputs, image_ids, manifest)
        rng = np.random.default_rng(0)
        drawn = [rng.integers(len(found), size=len(found)) for _ in range(RESAMPLED)]
        again = [average([found[i] for i in sample])[0] for sample in drawn]
        return average(found)[0], float(np.nanstd(again)) if not np.isnan(again).all() else float("nan")

    def metrics(
        self, outputs: Float[np.ndarray, "N K 6"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> dict[str, float]:
        """AP at IoU 0.5 and at 0.75, and AP of small, medium and large boxes as COCO has them, where sizes differ so
        much; AP and AP50 of classes `seen` and of others, where there are both."""
        found = self.matches(outputs, image_ids, manifest)
        _, half, strict = average(found)
        areas, counted = boxes_in(manifest).areas, boxes_in(manifest).kinds == COUNTS
        inside = {name: ((low <= areas) & (areas <= high) & counted).sum() for name, (low, high) in AREAS.items()}
        several = [name for name, count in inside.items() if 0 < count < counted.sum()]
        sizes = {f"ap_{name}": average(matches(outputs, image_ids, manifest, AREAS[name]))[0] for name in several}
        parts = {name: average(of_classes(found, labels)) for name, labels in self.halves(manifest).items()}
        apart = {f"{ap}_{name}": part[k] for k, ap in enumerate(("ap", "ap50")) for name, part in parts.items()}
        return {"ap50": half, "ap75": strict} | sizes | apart

    def halves(self, manifest: Manifest) -> dict[str, set[int]]:
        """The classes `seen` in training, and those `held_out`; nothing where there are not both."""
        if self.seen is None:
            return {}
        place = {name: label for label, name in enumerate(manifest.classes)}
        seen = {label for name, label in place.items() if name in self.seen}
        rest = {*place.values()} - seen
        return {"seen": seen, "held_out": rest} if seen and rest else {}


def boxes_in(manifest: Manifest) -> Boxes:
    """The boxes of the images.   Raises DataError where there are none."""
    if manifest.boxes is None:
        raise DataError(
            f"{manifest.where} has no boxes: detection reads COCO, YOLO, VOC or parquet, --data.source boxed"
        )
    return manifest.boxes


def shown(boxes: Boxes, image: Drawn) -> tuple[Float[np.ndarray, "K 4"], Int[np.ndarray, " K"]]:
    """Boxes (cx, cy, w, h) in units of the picture of an image, and their classes: those that count and are visible."""
    boxes, geometry = boxes.only(boxes.kinds == COUNTS), image.geometry
    assert geometry is not None, "the geometry of a picture is known where rows are read"
    height, width = geometry.size
    whole = geometry.of_boxes(boxes.corners)
    clipped = whole.clip(0, [width, height, width, height])
    sides, full = (np.maximum(c[:, 2:] - c[:, :2], 0) for c in (clipped, whole))
    visible = sides.prod(-1) > LEAST_VISIBLE * full.prod(-1)
    return middles(clipped[visible], (height, width)), boxes.classes[visible]


def matches(
    outputs: Float[np.ndarray, "N K 6"],
    image_ids: Int[np.ndarray, " N"],
    manifest: Manifest,
    within: tuple[float, float] = ALL,
) -> list[dict[int, Matches]]:
    """Detections against true boxes of each image, by class."""
    boxes = boxes_in(manifest)
    found = []
    for output, image in zip(outputs, image_ids.tolist()):
        height, width = manifest.sizes[image].tolist()
        found.append(matches_of(output, boxes.of(image), (height, width), within))
    return found


def matches_of(
    output: Float[np.ndarray, "K 6"], truth: Boxes, size: tuple[int, int], within: tuple[float, float] = ALL
) -> dict[int, Matches]:
    """Detections against the true boxes of one image, by class."""
    classes, scores = output[:, 5].astype(int), output[:, 4].astype(float)
    found, known = sized(corners_of(output[:, :4].astype(float), size)), sized(truth.corners.astype(float))
    crowd, difficult, areas = truth.kinds == CROWD, truth.kinds == IGNORED, truth.areas.astype(float)

    def of_class(label: int) -> Matches:
        mine, own = classes == label, truth.classes == label
        sides = found[mine], scores[mine], known[own], crowd[own], areas[own]
        return match(*sides, within=within, difficult=difficult[own])

    return {label: of_class(label) for label in {*classes[classes >= 0].tolist(), *truth.classes.tolist()}}


def blind(manifest: Manifest, image_ids: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N K 6"]:
    """Detections by one who never saw the images: for each class, boxes of its median size side by side on a grid, at
    most MOST of them. A detector that is not better has learned nothing."""
    boxes = boxes_in(manifest).select(image_ids)
    counted = boxes.only(boxes.kinds == COUNTS)
    sides = counted.corners[:, 2:] - counted.corners[:, :2]
    medians = {y: np.median(sides[counted.classes == y], 0) for y in np.unique(counted.classes).tolist()}
    found = np.zeros((len(image_ids), MOST * max(1, len(medians)), 6))
    found[..., 5] = -1
    for output, size in zip(found, manifest.sizes[image_ids]):
        parts = [
            np.insert(grid_of(box, (int(size[0]), int(size[1]))), [4, 4], [0.5, y], axis=1)
            for y, box in medians.items()
        ]
        every = np.concatenate(parts)
        output[: len(every)] = every
    return found


def grid_of(box: Float[np.ndarray, " 2"], size: tuple[int, int]) -> Float[np.ndarray, "n 4"]:
    """Boxes of one width and height side by side, in units of an image of `size` (height, width), at most MOST."""
    share = np.minimum(box / np.array([size[1], size[0]]), 1.0)
    across, down = np.maximum(1, np.rint(1 / share)).astype(int)
    x, y = np.meshgrid((np.arange(across) + 0.5) / across, (np.arange(down) + 0.5) / down)
    places = np.stack([x.ravel(), y.ravel()], -1)
    places = places[np.linspace(0, len(places) - 1, min(MOST, len(places))).astype(int)]
    return np.concatenate([places, np.tile(share, (len(places), 1))], -1)


def sized(corners: Float[np.ndarray, "K 4"]) -> Float[np.ndarray, "K 4"]:
    """Left, top, right, bottom → left, top, width, height."""
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], -1)


def by_class(found: Sequence[dict[int, Matches]]) -> dict[int, list[Matches]]:
    """Matches of each class, over all images."""
    classes: dict[int, list[Matches]] = {}
    for parts in found:
        for label, part in parts.items():
            classes.setdefault(label, []).append(part)
    return classes


def of_classes(found: Sequence[dict[int, Matches]], labels: set[int]) -> list[dict[int, Matches]]:
    """Matches of these classes alone."""
    return [{label: part for label, part in parts.items() if label in labels} for parts in found]


def average(found: Sequence[dict[int, Matches]]) -> tuple[float, float, float]:
    """AP, AP at IoU 0.5 and at 0.75; NaN without a box."""
    return mean_average_precision([*by_class(found).values()])
