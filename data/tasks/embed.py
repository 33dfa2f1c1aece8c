"""Features: nothing is asked of an image, and nothing can be scored."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Num

from ..errors import DataError
from ..manifest import Manifest
from ..rows import Drawn
from .task import DataTask


class Embed(DataTask):
    """Features have no metric of their own: studies on features score them."""

    metric = "features"
    own_classes = False
    studies = ("probe", "attention")

    def targets(self, drawn: Sequence[Drawn], manifest: Manifest, slots: int) -> tuple[()]:
        return ()

    def scores(
        self, outputs: Num[np.ndarray, "N *n"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> Float[np.ndarray, " N"]:
        """NaN: there is no score."""
        return np.full(len(image_ids), np.nan)

    def check(self, manifest: Manifest) -> None:
        """Raises DataError: there is nothing to learn from."""
        raise DataError("the task Embed has no targets: train with another, such as --task classify")
