"""The data's side of each task: targets of a row by the plan alone, scores of predictions.

    task.py         what every task asks of the data
    classify.py     one class per image
    multi_label.py  a set of classes per image
    distill.py      the logits of a teacher

Keys of the table are the names of the tasks' configurations, as in `reference/tasks` and `navit_eqx/tasks`.
"""

from .classify import Classify
from .distill import Distill
from .multi_label import MultiLabel
from .task import DataTask as DataTask

TASKS: dict[str, type[DataTask]] = {"Classify": Classify, "MultiLabel": MultiLabel, "Distill": Distill}
