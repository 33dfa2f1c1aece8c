"""The base class of tasks: a head, a loss, and an output."""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..errors import check
from ..model import NaViT
from ..rows import Batch, Row


class PreparedTask(NamedTuple):
    """A task whose automatic configuration values are resolved."""

    config: Any
    data: dict[str, Any] = {}
    """Keyword arguments of the task of the same name in `data.tasks`, which makes the targets."""
    device_targets: Callable[[Any], Any] = lambda targets: targets
    """Target fields of the data, on the device → targets that the loss reads."""


@runtime_checkable
class OneVector(Protocol):
    """What gives one vector for each image slot: a backbone, or a stand-in whose rows hold its vectors."""

    def __call__(self, row: Row, gates: Any = None) -> Float[Array, "*B I D"]: ...

    def gates(self, key: PRNGKeyArray, image_ids: Int[Array, "*B I"]) -> Any: ...


class AbstractTask(eqx.Module):
    """A task: the parameters of a head, its loss and its output.

    Constructed from its configuration, the width of the backbone, and a key.
    """

    Targets: ClassVar[type]
    """A NamedTuple with the targets of a row."""
    per_token: ClassVar[bool] = False
    """Whether outputs belong to the tokens of a row, and not to its image slots."""
    every_patch: ClassVar[bool] = False
    """Whether each patch is asked for something at its exact place, so that coordinates cannot be moved."""
    pooled: ClassVar[bool] = False
    """Whether it reads one vector of each image and nothing else, so that a `OneVector` may stand for the backbone."""
    in_stages: ClassVar[bool] = False
    """Whether models whose stages merge tokens may have it."""
    has_teacher: ClassVar[bool] = False
    """Whether another model reads the same images in patches of one size."""
    naming_option: ClassVar[str] = ""
    """The option by which texts name its classes, where it has a choice."""
    config: eqx.AbstractVar[Any]
    """The configuration it was constructed from."""

    @abc.abstractmethod
    def loss(
        self, backbone: NaViT, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        """(sum of the loss, count, sums of other metrics) over the images of a batch.

        Sums and counts are added over all parts of a batch, then divided once.
        """

    @abc.abstractmethod
    def predict(self, backbone: NaViT, row: Row) -> Array:
        """The output of each image slot, or of each token where `per_token` says so."""

    def prompts(self, classes: Sequence[str]) -> Sequence[str] | Mapping[str, Sequence[str]] | None:
        """What a model that reads texts is asked for, for images of these classes; None: its classes are its own."""
        return None

    def started_from(self, initial: dict, saved: dict, same_classes: bool) -> dict | None:
        """Parameters from those of a saved task, as `to_reference` names them; None: they start anew."""
        return saved if same_classes and holds(saved, initial) else None

    def after_update(self) -> "AbstractTask":
        """The task after an update of its parameters, with those that have limits within them."""
        return self

    def for_inference(self) -> "AbstractTask":
        """The task of a saved model, without the parts that only training needs."""
        return self

    @classmethod
    def prepare(cls, config: Any, classes: Sequence[str], load: Callable[[str], Any]) -> PreparedTask:
        """Resolve `config` for data with these classes; `load` opens a saved model, where a task needs one.

        Raises ConfigError where the configuration has another number of classes.
        """
        check(
            config.classes in (None, len(classes)),
            f"task.classes={config.classes}, but the data have {len(classes)}: leave it out, or change the data",
        )
        return PreparedTask(replace(config, classes=len(classes)), {}, lambda fields: cls.Targets(*fields))


def holds(saved: dict, initial: dict) -> bool:
    """Whether the saved parameters of a task have all the names of the initial ones."""
    return all(
        name in saved and (not isinstance(part, dict) or isinstance(saved[name], dict) and holds(saved[name], part))
        for name, part in initial.items()
    )
