"""A NaViT backbone with a task."""

from typing import Any

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..config import ModelConfig
from ..errors import check
from ..fuzzy import fuzzy_row
from ..info import ModelInfo
from ..model import NaViT
from ..rows import Batch, Row
from ..weights.bridge import from_reference, to_reference
from . import make_task
from .task import AbstractTask


class Model(eqx.Module):
    """Backbone and task: packed rows → the output of each image slot.

    model = Model(ModelConfig(), Classify(classes=10), key=jax.random.key(0))
    """

    backbone: NaViT
    task: AbstractTask
    info: ModelInfo | None = eqx.field(static=True)
    """Classes and preprocessing; None before the model is saved."""

    def __init__(self, config: ModelConfig, task: Any, info: ModelInfo | None = None, *, key: PRNGKeyArray):
        backbone, head = jr.split(key)
        self.backbone = NaViT(config, key=backbone)
        self.task = make_task(task, config.out_width, key=head)
        check(
            config.stages is None or not self.task.every_patch,
            f"task {type(self.task).__name__} asks every patch, and model.stages merge their tokens: leave out stages",
        )
        self.info = info

    @property
    def config(self) -> ModelConfig:
        """The configuration of the backbone."""
        return self.backbone.config

    def __call__(self, row: Row) -> Array:
        """The output of each image slot, such as logits."""
        return self.task.predict(self.backbone, row)

    def loss(self, batch: Batch, key: PRNGKeyArray) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        """(sum of the loss, count, sums of other metrics) over the images of a batch."""
        if self.config.fuzzy is not None:
            batch = batch._replace(row=fuzzy_row(batch.row, self.config.fuzzy, key))
        return self.task.loss(self.backbone, batch, key)

    def after_update(self) -> "Model":
        """The model after an update, with parameters of the task within their limits."""
        return eqx.tree_at(lambda model: model.task, self, self.task.after_update())

    def for_inference(self) -> "Model":
        """The model without the parts that only training needs."""
        return eqx.tree_at(lambda model: model.task, self, self.task.for_inference())


def is_shape(leaf: object) -> bool:
    """Whether a leaf is an abstract array (shape and dtype only)."""
    return isinstance(leaf, jax.ShapeDtypeStruct)


def abstract_model(config: ModelConfig, task: Any, info: ModelInfo | None = None) -> Model:
    """A model with abstract arrays (shapes and dtypes) instead of arrays."""
    return eqx.filter_eval_shape(lambda key: Model(config, task, info, key=key), jr.key(0))


def reconfigured(model: Model, config: ModelConfig) -> Model:
    """The same parameters with a configuration that changes no shape, such as other patch sizes or another backend.

    Raises ValueError where a parameter would be missing or have another shape.
    """
    abstract = eqx.filter_eval_shape(lambda key: NaViT(config, key=key), jr.key(0))
    return eqx.tree_at(lambda m: m.backbone, model, from_reference(to_reference(model.backbone), abstract))
