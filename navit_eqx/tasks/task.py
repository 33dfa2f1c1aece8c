"""What every task is: a head, a loss, and an output."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..errors import check
from ..model import NaViT
from ..rows import Batch, Row


class PreparedTask(NamedTuple):
    """A task whose configuration leaves nothing open."""

    config: Any
    data: dict[str, Any] = {}
    """What the data must know to make its targets: keyword arguments of `data.tasks`."""
    device_targets: Callable[[Any], Any] = lambda targets: targets
    """Makes of the fields that the data gave, on the device, the targets that the loss reads."""


class AbstractTask(eqx.Module):
    """The parameters of a head, the loss that trains it, and its output.

    Made of its configuration, the width of the backbone, and a key.
    """

    Targets: ClassVar[type]
    """A NamedTuple with the targets of a row."""
    config: eqx.AbstractVar[Any]
    """The configuration it was made of."""

    @abc.abstractmethod
    def loss(
        self, backbone: NaViT, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        """(sum, count, sums of other measures) over the images of a batch: added up over all parts, then divided."""

    @abc.abstractmethod
    def predict(self, backbone: NaViT, row: Row) -> Array:
        """The output for each image slot."""

    def for_inference(self) -> "AbstractTask":
        """The task of a saved model: without what only training needs."""
        return self

    @classmethod
    def prepare(cls, config: Any, classes: Sequence[str], load: Callable[[str], Any]) -> PreparedTask:
        """`config` for these classes; `load` opens a saved model, where a task needs one.

        Raises ConfigError where the configuration asks for another number of classes.
        """
        check(
            config.classes in (None, len(classes)),
            f"task.classes={config.classes}, but the data have {len(classes)}: leave it out, or change the data",
        )
        return PreparedTask(replace(config, classes=len(classes)), {}, lambda fields: cls.Targets(*fields))
