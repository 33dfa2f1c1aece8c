"""Equal tokens four ways on photographs: merged, smaller, dropped at random or by contrast.   [APT, arXiv:2510.18091]

Needs the folder `caltech101` of NAVIT_DATASETS (train/<class>/*, val/<class>/*).
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data.sampling.dropping import Constant
from data.sampling.merge import Merge
from data.sampling.resolution import Sides, TokenBudget
from data.sampling.token_selection import ByContrast
from experiments.adaptive_tokens import run as strips
from experiments.claims import Claim
from experiments.fig01_photographs.run import PHOTOGRAPHS, packed
from experiments.pictures import dots
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import sheet

TOKENS = (34, 24)  # of an image in the mean; the whole one has 62
WHOLE = TokenBudget(64)
MERGED = {34: Merge(0.6), 24: Merge(0.8)}
SMALLER = {34: TokenBudget(35), 24: TokenBudget(25)}
DROPPED = {34: Constant(0.44), 24: Constant(0.605)}
RATE = 0.01  # that of NaViT in fig01_photographs


def way(name: str, tokens: int) -> dict[str, Any]:
    """Fields of `DataConfig` by which photographs have so many tokens in the mean."""
    return {
        "merge": {"resolution": WHOLE, "merge": MERGED[tokens]},
        "resize": {"resolution": SMALLER[tokens]},
        "drop": {"resolution": WHOLE, "dropping": DROPPED[tokens]},
        "contrast": {"resolution": WHOLE, "dropping": DROPPED[tokens], "token_selection": ByContrast()},
    }[name]


def arm(steps: int, **data: Any) -> Config:
    """A run on packed photographs."""
    config = packed(Sides(64, 64), RATE, 64.0, steps, PHOTOGRAPHS)
    return replace(config, data=replace(config.data, val_resolution=float(data["resolution"].tokens), **data))


def arms(steps: int) -> dict[str, Config]:
    """All of as many steps of 960 token places: equal compute, and at equal tokens equal images."""
    ways = {f"{name}, {t}": arm(2 * steps, **way(name, t)) for t in TOKENS for name in strips.WAYS}
    return {"whole": arm(2 * steps, resolution=WHOLE)} | ways


def trial(config: Config, settings: tuple[str, ...], keep: Path | None = None) -> dict:
    """A trial on the photographs of this machine: the folder that holds them is no part of what a result depends on."""
    root = Path(os.environ["NAVIT_DATASETS"]) / config.data.root
    return strips.trial(replace(config, data=replace(config.data, root=str(root))), settings, keep)


def budget(arm: str) -> int:
    """Compute of an arm: all are equal. Tokens are not, for images of 36 kept tokens leave 9 % of a row of 96 empty."""
    return 1


each = partial(strips.each, tokens=TOKENS)
CLAIMS = (
    Claim("Merging is at least as good as a smaller image with as many tokens, at 34 and at 24",
          0.0, each("merge, {}", "resize, {}")),
    Claim("Merging is two points above dropping, at random and by contrast, at 34 and at 24",
          0.02, each("merge, {}", "drop, {}") + each("merge, {}", "contrast, {}")),
    Claim("A smaller image is two points above tokens dropped at random, at 34 and at 24",
          0.02, each("resize, {}", "drop, {}")),
    Claim("Dropping by contrast is at least as good as dropping at random, at 34 and at 24",
          0.0, each("contrast, {}", "drop, {}")),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    """The ways at 34 and at 24 tokens, beside the whole image."""
    with sheet(path, len(TOKENS)) as axes:
        for axis, t in zip(axes, TOKENS):
            dots(axis, {"trials": strips.read(result["trials"])}, ["whole", *(f"{name}, {t}" for name in strips.WAYS)])
            axis.set_xlabel("accuracy, % (bars: 95 % interval)")
            axis.set_title(f"{t} tokens an image; whole: 62")


if __name__ == "__main__":
    if "NAVIT_DATASETS" in os.environ:
        main(Experiment(Path(__file__).parent, arms, (strips.OWN,), CLAIMS, draw, strips.read, trial))
    else:
        print("not run: NAVIT_DATASETS names no folder that holds caltech101")
