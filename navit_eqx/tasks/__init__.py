"""Tasks: heads, losses and outputs on top of a backbone.

    config.py       task configurations as frozen dataclasses
    task.py         the base class of tasks
    classify.py     one class per image
    multi_label.py  a set of classes per image
    distill.py      distillation from the logits of a teacher
    pair_losses.py  contrastive losses of images and texts: in blocks, around devices
    embed.py        features, of imported towers
    contrast.py     images and texts in one embedding
    zero_shot.py    classes named by texts
    config_detect.py  configuration of detection
    detect.py       boxes with classes, on the encoded tokens
    class_heads.py  classes of boxes that are named by texts
    segment.py      a class for every pixel
    model.py        `Model`: backbone and task

A new task is a file here, one in `reference/tasks` and one in `data/tasks`, and a line in the table of each.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import PRNGKeyArray

from . import config, config_detect
from .classify import Classify
from .contrast import Contrast
from .detect import Detect
from .distill import Distill
from .embed import Embed
from .multi_label import MultiLabel
from .segment import Segment
from .task import AbstractTask as AbstractTask
from .task import PreparedTask as PreparedTask
from .zero_shot import ZeroShot

TASKS: dict[type, type[AbstractTask]] = {
    config.Classify: Classify,
    config.MultiLabel: MultiLabel,
    config.Distill: Distill,
    config.Embed: Embed,
    config.Contrast: Contrast,
    config.ZeroShot: ZeroShot,
    config_detect.Detect: Detect,
    config.Segment: Segment,
}
config.Task.TABLE = TASKS  # configuration files and command lines accept every task of the table


def make_task(config: Any, width: int, *, key: PRNGKeyArray) -> AbstractTask:
    """Initialize the task of a configuration, for features of this width."""
    return TASKS[type(config)](config, width, key=key)  # pyright: ignore[reportCallIssue]


def prepare(config: Any, classes: Sequence[str], load: Callable[[str], Any]) -> PreparedTask:
    """Resolve the automatic values of a task for data with these classes; `load` opens a saved model.

    Raises ConfigError where configuration and data contradict each other.
    """
    return TASKS[type(config)].prepare(config, classes, load)
