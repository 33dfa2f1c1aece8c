"""How square images are.   [NaViT, fig. 3]"""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from data.errors import BadImage, DataMissing
from data.sources.decode import read_size
from data.sources.digits import Digits
from data.sources.layout import SUFFIXES
from experiments.computed import command_line, main, stated
from harness.evaluation.pictures import sheet

FOLDER = Path(__file__).parent
PAPER = {"ImageNet": 85.9, "LVIS": 92.2, "WebLI": 57.3}  # per cent more than a fifth off square
OFF = 1.2
EDGES = np.linspace(-3.25, 3.25, 66)  # log2 of height / width


def sizes_in(root: Path) -> Int[np.ndarray, "N 2"]:
    """Height and width of every readable image below a folder, from headers alone."""
    found = []
    for image in encoded(root):
        try:
            found.append(read_size(image))
        except BadImage:
            continue
    if not found:
        raise DataMissing(f"{root} holds no readable image")
    return np.array(found, np.int32)


def encoded(root: Path) -> Iterator[bytes]:
    """Image files, and the column `image` of parquet files."""
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            yield path.read_bytes()
        elif path.suffix == ".parquet":
            yield from (image["bytes"] for image in pq.read_table(path, columns=["image"])["image"].to_pylist())


def ratios(sizes: Int[np.ndarray, "N 2"]) -> Float[np.ndarray, " N"]:
    """Height / width."""
    return sizes[:, 0] / sizes[:, 1]


def off_square(ratio: Float[np.ndarray, " N"]) -> float:
    """Share of images with one side more than a fifth longer than the other.   Choice: the paper names no formula."""
    return float((np.maximum(ratio, 1 / ratio) > OFF).mean())


def measure(options: Namespace) -> dict:
    sets = {"digit strips": ratios(Digits().open("", "train").manifest.sizes)}
    sets |= {root.partition("/")[0]: ratios(sizes_in(Path(root))) for root in options.root}
    shares = {name: off_square(ratio) for name, ratio in sets.items()}
    rows = [{"set": name, "images": len(sets[name]), "more than 20 % off square": f"{share:.1%}"}
            for name, share in shares.items()]  # fmt: skip
    rows += [
        {"set": f"{name} (paper)", "images": "", "more than 20 % off square": f"{p}%"} for name, p in PAPER.items()
    ]
    found = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return {
        "claims": [stated("Most images are not square, in every set", found, min(shares.values()) > 0.5)],
        "tables": [rows],
        "edges": EDGES.tolist(),
        "densities": {n: np.histogram(np.log2(r), EDGES, density=True)[0].round(4).tolist() for n, r in sets.items()},
    }


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 1) as (axis,):
        for name, heights in result["densities"].items():
            axis.stairs(heights, result["edges"], label=name, linewidth=1.5)
        axis.axvspan(-np.log2(OFF), np.log2(OFF), color="grey", alpha=0.15)
        ticks = 2.0 ** np.arange(-3, 4)
        axis.set_xticks(np.log2(ticks), [f"{t:g}" for t in ticks])
        axis.set(
            xlabel="height / width", ylabel="density per octave", title="Aspect ratios (grey: within 20 % of square)"
        )
        axis.legend()


if __name__ == "__main__":
    main(FOLDER, measure, draw, command_line(root="folder of images; may be given several times"))
