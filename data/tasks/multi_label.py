"""A set of classes per image."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from reference.evaluation.metrics import mean_average_precision, precision_at_1
from reference.tasks.multi_label import Targets, multi_hot

from ..manifest import Manifest
from ..rows import Drawn
from .task import DataTask, in_slots


class MultiLabel(DataTask):
    """Targets are the label sets of the manifest; a single label is a set of one."""

    metric = "precision_at_1"

    def targets(self, drawn: Sequence[Drawn], manifest: Manifest, slots: int) -> Targets:
        sets = label_sets(manifest)
        nothing = np.full(sets.shape[1], -1, np.int32)
        return Targets(
            in_slots([sets[image.image_id] for image in drawn], slots, nothing, np.int32),
            in_slots([sets[i.partner_id] if i.partner_id >= 0 else nothing for i in drawn], slots, nothing, np.int32),
            in_slots([image.weight for image in drawn], slots, 0, np.float32),
        )

    def scores(
        self, outputs: Float[np.ndarray, "N Y"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> Float[np.ndarray, " N"]:
        """1 where the class with the highest logit is one of the labels, else 0."""
        return precision_at_1(outputs, self.truth(image_ids, manifest)).astype(float)

    def metrics(
        self, outputs: Float[np.ndarray, "N Y"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> dict[str, float]:
        """Mean average precision over the classes that occur."""
        return {"mean_average_precision": mean_average_precision(outputs, self.truth(image_ids, manifest))}

    def truth(self, image_ids: Int[np.ndarray, " N"], manifest: Manifest) -> Bool[np.ndarray, "N Y"]:
        """True at every label of each image."""
        return multi_hot(label_sets(manifest)[image_ids], len(manifest.classes)).astype(bool)


def label_sets(manifest: Manifest) -> Int[np.ndarray, "N M"]:
    """The label set of every image, padded with −1."""
    return manifest.labels.reshape(len(manifest), -1)
