"""Pictures of clips: the tubelets of each shape on the frames, and the row in which clips are packed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from navit_eqx.config import ModelConfig
from reference.resize import resize_image
from reference.rows import Row

from .pictures import as_color, bare, color, denormalized, draw_tokens, save

MOST_FRAMES = 12  # in the picture
MISSING = 235 / 255  # gray level of places without a token


def places(row: Row, slot: int, number: int, base: Sequence[int]) -> Float[np.ndarray, "T 3"]:
    """Centers (frame, row, column) of the tubelets of one shape of a clip, in frames and pixels."""
    here = (row.segment_ids == slot) & (row.coords[:, 0] == number)
    return (row.coords[here, 1:] + 0.5) * base


def frames_of(row: Row, slot: int, model: ModelConfig) -> Float[np.ndarray, "f h w C"]:
    """The frames of a clip, put together from the tokens of its first shape; dropped and uncovered places are gray."""
    base, shapes = model.patch, model.tubelet_shapes
    space = np.rint(row.grids[slot - 1, 1:] * base).astype(int)
    size = [min(n, length) for n, length in zip(shapes[0], space)]
    here = (row.segment_ids == slot) & (row.coords[:, 0] == 0)
    patches = denormalized(row.patches[here].astype(float).reshape(here.sum(), *base, -1), model.mean, model.std)
    clip = np.full((*space, patches.shape[-1]), MISSING)
    for patch, center in zip(patches, places(row, slot, 0, base)):
        f, y, x = np.rint(center - np.array(size) / 2).astype(int)
        clip[f : f + size[0], y : y + size[1], x : x + size[2]] = resize_image(patch, size)
    return clip


def draw_tubelets(row: Row, model: ModelConfig, path: Path) -> None:
    """Draw the longest clip of a row with the tubelets of each shape, and the row as the model reads it."""
    base, shapes = model.patch, model.tubelet_shapes
    slot = 1 + int(row.grids[:, 1].argmax())
    clip = frames_of(row, slot, model)
    shown = np.linspace(0, len(clip) - 1, min(MOST_FRAMES, len(clip))).round().astype(int)
    height = float(np.clip(1.1 * clip.shape[1] / clip.shape[2], 0.6, 2.0))
    figure = Figure(figsize=(12, 1.6 + (height + 0.25) * len(shapes)), layout="constrained")
    lines = figure.subfigures(len(shapes) + 1, 1, height_ratios=[height] * len(shapes) + [0.45]).ravel()  # pyright: ignore[reportAttributeAccessIssue]
    for number, shape in enumerate(shapes):
        axes = lines[number].subplots(1, len(shown), squeeze=False)[0]
        size = np.minimum(shape, clip.shape[:3])
        centers = places(row, slot, number, base)
        for axis, frame in zip(axes, shown):
            _draw_frame(axis, clip[frame], frame, centers - size / 2, size)
        lines[number].suptitle(f"{' x '.join(map(str, shape))}: {len(centers)} tokens", fontsize=9, x=0.01, ha="left")
    draw_tokens(lines[-1].subplots(), row)
    clips = int(row.segment_ids.max())
    lines[-1].suptitle(
        f"the row of {len(row.segment_ids)} tokens with all {clips} clips", fontsize=9, x=0.01, ha="left"
    )
    figure.suptitle(
        "Tubelets of one clip, frame by frame, one color per step in time\n"
        f"(frames x rows x columns; all are embedded by one kernel of {' x '.join(map(str, base))})"
    )
    save(figure, path)


def _draw_frame(axis, pixels: Float[np.ndarray, "h w C"], frame: int, corners: np.ndarray, size: np.ndarray) -> None:
    """One frame, and the outlines of the tubelets that hold it."""
    axis.imshow(as_color(pixels), vmin=0, vmax=1)
    steps = np.unique(corners[:, 0]).tolist()
    for f, y, x in corners:
        if f <= frame < f + size[0]:
            box = Rectangle((x - 0.5, y - 0.5), size[2], size[1], fill=False, edgecolor=color(1 + steps.index(f)))
            axis.add_patch(box)
    axis.set_title(str(frame), fontsize=7)
    bare(axis)
