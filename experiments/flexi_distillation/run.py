"""A flexible student of a model with fine patches: teacher as a start, as a target, or neither.   [FlexiViT, fig. 5]"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.claims import Claim
from experiments.flexi_bed import SIZES, at, fixed, flexible
from experiments.pictures import statistics
from experiments.trained import Experiment, main
from experiments.trial import training_flops
from harness.config import Config
from harness.pictures import COLOURS, sheet
from navit_eqx.config import Distill

TEACHER = f"teacher, {SIZES[0]} px"
TAUGHT = "what the teacher says, from its weights"
TAUGHT_ANEW = "what the teacher says, from nothing"
LABELS = "labels, from its weights"
LABELS_ANEW = "labels, from nothing"
STUDENTS = (TAUGHT, TAUGHT_ANEW, LABELS, LABELS_ANEW)
AS_LONG = {name: f"{name}, as many steps" for name in (TAUGHT, TAUGHT_ANEW)}
LONG = 1800  # steps of the teacher, the same however long students learn
FINE, COARSE = SIZES[:2], SIZES[-2:]


def arms(steps: int) -> dict[str, Config]:
    """Students of labels have so many steps; those of the teacher fewer, since its forward passes count, and once more
    as many."""
    teacher, labels = fixed(LONG, SIZES[0]), flexible(steps)
    long = replace(labels, loss=Distill(TEACHER, row_tokens=384))
    taught = replace(long, steps=round(steps * training_flops(labels) / training_flops(long, teacher.model)))
    return {
        TEACHER: teacher,
        TAUGHT: replace(taught, start=TEACHER),
        TAUGHT_ANEW: taught,
        LABELS: replace(labels, start=TEACHER),
        LABELS_ANEW: labels,
        AS_LONG[TAUGHT]: replace(long, start=TEACHER),
        AS_LONG[TAUGHT_ANEW]: long,
    }


def above(other: str) -> tuple:
    return (((TAUGHT,), (other,)),)


CLAIMS = (
    Claim(
        "From the teacher's weights, taught by it, is two points above labels from nothing", 0.02, above(LABELS_ANEW)
    ),
    Claim("So it is at 12 and 15 pixels", 0.02, above(LABELS_ANEW), at(*COARSE)),
    Claim("So it is at 6 and 8 pixels", 0.02, above(LABELS_ANEW), at(*FINE)),
    Claim("It is two points above the same teaching from nothing", 0.02, above(TAUGHT_ANEW)),
    Claim("It is at most a point below labels from the same weights", -0.01, above(LABELS)),
)


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 1) as (axis,):
        for colour, name in zip(COLOURS, (*STUDENTS, TEACHER)):
            curve(axis, result, name, color=colour, fmt="o:" if name == TEACHER else "o-")
            if name in AS_LONG:
                curve(axis, result, AS_LONG[name], color=colour, fmt="s--")
        axis.set(xlabel="patch size at test time (pixels)", ylabel="accuracy, % (bars: one standard error)")
        axis.set_title("A flexible student at equal FLOPs (dashed: at equal steps)")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)


def curve(axis: Any, result: Mapping, name: str, **style: Any) -> None:
    mean, error = zip(*(statistics(result, name, at(size)) for size in SIZES))
    axis.errorbar(SIZES, mean, error, capsize=2, label=name, ms=4, **style)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, at(*SIZES), CLAIMS, draw))
