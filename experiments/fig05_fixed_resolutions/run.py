"""One law of resolutions, or the largest alone: equal compute, every resolution evaluated.   [NaViT, fig. 5]"""

from collections.abc import Mapping
from pathlib import Path

from data.sampling.resolution import Native
from experiments.claims import Claim
from experiments.compute_bed import feed
from experiments.pictures import curves
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import sheet

LOWEST = 0.6
LARGEST = (0.8, 1.2, 1.65)
RESOLUTIONS = (LOWEST, *LARGEST)
RATE = 0.01  # of figure 1


def variable(largest: float) -> str:
    return f"{LOWEST} to {largest}"


def fixed(largest: float) -> str:
    return f"{largest} alone"


def arms(steps: int) -> dict[str, Config]:
    """Twice the smallest budget of figure 1 each."""
    laws = {variable(r): Native(LOWEST, r) for r in LARGEST} | {fixed(r): Native(r, r) for r in LARGEST}
    return {name: feed(law, RATE, 1.0, 2 * steps) for name, law in laws.items()}


EACH = tuple(((variable(r),), (fixed(r),)) for r in LARGEST)
ELSEWHERE = ((tuple(map(variable, LARGEST)), tuple(map(fixed, LARGEST))),)

CLAIMS = (
    *(Claim(f"At {at}, each law is at most a point worse than its largest resolution alone", -0.01, EACH, (at,))
      for at in RESOLUTIONS),
    *(Claim(f"At {r} itself, the variable law is at most a point worse", -0.01,
            (((variable(r),), (fixed(r),)),), (r,)) for r in LARGEST),
    Claim("Over all resolutions and laws it is three points better", 0.03, ELSEWHERE),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, len(LARGEST)) as axes:
        for axis, largest in zip(axes, LARGEST):
            curves(axis, result, [variable(largest), fixed(largest)])
            axis.axvline(largest, color="gray", ls=":")
            axis.set(ylim=(0, 100), title=f"Trained up to {largest} (dotted)")


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, RESOLUTIONS, CLAIMS, draw))
