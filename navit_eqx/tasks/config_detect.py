"""Configuration of detection as frozen dataclasses."""

from dataclasses import dataclass
from typing import Literal

from ..errors import check_in
from .config import Task, check_classes


@dataclass(frozen=True)
class Hungarian:
    """The matching of boxes and tokens with the least cost, on the device: one problem for each row."""

    on = "device"
    rule = "hungarian"


@dataclass(frozen=True)
class Host:
    """The same matching, computed by SciPy on the host: for many boxes on accelerators, which are slow at it."""

    on = "host"
    rule = "hungarian"


@dataclass(frozen=True)
class Centre:
    """Each box takes the free token with the nearest middle, the smallest box first: no search, almost no cost."""

    on = "device"
    rule = "centre"


@dataclass(frozen=True)
class Weights:
    """Weights of the parts of cost and loss."""

    classes: float = 1.0
    """Focal loss of the classes."""
    distance: float = 1.0
    """L1 distance of the boxes."""
    overlap: float = 1.0
    """1 − GIoU of the boxes."""

    def __post_init__(self):
        check_in("task.weights", "[0, inf)", classes=self.classes, distance=self.distance, overlap=self.overlap)


@dataclass(frozen=True)
class Detect(Task):
    """Boxes with classes: each token proposes one box.   [NaViT, table 1; OWL-ViT, arXiv:2205.06230]"""

    assign: Hungarian | Centre | Host = Hungarian()
    """Matching of true boxes with tokens in training."""
    weights: Weights = Weights()
    """Weights of the parts of cost and loss."""
    unit: Literal["longer side", "image"] = "longer side"
    """Unit of L1 distances: the longer side of the image, or each side for its own axis."""
    boxes: int | None = None
    """M, places for boxes in a row; auto: chosen from the data."""
    detections: int = 100
    """K, boxes that are predicted for an image: those with the highest scores."""
    classes: int | None = None
    """Number of classes; auto: those of the data."""

    def __post_init__(self):
        check_in("task", "[1, 2147483647]", boxes=self.boxes, detections=self.detections)
        check_classes(self.classes)
