"""A student and a teacher that share rows, and what both see."""

from dataclasses import replace

import numpy as np

from data.plan import EpochPlans, epoch_order, grids_of
from data.rows import Pixels, PlannedRows
from data.sampling.augment import Augment
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.patch_size import OneSize
from data.sampling.resolution import Native
from data.stream import Epochs
from data.tasks import TASKS
from data.tasks.distill import PairedRows, TeacherBudget
from navit_eqx.tasks.config import Distill
from navit_eqx.weights.bridge import to_reference
from reference.resize import FLEXIVIT
from reference.rows import Row
from tests.support.flexi import ARRAYS
from tests.support.strategies import CLASSES, CONFIG, PATCH, TASK, I, T, model

SAME = OneSize(PATCH)
VIEW = TeacherBudget(patch=(3, 3), row_tokens=20, longest_side=6)
FAST = model(task=Distill("a run", classes=CLASSES))
PARAMS = to_reference(FAST)
TEACHER = model(1, replace(CONFIG, patch=VIEW.patch), TASK)
TEACHER_PARAMS = to_reference(TEACHER)
NATIVE = Native()


def plans_of(law, view=VIEW, source=ARRAYS, **changes) -> EpochPlans:
    """Plans in which student and teacher share rows."""
    sampling = {
        "seed": 1, "patch_size": law, "resolution": NATIVE, "dropping": Constant(0.2), "packing": Packing(T, I),
        "longest_side": 6, "budget": view,
    }  # fmt: skip
    return EpochPlans(source, sampling | changes)


def taught_by(view, epoch: int, *, resolution=NATIVE, sizes=ARRAYS.manifest.sizes, seed: int = 1):
    """The images of an epoch in shuffled order, and the grids at which the teacher sees them."""
    images = epoch_order(len(sizes), seed, epoch)
    return images, grids_of(resolution, sizes[images], seed, epoch, 0, view.patch)


def paired(plans: EpochPlans, view, pixels: Pixels, augment: Augment | None = None) -> PairedRows:
    """All rows of the first epoch, in pairs."""
    plan = plans(0).complete()
    packing, seed = plans.sampling["packing"], plans.sampling["seed"]
    rows = PlannedRows(plans.source, Epochs(plans), len(plan.image_ids), pixels, packing.row_tokens, seed, augment)
    known = {"sizes": CONFIG.sizes | {"classes": CLASSES}, "mean": (0.5,), "std": (0.5,)}
    return TASKS["Distill"](**vars(view), **known).batches(rows)


def pairs_of(law, view=VIEW, source=ARRAYS) -> PairedRows:
    mapped = None if isinstance(law, OneSize) else FLEXIVIT
    return paired(plans_of(law, view, source), view, Pixels(PATCH, interpolation=mapped))


def used(row: Row) -> np.ndarray:
    """Slots with an image."""
    return np.flatnonzero(row.grids[..., 0] > 0)
