"""Draw the three coordinates of position embeddings, and the cosine similarity of positions for each kind.

python examples/plot_posembed.py docs/img/posembed.png
"""

import sys

import numpy as np
from matplotlib.figure import Figure

from reference.patches import raster
from reference.posembed import locate, posembed

IMAGES = {"160 x 224 px": (5, 7), "128 x 96 px": (4, 3)}  # height x width in patches of 32 px   [NaViT, fig. 16]
COORDINATES = {
    "absolute": "absolute: patches",
    "fractional": "fractional: share of each side",
    "fractional_aspect": "fractional_aspect: share of the longest",
}
COLORS = ("tab:blue", "tab:orange")
GRID, MARKED, WIDTH, M = (8, 16), (3, 5), 768, 16


def kinds(rng: np.random.Generator) -> dict[str, dict]:
    """Initial parameters of each kind, by title of the panel."""
    tables = 0.02 * rng.normal(size=(2, M, WIDTH))
    table = {"coordinate": "absolute", "feature": "learned", "combine": "sum", "tables": tables}
    square = {"coordinate": "fractional", "feature": "resized", "table": 0.02 * rng.normal(size=(4, 4, WIDTH))}
    frequencies = rng.normal(size=(2, WIDTH // 2))
    return {
        "Factorised(combine='sum')": table,
        "Factorised(combine='product')": table | {"combine": "product", "tables": 1 + tables},
        "Factorised(coordinate='fractional')": table | {"coordinate": "fractional"},
        "Joint(16, 'absolute', 'learned')": square | {"coordinate": "absolute", "feature": "learned",
                                                      "table": 0.02 * rng.normal(size=(M, M, WIDTH))},
        "Joint(4)": square,
        "Sinusoidal()": {"coordinate": "absolute", "combine": "stack", "size": M, "width": WIDTH // 2},
        "Fourier(scale=0.2)": {"coordinate": "absolute", "size": M, "frequencies": 0.2 * frequencies},
        "Fourier(16, 'fractional', 0.4)": {"coordinate": "fractional", "size": M, "frequencies": 0.4 * frequencies},
    }  # fmt: skip


def draw_coordinate(axis, coordinate: str, title: str) -> None:
    """Draw the positions of the patches of two images: centers as dots, outlines as lines."""
    corner = 0.0 if coordinate == "absolute" else 0.5  # fractional coordinates start at the corner of the image
    for (name, grid), color in zip(IMAGES.items(), COLORS):
        coords = raster(grid)
        u, step = locate(coordinate, coords, np.broadcast_to(np.array(grid), coords.shape), 1)
        centers = u + corner
        (top, left), (bottom, right) = (centers - step / 2).min(0), (centers + step / 2).max(0)
        axis.plot(centers[:, 1], centers[:, 0], "o", color=color, markersize=4, alpha=0.7, label=name)
        axis.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=color, alpha=0.8)
    axis.set(title=title, xlabel="x", ylabel="y", aspect="equal")
    axis.invert_yaxis()


def draw_similarity(axis, params: dict, title: str):
    """Draw the cosine similarity of all embeddings to that of one patch, after subtraction of the mean."""
    coords = raster(GRID)
    p = posembed(params, coords, np.broadcast_to(np.array(GRID), coords.shape))
    p = p - p.mean(0)
    p = p / np.linalg.norm(p, axis=-1, keepdims=True)
    similarity = p @ p[MARKED[0] * GRID[1] + MARKED[1]]
    picture = axis.imshow(similarity.reshape(GRID), vmin=-1, vmax=1, cmap="RdBu_r")
    axis.set(title=title, xticks=[], yticks=[])
    return picture


def main(path: str) -> None:
    figure = Figure(figsize=(13, 9.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    above.suptitle("Coordinates of two images, patch by patch")
    for axis, (coordinate, title) in zip(above.subplots(1, 3), COORDINATES.items()):
        draw_coordinate(axis, coordinate, title)
    above.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    below.suptitle("Cosine similarity of the positions of a grid of 8 x 16 to the marked one, at initialization")
    panels = below.subplots(2, 4)
    for axis, (title, params) in zip(panels.flat, kinds(np.random.default_rng(0)).items()):
        picture = draw_similarity(axis, {"kind": title.partition("(")[0], **params}, title)
        axis.plot(MARKED[1], MARKED[0], "k+")
    below.colorbar(picture, ax=panels, shrink=0.6)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main(sys.argv[1])
