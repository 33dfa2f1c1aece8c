"""One class per image."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from reference.evaluation.metrics import correct, in_top
from reference.sampling.balance import class_weights
from reference.tasks.classify import Targets

from ..errors import DataError
from ..manifest import Manifest
from ..rows import Drawn
from .task import DataTask, Lengths, in_slots


class Classify(DataTask):
    """Targets are the labels of the manifest and of mixed-in partners."""

    metric = "accuracy"

    def __init__(self, *, weighting: Any = None):
        self.weighting = weighting

    def resolve(self, lengths: Lengths) -> tuple[dict[str, Any], list[str]]:
        """Weights of classes, from the number of images of each."""
        if self.weighting is None or self.weighting.weights:
            return {}, []
        manifest = lengths.manifest
        counts = np.bincount(manifest.labels, minlength=len(manifest.classes))
        weights = tuple(float(f"{w:.6g}") for w in class_weights(counts, self.weighting.power))
        sizes = f"classes of {counts.max()} to {counts.min()} images"
        note = f"task.weighting.weights = {min(weights):g} to {max(weights):g}: {sizes}"
        return {"weighting": replace(self.weighting, weights=weights)}, [note]

    def targets(self, drawn: Sequence[Drawn], manifest: Manifest, slots: int) -> Targets:
        labels = [manifest.labels[image.image_id] for image in drawn]
        partners = [manifest.labels[image.partner_id] if image.partner_id >= 0 else -1 for image in drawn]
        return Targets(
            in_slots(labels, slots, -1, np.int32),
            in_slots(partners, slots, -1, np.int32),
            in_slots([image.weight for image in drawn], slots, 0, np.float32),
        )

    def scores(
        self, outputs: Float[np.ndarray, "N Y"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> Float[np.ndarray, " N"]:
        """1 where the label has the highest logit, else 0."""
        return correct(outputs, manifest.labels[image_ids]).astype(float)

    def metrics(
        self, outputs: Float[np.ndarray, "N Y"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> dict[str, float]:
        """Top-5 accuracy, where there are more than five classes."""
        if outputs.shape[-1] <= 5 or not len(image_ids):
            return {}
        return {"top_5": float(in_top(outputs, manifest.labels[image_ids], 5).mean())}

    def truth(self, image_ids: Int[np.ndarray, " N"], manifest: Manifest) -> Bool[np.ndarray, "N Y"]:
        """True at the label of each image."""
        return manifest.labels[image_ids][:, None] == np.arange(len(manifest.classes))

    def check(self, manifest: Manifest) -> None:
        if manifest.labels.ndim != 1:
            raise DataError(f"{manifest.where} has a set of labels per image: use --task multilabel")
