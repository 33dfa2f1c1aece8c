"""Images and kernel enlarged together: which resize of the kernel keeps what was learned?   [FlexiViT, fig. 4]"""

from collections.abc import Mapping
from pathlib import Path

from experiments.bed import bed
from experiments.claims import Claim, against_each
from experiments.pictures import line, statistics
from experiments.settings import Setting, name
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import sheet
from reference.resize import RESIZES

OWN = 8
SIZES = (5, 6, 8, 12, 16, 24)
SMALLER, LARGER = SIZES[:2], SIZES[3:]
KERNELS = tuple(RESIZES)
BY_KERNEL = {kernel: [Setting(size / OWN, size, kernel) for size in SIZES] for kernel in KERNELS}
SETTINGS = tuple(setting for settings in BY_KERNEL.values() for setting in settings)


def arms(steps: int) -> dict[str, Config]:
    return {"patches of 8": bed(steps)}


def read(trials: list[dict]) -> list[dict]:
    """Each trained model four times: once for each way to resize its kernel."""
    names = [name(setting) for setting in at(*SIZES)]
    return [
        {**trial, "arm": kernel, "accuracy": {n: trial["accuracy"][name(at)] for n, at in zip(names, settings)}}
        for kernel, settings in BY_KERNEL.items()
        for trial in trials
    ]


def at(*sizes: int) -> tuple[Setting, ...]:
    return tuple(Setting(size / OWN, size) for size in sizes)


CLAIMS = (
    Claim(
        "Enlarged, PI-resize is five points above each of the others", 0.05, against_each("pi", KERNELS), at(*LARGER)
    ),
    Claim("Shrunk, it is not worse than any of them", 0.0, against_each("pi", KERNELS), at(*SMALLER)),
)


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 1) as (axis,):
        for kernel in KERNELS:
            line(
                axis,
                SIZES,
                [statistics({"trials": read(result["trials"])}, kernel, at(size)) for size in SIZES],
                kernel,
            )
        axis.axvline(OWN, color="grey", ls=":", label="trained")
        axis.set(xlabel="patch size (pixels); the image grows with it", ylabel="accuracy, % (bars: 95 % interval)")
        axis.set_title("One trained model, its kernel resized in four ways")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, SETTINGS, CLAIMS, draw, read))
