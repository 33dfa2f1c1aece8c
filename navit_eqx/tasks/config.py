"""Tasks as frozen dataclasses: what a model is trained to say of each image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import check_in


@dataclass(frozen=True)
class Softmax:
    """Softmax cross-entropy: exactly one class is right."""

    smoothing: float = 0.0
    """Share of the target that is spread over all classes."""

    def __post_init__(self):
        check_in("task.loss", "[0, 1)", smoothing=self.smoothing)


@dataclass(frozen=True)
class Sigmoid:
    """Sigmoid cross-entropy: one independent decision per class, the paper's choice."""


Loss = Softmax | Sigmoid


class Task:
    """Base of every task's configuration, a frozen dataclass; `TABLE` names those that exist."""

    TABLE: ClassVar[Mapping[type, Any]] = {}
    classes: int | None = None
    """Number of classes; None where the task has none."""


@dataclass(frozen=True)
class Classify(Task):
    """One class per image."""

    loss: Loss = Softmax()
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
    """A set of classes per image: sigmoid cross-entropy over all classes, as NaViT is trained on JFT.   [NaViT, §3.1]"""

    classes: int | None = None
    """Number of classes; auto: those of the data."""
    link = "sigmoid"

    def __post_init__(self):
        check_classes(self.classes)


@dataclass(frozen=True)
class Distill(Task):
    """Divergence from the logits of a trained model on the same picture, in patches of its own size; no labels.

    [FlexiViT, distillation; temperature 1]
    """

    teacher: str = ""
    """The run, or the folder of the model, to learn from; it must know the classes of the data."""
    loss: Loss = Softmax()
    """Divergence of one distribution over the classes, or of a decision per class: as the teacher was trained."""
    row_tokens: int | None = None
    """Tokens in a row of the teacher, beside those of the student; auto: chosen from the data."""
    digest: str = ""
    """SHA-256 of the teacher's parameters; empty takes the model that is there, any other is refused."""
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
    """Raises ConfigError where a number of classes makes no sense."""
    check_in("task", "[1, 2147483647]", classes=classes)
