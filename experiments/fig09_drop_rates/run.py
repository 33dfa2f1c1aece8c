"""Laws of dropping: constant, Beta per image, by resolution, none.   [NaViT, fig. 9]"""

from collections.abc import Mapping
from pathlib import Path

from data.sampling.dropping import Beta, ByResolution, Constant
from experiments.bed import RESOLUTIONS, bed
from experiments.claims import Claim
from experiments.pictures import dots, statistics
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import sheet

MEANS = (0.5, 0.75)
LAWS = {
    "none": Constant(0.0),
    **{f"constant {mean:g}": Constant(mean) for mean in MEANS},
    **{f"Beta {mean:g}": Beta(mean, 0.9) for mean in MEANS},
    "by resolution, 0.25 to 0.75": ByResolution(0.25, 0.75),
    "by resolution, 0.1 to 0.9": ByResolution(0.1, 0.9),
}
CONSTANT, BETA = (tuple(f"{law} {mean:g}" for mean in MEANS) for law in ("constant", "Beta"))


def arms(steps: int) -> dict[str, Config]:
    return {name: bed(steps, dropping=law) for name, law in LAWS.items()}


CLAIMS = (
    Claim("Beta is better than constant dropping, over two mean rates", 0.005, ((BETA, CONSTANT),)),
    Claim("Beta is no more than half a point worse", -0.005, ((BETA, CONSTANT),)),
    Claim("So it is at the highest mean rate", 0.005, ((("Beta 0.75",), ("constant 0.75",)),)),
    Claim("By resolution is no more than half a point worse than Beta", -0.005,
          tuple(((name,), ("Beta 0.5",)) for name in LAWS if name.startswith("by"))),
    Claim("Dropping half of the tokens beats dropping none at equal tokens", 0.005, ((("Beta 0.5",), ("none",)),)),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as (left, right):
        for law, names in (("constant", CONSTANT), ("Beta(mean, 0.9)", BETA)):
            mean, error = zip(*(statistics(result, name) for name in names))
            left.errorbar(MEANS, mean, error, fmt="o-", capsize=2, label=law)
        left.axhline(statistics(result, "none")[0], color="grey", linestyle=":", label="no dropping")
        left.set(xlabel="mean drop rate", ylabel="mean accuracy over resolutions, %", title="Constant and Beta")
        left.grid(alpha=0.3)
        left.legend()
        dots(right, result)
        right.set_title("All laws, equal tokens")


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, RESOLUTIONS, CLAIMS, draw))
