"""Configuration of detection as frozen dataclasses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from ..errors import ConfigError, check, check_in
from .config import Contrast, Task, TextTower, Tokenizer, check_classes


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
class PerClass:
    """A row of weights for each class."""

    held_out: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class ByText:
    """Classes named by texts, which may be others after training: `start` is a run on images and texts.

    [OWL-ViT, arXiv:2205.06230; NaViT, table 1]
    """

    forms: tuple[str, ...] = ("{}",)
    """Texts of a class, with {} for its name; of several the mean vector counts."""
    held_out: tuple[str, ...] = ()
    """Classes whose boxes are left out of training: evaluation tells whether their names suffice."""
    negatives: tuple[str, ...] = ()
    """Texts of what no image shows, which training asks for besides the classes."""
    text: TextTower | None = None
    """Size of the text tower; auto: that of `start`."""
    tokenizer: Tokenizer | None = None
    """Texts → token ids; auto: that of `start`."""
    embedding: int | None = None
    """E, width of the embedding that images and texts share; auto: that of `start`."""
    texts: tuple[str, ...] = ()
    """All texts that are asked for; auto: the forms of the classes of the data, and the negatives."""
    owners: tuple[int, ...] = ()
    """The class of each text; those of negatives come last."""

    def __post_init__(self):
        check_in("task.head", "[1, 2147483647]", embedding=self.embedding)
        check_in("task.head", "[0, 2147483647]", owners=self.owners)
        check(len(self.texts) == len(self.owners), "task.head.texts and owners have one entry for each text")
        bare = [form for form in self.forms if "{}" not in form]
        check(
            bool(self.forms) and not bare,
            f"task.head.forms needs texts with {{}} for the name of a class, such as 'a {{}}'; {bare[:1]} has none",
        )

    def stored(self, folder: Path) -> "ByText":
        """As saved: the file of the tokenizer lies in `folder`."""
        return replace(self, tokenizer=self.tokenizer and self.tokenizer.stored(folder))

    def located(self, folder: Path) -> "ByText":
        """The saved one, with the file of the tokenizer in `folder`."""
        return replace(self, tokenizer=self.tokenizer and self.tokenizer.located(folder))

    def prompts(self, classes: Sequence[str]) -> dict[str, list[str]]:
        """The texts of each class."""
        return {name: [form.replace("{}", name) for form in self.forms] for name in classes}

    def asking(self, prompts: Mapping[str, Sequence[str]]) -> "ByText":
        """The head that asks for these texts, and the negatives.

        Raises ConfigError where no tower reads texts, or two classes have the same texts.
        """
        tokenizer = self.tokenizer
        if not (tokenizer and self.text and self.embedding):
            raise ConfigError(NO_TOWER)
        seen: dict[tuple[tuple[int, ...], ...], str] = {}
        for name, texts in prompts.items():
            other = seen.setdefault(tuple(tuple(tokenizer.encode(text)) for text in texts), name)
            check(other == name, f"the classes {other!r} and {name!r} have the same texts: rename one")
        every = [*prompts.values(), *([text] for text in self.negatives)]
        pairs = [(text, owner) for owner, texts in enumerate(every) for text in texts]
        return replace(self, texts=tuple(text for text, _ in pairs), owners=tuple(owner for _, owner in pairs))


NO_TOWER = (
    "task.head=ByText names classes by texts, and no tower reads them: start from a run on images and texts, "
    "--start RUN of `python train.py contrast`, or choose --task.head perclass"
)


@dataclass(frozen=True)
class Detect(Task):
    """Boxes with classes: each token proposes one box.   [NaViT, table 1; OWL-ViT, arXiv:2205.06230]"""

    head: PerClass | ByText = PerClass()
    """How classes are scored: by weights of their own, or by texts."""
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

    def stored(self, folder: Path) -> "Detect":
        return replace(self, head=self.head.stored(folder)) if isinstance(self.head, ByText) else self

    def located(self, folder: Path) -> "Detect":
        return replace(self, head=self.head.located(folder)) if isinstance(self.head, ByText) else self

    @property
    def named_by_texts(self) -> bool:
        return isinstance(self.head, ByText)

    @property
    def held_out(self) -> tuple[str, ...]:
        return self.head.held_out

    def started_from(self, saved: Callable[[], Task], start: str) -> tuple[Task, list[str]]:
        """The text tower, where texts name the classes."""
        if not isinstance(self.head, ByText):
            return self, []
        task = saved()
        tower = task.head if isinstance(task, Detect) else task
        check(
            isinstance(tower, Contrast | ByText),
            f"task.head=ByText names classes by texts, and the model in {start} reads none, its task is "
            f"{type(task).__name__}: start from a run of `python train.py contrast`, or choose --task.head perclass",
        )
        parts = {name: getattr(tower, name) for name in ("text", "tokenizer", "embedding")}
        note = f"task.head: texts name the classes, by the text tower of {start}"
        return replace(self, head=replace(self.head, **parts)), [note]
