"""A class for every pixel: labels are cut like the pixels of a row, by the same plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from reference.evaluation.confusion import class_iou, confusion, mean_iou, pixel_accuracy
from reference.patches import patchify
from reference.rows import Batch
from reference.tasks.segment import (
    IGNORE,
    CellTargets,
    Targets,
    cells_of,
    most_cells,
    native_logits,
    neighbors,
)

from ..adaptive import PlannedBlocks
from ..errors import BadImage, DataError
from ..manifest import Manifest
from ..plan import EpochPlans
from ..rows import Drawn, PlannedRows
from ..sampling.dropping import Constant
from ..sampling.merge import Merged
from ..sources.source import Source, mask_of
from .task import DataTask, ImageOutputs, Lengths

RESAMPLED = 200  # times images are drawn again for a standard error
FEW = 3  # classes whose IoU are columns of every table


class Segment(DataTask):
    """Targets are the labels of the pixels of each token; an output is the confusion matrix of an image."""

    metric = "mean_iou"
    studies = ("sweep", "masks", "attention")

    def __init__(self, *, decoder: str, patch: tuple[int, ...]):
        self.decoder, self.patch = decoder, patch

    def check(self, manifest: Manifest) -> None:
        if not manifest.masks:
            raise DataError(f"{manifest.where} has no masks: segmentation reads them by --data.source masks")

    def resolve(self, lengths: Lengths) -> tuple[dict[str, Any], list[str]]:
        """The labels of a token are those of its pixels."""
        if not self.patch:
            self.patch = lengths.patch[0], lengths.patch[1]
        return {"patch": self.patch}, []

    def plans(self, plans: EpochPlans, rows: int) -> EpochPlans:
        """Raises DataError where tokens are dropped between which logits are interpolated, or of merged images."""
        if isinstance(plans.sampling.get("resolution"), Merged) and plans.sampling["dropping"] != Constant(0.0):
            raise DataError(
                "task segment reads the cells of all tokens of a merged image, and data.dropping leaves some out: "
                "--data.dropping.rate 0, or --data.merge none"
            )
        if self.decoder == "linear" and plans.sampling["dropping"] != Constant(0.0):
            raise DataError(
                "task.decoder=linear interpolates between all tokens of an image, and data.dropping leaves some out: "
                "--data.dropping.rate 0, or --task.decoder pixels"
            )
        return plans

    def batches(self, rows: PlannedRows) -> "SegmentedRows":
        """Raises DataError where images are mixed: a mixed pixel has two classes."""
        if rows.augment and rows.augment.mix:
            raise DataError("data.augment.mix: a pixel of two images has no single class; turn it off")
        assert self.patch, "task.patch is auto: call `harness.resolve.resolve` first"
        return SegmentedRows(rows, self.patch)

    def targets(self, drawn: Sequence[Drawn], manifest: Manifest, slots: int) -> Any:
        raise NotImplementedError("labels are cut with the tokens of a row: use `batches`")

    def image_outputs(self, source: Source) -> ImageOutputs:
        """The confusion matrix of each image at the pixels of the photograph."""

        def read(batch: Any, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            classes = len(source.manifest.classes)
            found = {
                image: confusion(truth_of(source, image), predicted, classes)
                for image, predicted in self.masks(batch, values, source.manifest).items()
            }
            matrices = np.array([*found.values()], np.int64).reshape(-1, classes, classes)
            return np.array([*found], np.int64), matrices

        return read

    def masks(self, batch: Any, values: np.ndarray, manifest: Manifest) -> dict[int, UInt8[np.ndarray, "h w"]]:
        """The predicted class of every pixel of each photograph of a batch, by image id."""
        params, found = {"decoder": self.decoder, "patch": self.patch}, {}
        for r, slot in np.argwhere(batch.grids[..., 0] > 0):
            here, image = batch.segment_ids[r] == slot + 1, int(batch.image_ids[r, slot])
            size = manifest.sizes[image].tolist()
            logits = native_logits(
                params, values[r][here], batch.coords[r][here], batch.grids[r, slot].astype(int).tolist(), size
            )
            found[image] = logits.argmax(-1).astype(np.uint8)
        return found

    def scores(
        self, outputs: Int[np.ndarray, "N Y Y"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> Float[np.ndarray, " N"]:
        """Mean IoU of each image by itself; 1 where no pixel has a class."""
        return np.nan_to_num(mean_iou(outputs), nan=1.0)

    def score(
        self, outputs: Int[np.ndarray, "N Y Y"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> tuple[float, float]:
        """Mean IoU over all pixels of the set, and its standard deviation over sets of images drawn with
        replacement."""
        again = mean_iou(drawn_again(outputs))
        return float(mean_iou(outputs.sum(0))), float(np.nanstd(again)) if not np.isnan(again).all() else 0.0

    def metrics(
        self, outputs: Int[np.ndarray, "N Y Y"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> dict[str, float]:
        """Pixel accuracy, the mean of the mean IoU of single images, and the IoU of a few classes."""
        if not len(outputs):
            return {}
        total, known = outputs.sum(0), ~np.isnan(mean_iou(outputs))
        found = {
            "pixel_accuracy": float(pixel_accuracy(total)),
            "mean_iou_of_single_images": float(mean_iou(outputs[known]).mean()) if known.any() else float("nan"),
        }
        if len(total) > FEW:
            return found
        return found | {f"iou_{c}": float(iou) for c, iou in zip(manifest.classes, class_iou(total))}


def drawn_again(outputs: Int[np.ndarray, "N Y Y"]) -> Int[np.ndarray, "R Y Y"]:
    """The confusion matrices of sets of images drawn with replacement, the same sets for all who saw as many images."""
    count = len(outputs)
    times = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLED)
    return np.tensordot(times, outputs, 1)


def truth_of(source: Source, image: int) -> UInt8[np.ndarray, "h w"]:
    """The class of every pixel; none has one where the mask cannot be read."""
    try:
        return mask_of(source, image)
    except BadImage:
        height, width = source.manifest.sizes[image].tolist()
        return np.full((height, width), IGNORE, np.uint8)


@dataclass
class SegmentedRows:
    """Rows, and the labels of the pixels of their tokens, cut from the masks as the picture is from its image."""

    rows: PlannedRows
    patch: tuple[int, ...]
    """Height and width of the labels of a token, whatever the size of its patch."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        row, drawn = self.rows.draw(index)
        if not isinstance(self.rows, PlannedBlocks):
            return Batch(row, Targets(*self.cut(row.coords, row.segment_ids, row.grids, drawn)))
        merge = self.rows.merge
        count = most_cells(len(row.segment_ids), merge.highest, merge.scales)
        cells = cells_of(row.coords, row.segment_ids, count)
        found = self.cut(cells.coords, cells.segment_ids, row.grids[:, 1:].astype(int), drawn)
        return Batch(row, CellTargets(*found, cells.owner, cells.part))

    def cut(
        self,
        coords: Int[np.ndarray, "U 2"],
        segment_ids: Int[np.ndarray, " U"],
        grids: Int[np.ndarray, "I 2"],
        drawn: Sequence[Drawn],
    ) -> tuple[UInt8[np.ndarray, "U p q"], Int[np.ndarray, "U 3 3"]]:
        """The labels of patches at these places, and the patches around each."""
        labels = np.full((len(segment_ids), *self.patch), IGNORE, np.uint8)
        for slot, image in enumerate(drawn):
            here = segment_ids == slot + 1
            labels[here] = self.labels(image, grids[slot])[tuple(coords[here].T)]
        return labels, neighbors(coords, segment_ids, grids)

    def labels(self, image: Drawn, grid: Int[np.ndarray, " 2"]) -> UInt8[np.ndarray, "gh gw p q"]:
        """The labels of each patch of the picture of an image."""
        geometry, sides = image.geometry, (int(grid[0]), int(grid[1]))
        assert geometry is not None, "the geometry of a picture is known where rows are read"
        size = sides[0] * self.patch[0], sides[1] * self.patch[1]
        mask = geometry.at(size).of_mask(truth_of(self.rows.source, image.image_id))
        return patchify(mask[..., None], self.patch).patches.reshape(*sides, *self.patch)
