"""Which tokens stay, at equal drop rates: at random, spread out, by contrast.   [NaViT drops at random]"""

from collections.abc import Mapping
from pathlib import Path

from data.sampling.dropping import Constant
from data.sampling.token_selection import AtRandom, ByContrast, Spread
from experiments.bed import RESOLUTIONS, bed
from experiments.claims import Claim
from experiments.pictures import curves, dots
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import sheet

LAWS = {"at random": AtRandom(), "spread": Spread(), "by contrast": ByContrast()}
RATES = (0.5, 0.75)


def named(law: str) -> tuple[str, ...]:
    return tuple(f"{law}, {rate:g}" for rate in RATES)


def arms(steps: int) -> dict[str, Config]:
    return {
        f"{name}, {rate:g}": bed(steps, dropping=Constant(rate), token_selection=law)
        for rate in RATES
        for name, law in LAWS.items()
    }


CLAIMS = (
    Claim("Spread tokens teach more than random ones", 0.005, ((named("spread"), named("at random")),)),
    Claim("Tokens of high contrast teach more than random ones", 0.005, ((named("by contrast"), named("at random")),)),
    Claim("So they do where three of four are dropped", 0.005, ((named("by contrast")[1:], named("at random")[1:]),)),
)


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as (left, right):
        dots(left, result)
        left.set_title("Which tokens stay, and the share dropped")
        curves(right, result)
        right.set_title("Accuracy over resolutions, all tokens kept")


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, RESOLUTIONS, CLAIMS, draw))
