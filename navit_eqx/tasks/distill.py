"""Distillation: targets are the logits of a teacher, not labels.   [FlexiViT, distillation]

The teacher is not part of the trained model. It is a separate jitted function on the same images, in patches of its own
size, and its logits are the targets.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..errors import check
from ..layers import Linear
from ..masks import used_slots
from ..model import NaViT
from ..rows import Batch, Row
from . import config
from .classify import Classify, logits_of, sum_over_real, zero_head
from .task import AbstractTask, PreparedTask


class Targets(NamedTuple):
    """Logits of the teacher for the image in each slot."""

    teacher_logits: Float[Array, "*B I Y"]


class Distill(AbstractTask):
    """A linear head on the pooled vector of each image, trained by KL divergence from a teacher."""

    head: Linear
    link: str = eqx.field(static=True)
    config: "config.Distill" = eqx.field(static=True)
    Targets = Targets
    has_teacher = True

    def __init__(self, config: "config.Distill", width: int, *, key: PRNGKeyArray):
        self.head = zero_head(width, config.classes or 0, key=key)
        self.link = config.link
        self.config = config

    def predict(self, backbone: NaViT, row: Row) -> Float[Array, "*B I Y"]:
        return logits_of(self.head, backbone(row))

    def loss(
        self, backbone: NaViT, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        row, targets = batch
        logits = logits_of(self.head, backbone(row, backbone.gates(key, row.image_ids)))
        real = used_slots(row.segment_ids, row.grids.shape[-2])
        teacher_logits = targets.teacher_logits.astype(logits.dtype)
        total, count = DIVERGENCES[self.link](logits, teacher_logits, real)
        return total, count, {"agreement": agreements(logits, teacher_logits, real)}

    def for_inference(self) -> Classify:
        """The head as a `Classify` task, which does not depend on the teacher."""
        student = config.Classify(self.config.loss, self.config.classes)
        plain = eqx.filter_eval_shape(Classify, student, self.head.w.shape[0], key=jax.random.key(0))
        return eqx.tree_at(lambda task: task.head, plain, self.head)

    @classmethod
    def prepare(cls, config: Any, classes: Sequence[str], load: Callable[[str], Any]) -> PreparedTask:
        """Load the teacher.   Raises ConfigError where its classes or digest differ from the configuration."""
        check(bool(config.teacher), "task.teacher is not set: name the run of the teacher, --task.teacher runs/digits")
        teacher = load(config.teacher)
        known = teacher.info.classes
        check(
            known == tuple(classes),
            f"task.teacher={config.teacher} knows {len(known)} classes, first {known[:1]}; the data have "
            f"{len(classes)}, first {tuple(classes)[:1]}: choose a teacher of the same classes, in the same order",
        )
        digest = teacher.info.digest
        check(
            config.digest in ("", digest),
            f"task.teacher={config.teacher} holds parameters of digest {digest[:12]}, task.digest asks for "
            f"{config.digest[:12]}: name the model with this digest, or leave the digest out",
        )
        resolved = super().prepare(config, classes, load).config
        shape = teacher.config
        data = {
            "patch": shape.patch,
            "longest_side": shape.posembed.longest_side,
            "row_tokens": config.row_tokens,
            "sizes": shape.sizes | {"classes": len(known)},
            "mean": shape.mean,
            "std": shape.std,
        }
        return PreparedTask(replace(resolved, digest=digest), data, TeacherProgram(teacher))


class TeacherProgram:
    """Targets with `teacher_row`, the row that the teacher reads → `Targets` with its logits; jitted."""

    def __init__(self, teacher: Any):
        self.arrays, static = eqx.partition(teacher, eqx.is_array)
        self.run = jax.jit(lambda arrays, row: eqx.combine(arrays, static)(row))

    def __call__(self, targets: Any) -> Targets:
        return Targets(jax.lax.stop_gradient(self.run(self.arrays, Row(*targets.teacher_row))))


def kl_divergence(
    logits: Float[Array, "*B I Y"], teacher_logits: Float[Array, "*B I Y"], real: Bool[Array, "*B I"]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Σ KL(softmax(teacher) ‖ softmax(logits)) over real slots, and their number."""
    log_p, log_q = jax.nn.log_softmax(teacher_logits), jax.nn.log_softmax(logits)
    return sum_over_real((jnp.exp(log_p) * (log_p - log_q)).sum(-1), real)


def sigmoid_kl_divergence(
    logits: Float[Array, "*B I Y"], teacher_logits: Float[Array, "*B I Y"], real: Bool[Array, "*B I"]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Σ over classes of KL(σ(teacher) ‖ σ(logits)) over real slots, and their number."""
    t = teacher_logits
    yes = jax.nn.log_sigmoid(t) - jax.nn.log_sigmoid(logits)
    no = jax.nn.log_sigmoid(-t) - jax.nn.log_sigmoid(-logits)
    return sum_over_real((jax.nn.sigmoid(t) * yes + jax.nn.sigmoid(-t) * no).sum(-1), real)


DIVERGENCES = {"softmax": kl_divergence, "sigmoid": sigmoid_kl_divergence}


def agreements(
    logits: Float[Array, "*B I Y"], teacher_logits: Float[Array, "*B I Y"], real: Bool[Array, "*B I"]
) -> Int[Array, ""]:
    """Number of images for which student and teacher have the same top class."""
    return ((logits.argmax(-1) == teacher_logits.argmax(-1)) & real).sum(dtype=jnp.int32)
