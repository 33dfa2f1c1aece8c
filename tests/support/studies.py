"""A model of random numbers on a few digit strips, for studies; and the files of its run."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from data.sources.digits import Digits
from data.tasks import TASKS
from harness.digit_presets import large_digits
from harness.evaluation.predictions import Context
from harness.run.folder import write_config
from navit_eqx import ModelInfo, save_model
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import abstract_model
from tests.support.strategies import filled

RESOLUTIONS = (0.5, 0.8)
SMALL = ModelConfig((8, 8), width=16, depth=1, heads=2, mlp_width=16, posembed=Factorised(24), dtype="float32")
SOFTMAX = Classify(classes=10)


@lru_cache
def context(task=SOFTMAX) -> Context:
    """A model of random numbers: its predictions differ between images and resolutions."""
    base = large_digits()
    data = replace(base.data, source=Digits(train_images=150, val_images=60), val_resolution=0.8)
    config = replace(base, model=SMALL, task=task, data=data, rows=4)
    model = filled(abstract_model(SMALL, task), 0, "float32")
    return Context(model, config, data.source.open("", "val"), TASKS[type(task).__name__](), RESOLUTIONS)


def saved_run(folder: Path, run: Context) -> Path:
    """What evaluate.py needs of a run."""
    classes = run.source.manifest.classes
    info = ModelInfo(classes, replace(ModelInfo().preprocessing, row_tokens=96), run.source.manifest.where)
    save_model(folder / "model", run.model, info)
    write_config(folder, run.config, "digits")
    return folder
