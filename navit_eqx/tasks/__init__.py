"""What a model is trained to say of each image.

    config.py       tasks as frozen dataclasses
    task.py         what every task is: a head, a loss, an output
    classify.py     one class per image
    multi_label.py  a set of classes per image
    distill.py      the logits of a teacher
    model.py        backbone and task

A new task is a file here, one in `reference/tasks` and one in `data/tasks`, and a line in the table of each.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import PRNGKeyArray

from . import config
from .classify import Classify
from .distill import Distill
from .multi_label import MultiLabel
from .task import AbstractTask as AbstractTask
from .task import PreparedTask as PreparedTask

TASKS: dict[type, type[AbstractTask]] = {
    config.Classify: Classify,
    config.MultiLabel: MultiLabel,
    config.Distill: Distill,
}
config.Task.TABLE = TASKS  # files and command lines know every task of the table


def make_task(config: Any, width: int, *, key: PRNGKeyArray) -> AbstractTask:
    """A fresh task on features of this width."""
    return TASKS[type(config)](config, width, key=key)  # pyright: ignore[reportCallIssue]


def prepare(config: Any, classes: Sequence[str], load: Callable[[str], Any]) -> PreparedTask:
    """The task with nothing left open, for data of these classes; `load` opens a saved model.   Raises ConfigError."""
    return TASKS[type(config)].prepare(config, classes, load)
