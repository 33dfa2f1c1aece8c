"""Data side of each task: targets of a row, scores of predictions.

    task.py         interface of a task
    classify.py     one class per image
    multi_label.py  a set of classes per image
    distill.py      the row that a teacher reads
    embed.py        features, without targets
    contrast.py     rows of texts with the same pairs as the rows of images
    zero_shot.py    classes named by texts
    detect.py       boxes of a row, average precision
    segment.py      a class for every pixel, mean IoU

Keys of TASKS are the class names of task configurations in `navit_eqx/tasks/config.py`.
"""

from .classify import Classify
from .contrast import Contrast
from .detect import Detect
from .distill import Distill
from .embed import Embed
from .multi_label import MultiLabel
from .segment import Segment
from .task import DataTask as DataTask
from .zero_shot import ZeroShot

TASKS: dict[str, type[DataTask]] = {
    "Classify": Classify,
    "MultiLabel": MultiLabel,
    "Distill": Distill,
    "Embed": Embed,
    "Contrast": Contrast,
    "ZeroShot": ZeroShot,
    "Detect": Detect,
    "Segment": Segment,
}
