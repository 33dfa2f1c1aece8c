"""Another task on the same pictures, for experiments on fine-tuning: strips whose digits are classes in pairs."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Num

from data.sources.digits import Digits
from data.sources.source import Source
from harness.config import Config


@dataclass(frozen=True)
class Pairs(Digits):
    """Strips whose digits 0 and 1, 2 and 3, … are one class: another task on the same pictures."""

    def open(self, root: str, split: str, channels: int = 3) -> Source:
        return Paired(super().open(root, split, channels))


class Paired:
    """A source with classes 2k and 2k + 1 in one."""

    def __init__(self, source: Source):
        self.source = source
        known = source.manifest
        classes = tuple(" or ".join(known.classes[k : k + 2]) for k in range(0, len(known.classes), 2))
        self.manifest = replace(known, labels=known.labels // 2, classes=classes, where=f"{known.where}, in pairs")

    def image(self, index: int, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
        return self.source.image(index, shrink)


def fine_tuned(config: Config, start: str, steps: int, rate: float, **data: Any) -> Config:
    """The run that goes on from the arm `start`, on pairs, with a new classifier; `data` are fields of `DataConfig`."""
    pairs = Pairs(**vars(config.data.source))
    return replace(
        config,
        start=start,
        steps=steps,
        task=replace(config.task, classes=None),
        data=replace(config.data, source=pairs, **data),
        optim=replace(config.optim, lr=rate),
    )
