"""A real packed batch, and which token attends to which.   [NaViT, fig. 2]"""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.sampling.dropping import Beta
from experiments.computed import command_line, main, stated
from harness.config import Config
from harness.digit_presets import large_digits
from harness.evaluation.pictures import color, draw_mask, draw_rows, sheet
from harness.run.loading import open_source, open_task, training_rows
from reference.masks import same_image, slot_tokens
from reference.rows import Row

FOLDER, ROWS = Path(__file__).parent, 4


def batch(config: Config) -> list[Row]:
    """The first rows of an epoch."""
    source = open_source(config, "train")
    rows = training_rows(config, source, open_task(config, source.manifest)[1])
    return [rows[r] for r in range(ROWS)]


def configuration() -> Config:
    """Digit strips, some of their tokens dropped, few images a row so that the picture can be read."""
    preset = large_digits()
    return replace(preset, data=replace(preset.data, dropping=Beta(0.3, 0.7)))


def measure(options: Namespace) -> dict:
    table, wrong = [], 0
    for r, row in enumerate(batch(configuration())):
        ids, slots, used = row.segment_ids, len(row.grids), row.grids[:, 0] > 0
        attention, pooling = same_image(ids), slot_tokens(ids, slots)
        blocks = sum(int(n) ** 2 for n in np.bincount(ids)[1:])
        wrong += int(attention.sum()) - blocks  # pairs across images or with padding
        wrong += int((pooling.sum(0) != (ids > 0)).sum())  # tokens not pooled exactly once, or padding pooled
        wrong += int((pooling.any(-1) != used).sum())
        table.append({
            "row": r, "images": int(used.sum()), "padding": int((ids == 0).sum()),
            "pairs that attend": f"{attention.mean():.1%}", "tokens of each image": str(np.bincount(ids)[1:].tolist()),
        })  # fmt: skip
    says = "One block of attention per image, each token pooled once, nothing in padding"
    return {"claims": [stated(says, f"{wrong} places are wrong", wrong == 0)], "tables": [table]}


def draw(result: Mapping, path: Path) -> None:
    config = configuration()
    rows = batch(config)
    draw_rows(rows, config.model.patch, path)
    draw_mask(rows[0], FOLDER / "attention.png")
    draw_pooling(rows[0], FOLDER / "pooling.png")


def draw_pooling(row: Row, path: Path) -> None:
    """Which tokens each image slot pools."""
    mask = slot_tokens(row.segment_ids, len(row.grids))
    picture = np.ones((*mask.shape, 3))
    for slot in range(1, int(row.segment_ids.max()) + 1):
        picture[slot - 1, mask[slot - 1]] = color(slot)
    with sheet(path, 1) as (axis,):
        axis.imshow(picture, interpolation="nearest", aspect="auto")
        axis.set(xlabel="token", ylabel="image slot", title="Pooling mask of row 0 (empty slots pool nothing)")


if __name__ == "__main__":
    main(FOLDER, measure, draw, command_line())
