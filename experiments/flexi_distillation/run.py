"""A flexible student of a model with fine patches: teacher as a start, as a target, or neither.   [FlexiViT, fig. 5]"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from experiments.claims import Claim
from experiments.flexi_bed import SIZES, at, fixed, flexible
from experiments.pictures import statistics
from experiments.trained import Experiment, main
from experiments.trial import sizes, training_flops
from harness.config import Config
from harness.evaluation.pictures import COLORS, sheet
from navit_eqx.tasks.config import Distill

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
    long = replace(labels, task=Distill(TEACHER, row_tokens=384, classes=10))
    taught = replace(long, steps=round(steps * training_flops(labels) / training_flops(long, sizes(teacher))))
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
    as_long = [AS_LONG.get(name, name) for name in STUDENTS]
    with sheet(path, 2) as axes:
        for axis, names, equal in zip(axes, (STUDENTS, as_long), ("FLOPs", "steps")):
            for color, name, label in zip(COLORS, (*names, TEACHER), (*STUDENTS, TEACHER)):
                mean, error = zip(*(statistics(result, name, at(size)) for size in SIZES))
                line = ":" if name == TEACHER else "-"
                axis.errorbar(SIZES, mean, error, fmt=f"o{line}", capsize=2, label=label, color=color, ms=4)
            axis.set(xlabel="patch size at test time (pixels)", ylabel="accuracy, % (bars: 95 % interval)")
            axis.set_title(f"A flexible student at equal {equal}")
            axis.grid(alpha=0.3)
            axis.set(ylim=(-25, 95), yticks=range(0, 100, 20))  # the legend stands below
            axis.legend(fontsize=8, loc="lower left")


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, at(*SIZES), CLAIMS, draw))
