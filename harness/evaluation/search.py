"""Images found by a text: the ranking of image files, and a contact sheet of the best."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

import navit_eqx as navit
from data.manifest import printable
from data.sources.decode import decode, read_file

from .pictures import save

COLUMNS, SIDE = 4, 256  # of the contact sheet; side of a picture in pixels


def similarities(model: navit.Model, vectors: Float[np.ndarray, "N E"], text: str) -> Float[np.ndarray, " N"]:
    """Cosine of the embedding of each image and of the text; −∞ where an image has none."""
    found = vectors @ navit.embed_texts(model, [text])[0]
    return np.where(np.isnan(found), -np.inf, found)


def contact_sheet(paths: Sequence[str], scores: Sequence[float], text: str, to: Path) -> None:
    """Draw the images in order, with their names and similarities, under the text, as PNG."""
    rows = -(-len(paths) // COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 2.7 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, path, score in zip(axes, paths, scores):
        picture = decode(read_file(Path(path)))
        axis.imshow(picture[:: max(1, len(picture) // SIDE), :: max(1, len(picture) // SIDE)])
        axis.set_title(f"{shortened(printable(Path(path).name))}\n{score:.3f}", fontsize=8)
    figure.suptitle(shortened(printable(text), 80), parse_math=False)
    save(figure, to)


def shortened(name: str, most: int = 28) -> str:
    """A name of at most so many characters; a dollar sign would start a formula."""
    name = name.replace("$", r"\$")
    return name if len(name) <= most else f"{name[: most - 1]}…"
