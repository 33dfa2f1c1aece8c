"""Task configurations as frozen dataclasses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from ..config import Factorised, ModelConfig
from ..errors import check, check_in
from ..sentencepiece import SentencePiece
from ..text import Bytes

Tokenizer = Bytes | SentencePiece


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


@dataclass(frozen=True)
class InverseFrequency:
    """Weights of classes ∝ n^−power, for n images of a class in training; the mean over images is 1."""

    power: float = 1.0
    """1: all classes weigh the same in total; 0: all images."""
    weights: tuple[float, ...] = ()
    """Weight of each class, in the order of the classes; empty: from the data."""

    def __post_init__(self):
        check_in("task.weighting", "[0, 1]", power=self.power)
        check_in("task.weighting", "[0, inf)", weights=self.weights)


class Task:
    """Base class of task configurations, which are frozen dataclasses; `TABLE` maps each to its task."""

    TABLE: ClassVar[Mapping[type, Any]] = {}
    classes: int | None = None
    """Number of classes; None where the task has none."""
    accumulates: ClassVar[bool] = True
    """Whether losses of parts of a batch add up to that of the batch."""

    @property
    def named_by_texts(self) -> bool:
        """Whether texts name the classes, so that each set of images may have its own."""
        return False

    @property
    def held_out(self) -> tuple[str, ...]:
        """Classes that training does not see."""
        return ()

    def started_from(self, saved: "Callable[[], Task]", start: str) -> "tuple[Task, list[str]]":
        """The configuration with what it takes from the task that is saved in `start`, and a note on it.

        Raises ConfigError where that task has none of it.
        """
        return self, []

    def stored(self, folder: Path) -> "Task":
        """The configuration as saved, with the files that belong to it in `folder`."""
        return self

    def located(self, folder: Path) -> "Task":
        """The saved configuration, with the files of `folder`.   Raises ConfigError where one is another."""
        return self


@dataclass(frozen=True)
class Classify(Task):
    """One class per image."""

    loss: Loss = Softmax()
    """Loss and link function of the logits."""
    classes: int | None = None
    """Number of classes; auto: those of the data."""
    weighting: InverseFrequency | None = None
    """Weights of classes in the loss; none: every image weighs the same."""

    def __post_init__(self):
        check_classes(self.classes)

    @property
    def link(self) -> str:
        """The function that makes probabilities of logits."""
        return type(self.loss).__name__.lower()

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """Weight of each class; None: all alike."""
        return self.weighting.weights or None if self.weighting else None

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
class Merger:
    """Blocks of tokens become one each, by an MLP: what a language model reads.   [Qwen2-VL, arXiv:2409.12191]"""

    size: int = 3584
    """E, width of a merged token."""
    block: int = 2
    """Tokens along the side of a block."""
    hidden: int | None = None
    """Hidden channels of the MLP; auto: those of all tokens of a block."""
    norm: Literal["layer", "rms", "none"] = "layer"
    """Norm of each token before."""
    eps: float = 1e-6
    """ε of norms, added to the variance."""
    taps: tuple[int, ...] = ()
    """Blocks of the encoder, from 1, whose tokens are merged too, each by an MLP of its own after a norm of the whole
    block of tokens (DeepStack, arXiv:2406.04334)."""

    def __post_init__(self):
        check_in("task.merger", "[1, 2147483647]", size=self.size, hidden=self.hidden)
        check_in("task.merger", "[1, 4096]", block=self.block, taps=self.taps)
        check_in("task.merger", "[0, 1000000]", eps=self.eps)


@dataclass(frozen=True)
class Embed(Task):
    """No classes: the pooled vector of each image, or a linear projection of it; for imported towers, not to train."""

    size: int | None = None
    """Size of the projection; none: the pooled vector itself."""
    merger: Merger | None = None
    """Merged tokens, of which the output of an image is the mean; none: the pooled vector."""

    def __post_init__(self):
        check_in("task", "[1, 2147483647]", size=self.size)
        check(
            self.size is None or self.merger is None,
            f"task.size={self.size} projects the pooled vector, task.merger reads tokens: leave one of them out",
        )


@dataclass(frozen=True)
class Segment(Task):
    """A class for every pixel, on the encoded tokens.   [NaViT, fig. 13; Segmenter, arXiv:2105.05633]"""

    decoder: Literal["pixels", "linear", "patch"] = "pixels"
    """Logits of pixels. pixels: each token has logits for each of its pixels; linear: one set of logits per token,
    interpolated between tokens, as in the paper; patch: one set of logits per token, equal for its pixels."""
    patch: tuple[int, ...] = ()
    """Height and width of the labels of a token, in pixels of the picture; empty: the patch of the model."""
    classes: int | None = None
    """Number of classes; auto: those of the data."""
    link = "softmax"

    def __post_init__(self):
        check_in("task", "[1, 4096]", patch=self.patch)
        check_in("task", "[1, 255]", classes=self.classes)


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


@dataclass(frozen=True)
class SigLip:
    """Sigmoid loss: an independent decision for every image and every text of a batch.   [SigLIP, arXiv:2303.15343]"""

    temperature: float = 10.0
    """Initial scale e^t of similarities."""
    bias: float | None = None
    """Initial bias; auto: −log(N − 1) for N pairs in a batch, where the gradient of the bias is zero."""

    def __post_init__(self):
        check_in("task.loss", "(0, inf)", temperature=self.temperature)
        check_in("task.loss", "(-inf, inf)", bias=self.bias)


@dataclass(frozen=True)
class Clip:
    """Softmax over the texts of a batch for each image, and over its images for each text.

    [CLIP, arXiv:2103.00020]
    """

    temperature: float = 1 / 0.07
    """Initial scale e^t of similarities."""

    def __post_init__(self):
        check_in("task.loss", "(0, inf)", temperature=self.temperature)


@dataclass(frozen=True)
class TextTower:
    """The tower that reads texts: the same blocks as the backbone, without token dropping."""

    width: int = 64
    """D, width of the tokens of a text."""
    depth: int = 2
    """L, number of blocks."""
    heads: int = 4
    """H, heads of attention, which divide the width."""
    mlp_width: int = 256
    """F, hidden width of the MLP of a block."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """dtype of activations. auto: float32 on a CPU, bfloat16 on accelerators."""

    def __post_init__(self):
        sizes = {name: getattr(self, name) for name in ("width", "depth", "heads", "mlp_width")}
        check_in("task.text", "[1, 2147483647]", **sizes)
        check(self.width % self.heads == 0, f"task.text.width={self.width} must be a multiple of heads={self.heads}")

    def model(self, tokenizer: Tokenizer) -> ModelConfig:
        """The configuration of the tower: one axis, one-hot patches."""
        return ModelConfig(
            patch=(1,),
            channels=tokenizer.vocabulary,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            mlp_width=self.mlp_width,
            posembed=Factorised(tokenizer.max_length, axes=1),
            dtype=self.dtype,
            unroll=self.depth,
        )


@dataclass(frozen=True)
class TextRows:
    """Packed rows of the texts of a batch."""

    rows: int | None = None
    """Rows of texts in a batch; auto: chosen from the lengths of the texts."""
    row_tokens: int | None = None
    """Tokens in a row of texts; auto: chosen from the lengths of the texts."""
    row_texts: int | None = None
    """Text slots in a row; auto: chosen from the lengths of the texts."""
    unique: bool = False
    """Each distinct text of a batch stands once, for all its images: fewer tokens, and as a negative it counts once."""

    def __post_init__(self):
        check_in("task.texts", "[1, 2147483647]", rows=self.rows, row_tokens=self.row_tokens, row_texts=self.row_texts)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Resolved rows, tokens and slots."""
        assert self.rows and self.row_tokens and self.row_texts, "task.texts is auto: call `harness.resolve.resolve`"
        return self.rows, self.row_tokens, self.row_texts


