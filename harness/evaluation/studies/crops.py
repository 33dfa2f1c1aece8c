"""Whole images or their middle, at native aspect ratio or squashed, at equal tokens.   [NaViT, fig. 11, table 5]"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.sampling.resolution import Native
from data.sources.cropped import CentralCrop, Cropped
from navit_eqx.errors import check

from ..pictures import sheet
from ..predictions import Context, by_group, evaluate, groups, measures
from .aspect import both_laws
from .findings import Findings

ASPECT, SQUARE = CentralCrop(0.75), CentralCrop(0.875, square=True)
# View: crop, and whether what is left is squashed. Those of the paper for ViT are the third and the fourth.
VIEWS: dict[str, tuple[CentralCrop | None, bool]] = {
    "whole, aspect kept": (None, False),
    "whole, squashed": (None, True),
    "middle 75 %, aspect kept": (ASPECT, False),
    "middle 75 %, squashed": (ASPECT, True),
    "middle square, 87.5 %": (SQUARE, True),
}


def crops(context: Context) -> Findings:
    """Does the model need the whole image, and its aspect ratio?   Raises ConfigError for boxes, masks and clips."""
    manifest = context.source.manifest
    plain = manifest.boxes is None and not manifest.masks and not manifest.has_clips
    check(plain, "this study crops images, but neither boxes, masks nor clips")
    rows = [{"view": view, **row_of(context, view)} for view in VIEWS]
    best = max(rows, key=lambda r: r["score"])
    return Findings(
        f"crops: {context.metric} by view at resolution {context.config.data.reported_at:g}, about the same number of "
        "tokens",
        rows,
        f"best: {best['view']}, {context.metric} {best['score']:.3f}; whole and aspect kept {rows[0]['score']:.3f}",
        "crops.png",
        partial(draw, rows),
    )


def row_of(context: Context, view: str) -> dict:
    """The columns of one view; groups are those of the whole images.

    A factor of the native size is enlarged, so that the middle is shown with as many tokens as the whole.
    """
    crop, squashed = VIEWS[view]
    source, at = context.source, context.config.data.reported_at
    law = both_laws(context, at)[squashed]
    if crop:
        source = Cropped(source, crop)
        areas = [s.manifest.sizes.prod(-1, dtype=float) for s in (context.source, source)]
        law = both_laws(context, at * np.sqrt((areas[0] / areas[1]).mean()))[squashed] if is_factor(law) else law
    found = evaluate(context.model, context.config, source, context.task, law, patch=context.patch)
    return {**measures(found), "groups": by_group(found, groups(context.config, context.source.manifest))}


def is_factor(law: Any) -> bool:
    """Whether a resolution of this sampling is a factor of the native size."""
    return is_factor(law.sampling) if hasattr(law, "sampling") else isinstance(law, Native)


def draw(rows: list[dict], path: Path) -> None:
    """Draw a bar for each view."""
    with sheet(path, 1) as (axis,):
        axis.barh([r["view"] for r in rows], [r["score"] for r in rows], xerr=[r["score_se"] for r in rows], height=0.5)
        axis.set(xlim=(0, 1), xlabel="accuracy (bars: one standard error)")
        axis.invert_yaxis()
        axis.set_title("What the model sees of an image", fontsize=11)
