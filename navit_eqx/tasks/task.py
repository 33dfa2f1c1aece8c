"""The base class of tasks: a head, a loss, and an output."""

import abc
from collections.abc import Callable, Sequence
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