@dataclass(frozen=True)
class Contrast(Task):
    """Images and texts: the embedding of an image is close to those of its texts.   [NaViT, §3.1; SigLIP; CLIP]"""

    accumulates = False

    loss: SigLip | Clip = SigLip()
    """Loss over all pairs of an image and a text in a batch."""
    text: TextTower = TextTower()
    """Size of the text tower."""
    tokenizer: Tokenizer = Bytes()
    """Texts → token ids."""
    embedding: int = 64
    """E, width of the embedding that images and texts share."""
    duplicates: Literal["positive", "ignore", "negative"] = "positive"
    """What a text is to an image of another pair with the same text."""
    texts: TextRows = TextRows()
    """Packing of the texts of a batch."""
    shards: int = 1
    """Equal parts of a batch that hold whole pairs: a multiple of the number of processes."""
    parts: int = 1
    """Parts in which the images of a batch are embedded, each twice: memory for one part, the same gradient."""

    def __post_init__(self):
        check_in("task", "[1, 2147483647]", embedding=self.embedding, shards=self.shards, parts=self.parts)
        check(
            not self.texts.unique or self.duplicates == "positive",
            f"task.texts.unique has one text for all its images, and task.duplicates={self.duplicates} tells them "
            "apart: leave one of them out",
        )

    def stored(self, folder: Path) -> "Contrast":
        return replace(self, tokenizer=self.tokenizer.stored(folder))

    def located(self, folder: Path) -> "Contrast":
        return replace(self, tokenizer=self.tokenizer.located(folder))

    @property
    def kind(self) -> Literal["sigmoid", "softmax"]:
        """The loss, by its function."""
        return "sigmoid" if isinstance(self.loss, SigLip) else "softmax"


@dataclass(frozen=True)
class ZeroShot(Task):
    """Classes named by texts: a contrastive model whose texts are embedded already."""

    embedding: int = 64
    """E, width of the embedding that images and texts share."""
    classes: int | None = None
    """Number of classes."""
    link = "softmax"

    def __post_init__(self):
        check_in("task", "[1, 2147483647]", embedding=self.embedding)
        check_classes(self.classes)


def check_classes(classes: int | None) -> None:
    """Raises ConfigError unless classes ≥ 1 or None."""
    check_in("task", "[1, 2147483647]", classes=classes)
