"""Task configurations as frozen dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import check_in


@dataclass(frozen=True)
class Softmax:
    """Softmax cross-entropy: exactly one class is correct."""

    smoothing: float = 0.0
    """Label smoothing: share of the target that is uniform over all classes."""

    def __post_init__(self):
        check_in("task.loss", "[0, 1)", smoothing=self.smoothing)


@dataclass(frozen=True)
class Sigmoid:
    """Sigmoid cross-entropy: an independent decision per class, as in the paper."""


Loss = Softmax | Sigmoid


class Task:
    """Base class of task configurations, which are frozen dataclasses; `TABLE` maps each to its task."""

    TABLE: ClassVar[Mapping[type, Any]] = {}
    classes: int | None = None
    """Number of classes; None where the task has none."""


@dataclass(frozen=True)
class Classify(Task):
    """One class per image."""

    loss: Loss = Softmax()
    """Loss and link function of the logits."""
    classes: int | None = None
    """Number of classes; auto: those of the data."""

    def __post_init__(self):
        check_classes(self.classes)

    @property
    def link(self) -> str:
        """The function that makes probabilities of logits."""
        return type(self.loss).__name__.lower()

    @property
    def smoothing(self) -> float:
        return self.loss.smoothing if isinstance(self.loss, Softmax) else 0.0


@dataclass(frozen=True)
class MultiLabel(Task):
    """A set of classes per image: sigmoid cross-entropy, as NaViT is trained on JFT.   [NaViT, §3.1]"""

    classes: int | None = None
    """Number of classes; auto: those of the data."""
    link = "sigmoid"

    def __post_init__(self):
        check_classes(self.classes)


@dataclass(frozen=True)
class Embed(Task):
    """No classes: the pooled vector of each image, or a linear projection of it; for imported towers, not to train."""

    size: int | None = None
    """Size of the projection; none: the pooled vector itself."""

    def __post_init__(self):
        check_in("task", "[1, 2147483647]", size=self.size)


@dataclass(frozen=True)
class Distill(Task):
    """KL divergence from the logits of a teacher on the same image, in patches of the teacher's size; no labels.

    [FlexiViT, distillation; temperature 1]
    """

    teacher: str = ""
    """Folder of the run or saved model that is the teacher; its classes must be those of the data."""
    loss: Loss = Softmax()
    """KL divergence of one distribution over the classes, or of one per class: as the teacher was trained."""
    row_tokens: int | None = None
    """Tokens in a row of the teacher, which is separate from that of the student; auto: chosen from the data."""
    digest: str = ""
    """SHA-256 of the teacher's parameters, which must match; empty: any."""
    classes: int | None = None
    """Number of classes; auto: those of the data."""

    def __post_init__(self):
        check_in("task", "[1, 2147483647]", row_tokens=self.row_tokens)
        check_classes(self.classes)

    @property
    def link(self) -> str:
        """The function that makes probabilities of logits."""
        return type(self.loss).__name__.lower()


def check_classes(classes: int | None) -> None:
    """Raises ConfigError unless classes ≥ 1 or None."""
    check_in("task", "[1, 2147483647]", classes=classes)
