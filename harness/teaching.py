"""Distillation: the saved model that teaches a run, and how it sees the images."""

from typing import NamedTuple

from data.errors import DataError
from data.lessons import Lesson
from data.manifest import Manifest
from data.teacher import TeacherView
from navit_eqx import NaViT, load_model
from navit_eqx.checkpoint import digest_of
from navit_eqx.config import ModelConfig
from navit_eqx.config_json import check, decode
from navit_eqx.config_training import Distill, Loss
from reference.types import Row


class Teacher(NamedTuple):
    """A saved model and its shape."""

    model: NaViT
    shape: ModelConfig
    digest: str

    def view(self, loss: Loss) -> TeacherView:
        """All tokens of an image in patches of the model's own size, in rows as long as the resolved loss says."""
        row_tokens = loss.row_tokens if isinstance(loss, Distill) else 0
        return TeacherView(self.shape.patch_size, row_tokens, self.shape.posembed.longest_side)


def open_teacher(loss: Loss, manifest: Manifest) -> Teacher | None:
    """The teacher that a loss names; None where it needs none.

    Raises ConfigError where it is missing, damaged or another one than the run began with, DataError where it knows
    other classes than those of the data.
    """
    if not isinstance(loss, Distill):
        return None
    check(bool(loss.teacher), "loss.teacher is not set: name the run that teaches, --loss.teacher runs/digits")
    model, shape, about = load_model(loss.teacher)
    known, wanted = decode(tuple[str, ...], about.get("classes"), "about.classes"), manifest.classes
    if known != wanted:
        raise DataError(
            f"loss.teacher={loss.teacher} knows {len(known)} classes, first {known[:1]}; {manifest.where} has "
            f"{len(wanted)}, first {wanted[:1]}: choose a teacher of the same classes, in the same order"
        )
    digest = digest_of(loss.teacher)
    check(
        loss.digest in ("", digest),
        f"loss.teacher={loss.teacher} holds parameters of digest {digest[:12]}, loss.digest asks for "
        f"{loss.digest[:12]}: give the model that was meant, or leave the digest out",
    )
    return Teacher(model, shape, digest)


def apart(batch: Row | Lesson) -> tuple[Row, Row | None]:
    """What the student sees, and what the teacher sees of it."""
    return (batch.student, batch.teacher) if isinstance(batch, Lesson) else (batch, None)
