"""Printed percentages of the drop-rate laws and corners of the coordinate systems.   [NaViT, figs. 14, 16]"""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.sampling.dropping import Beta
from examples.plot_posembed import COORDINATES, IMAGES, draw_coordinate
from experiments.computed import command_line, main, stated
from harness.evaluation.pictures import sheet
from reference.patches import raster
from reference.posembed import locate

FOLDER, COUNT = Path(__file__).parent, 400_000
PAPER = {
    0.4: {0.10: 60.3, 0.25: 11.5, 0.35: 1.3},
    0.7: {0.10: 66.9, 0.25: 27.3, 0.50: 2.3, 0.65: 0.1},
    0.9: {0.10: 70.4, 0.25: 33.5, 0.50: 5.9, 0.70: 0.9, 0.85: 0.1},
}  # highest rate → mean rate → per cent of the images that lose less than a tenth
CORNERS = {"absolute": [(6, 4), (2, 3)], "fractional_aspect": [(1.0, 0.71), (0.75, 1.0)]}  # (x, y) of IMAGES


def small_rates(mean: float, highest: float) -> float:
    """Per cent of the images that lose less than a tenth of their tokens."""
    tokens = np.zeros(COUNT, int)
    return float(100 * (Beta(mean, highest).rates(np.random.default_rng(0), tokens, tokens) < 0.1).mean())


def corner(coordinate: str, grid: tuple[int, int]) -> tuple[float, float]:
    """(x, y) of the last patch as the figure prints it: its index, or where it ends as a share."""
    coords = raster(grid)
    u, step = locate(coordinate, coords, np.broadcast_to(np.array(grid), coords.shape), 1)
    end = u[-1] if coordinate == "absolute" else u[-1] + 0.5 + step[-1] / 2
    return float(end[1]), float(end[0])


def measure(options: Namespace) -> dict:
    rates = [{"highest": h, "mean": m, "paper, %": paper, "here, %": round(small_rates(m, h), 1)}
             for h, means in PAPER.items() for m, paper in means.items()]  # fmt: skip
    off = max(abs(row["here, %"] - row["paper, %"]) for row in rates)
    corners, equal = [], True
    for coordinate, wants in CORNERS.items():
        for want, (name, grid) in zip(wants, IMAGES.items()):
            here = corner(coordinate, grid)
            equal &= np.allclose(here, want, atol=0.005)
            shown = {"paper (x, y)": str(want), "here": f"({here[0]:.3g}, {here[1]:.3g})"}
            corners.append({"coordinate": coordinate, "image": name, **shown})
    claims = [
        stated("The Beta law gives the twelve printed percentages, within a point", f"{off:.1f} off at most", off < 1),
        stated("Coordinates end where the figure says", f"{len(corners)} corners compared", equal),
    ]  # fmt: skip
    return {"claims": claims, "tables": [rates, corners]}


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 3) as (first, *others):
        rates = result["tables"][0]
        for highest in PAPER:
            mine = [row for row in rates if row["highest"] == highest]
            first.plot(
                [r["paper, %"] for r in mine], [r["here, %"] for r in mine], "o", label=f"highest rate {highest}"
            )
        first.plot([0.05, 80], [0.05, 80], color="grey", linewidth=0.8)
        first.set(
            xscale="log", yscale="log", xlabel="paper", ylabel="here", title="Images that lose less than a tenth, %"
        )
        first.legend()
        for axis, coordinate in zip(others, CORNERS):
            draw_coordinate(axis, coordinate, COORDINATES[coordinate])
            axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)


if __name__ == "__main__":
    main(FOLDER, measure, draw, command_line())
