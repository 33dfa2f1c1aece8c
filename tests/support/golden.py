"""Models that other projects saved, and what their own classes said: `tests/golden/`, made by its `make.py`."""

import dataclasses
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from navit_eqx import load_model
from navit_eqx.images import unpack_tokens
from navit_eqx.pixels import patchify
from navit_eqx.rows import Row, to_device
from navit_eqx.tasks.model import Model, reconfigured
from reference.patches import raster
from reference.rows import Tokens, pack

FOLDER = Path(__file__).parent.parent / "golden"
FAMILIES = sorted(path.stem for path in FOLDER.glob("*.npz"))
GRIDS = ((4, 4), (1, 7), (5, 3), (6, 6), (1, 1), (3, 2))
EVEN = ((4, 4), (2, 8), (6, 4), (10, 6), (2, 2), (4, 2))  # of towers that merge blocks of 2 x 2
PICTURES = ((13, 21), (40, 9), (8, 8))
KINDS = ("tokens", "pooled", "merged")
PATCH = 2
SEED = json.loads((FOLDER / "versions.json").read_text())["seed"]
T, I = {GRIDS: 90, EVEN: 130}, 7  # a row for one image of each grid, some padding, an empty slot


class Said(NamedTuple):
    """Tokens and output for the image of each grid; and its merged tokens, of each kind, where a tower has some."""

    tokens: list[np.ndarray]
    outputs: list[np.ndarray]
    merged: list[np.ndarray]


def image(grid: tuple[int, int]) -> np.ndarray:
    """The image that `make.py` drew for a grid, h w C."""
    rng = np.random.default_rng([SEED, *grid])
    pixels = rng.normal(size=(3, grid[0] * PATCH, grid[1] * PATCH))
    return pixels.astype(np.float32).astype(np.float64).transpose(1, 2, 0)


def picture(size: tuple[int, int]) -> np.ndarray:
    """The picture of 8 bits that `make.py` drew for a size."""
    return np.random.default_rng([SEED, *size]).integers(0, 256, (*size, 3), np.uint8)


def tokens_of(grid: tuple[int, int]) -> Tokens:
    """The image of a grid as patches."""
    return Tokens(patchify(image(grid), (PATCH, PATCH)), raster(grid), np.array(grid, np.int32))


@lru_cache
def packed(grids: tuple) -> Row:
    """The images of all grids in one row."""
    return to_device(pack([tokens_of(grid) for grid in grids], range(len(grids)), T[grids], I))


def grids_of(task: Any) -> tuple:
    """Grids of the images of a task: whole blocks, where it merges 2 x 2 tokens."""
    return EVEN if merger_of(task) and merger_of(task).block == 2 else GRIDS


def merger_of(task: Any) -> Any:
    """The configuration of the merger of a task, or None."""
    return getattr(task, "merger", None)


def in_float64(model: Model) -> Model:
    """The same model, computing in float64."""
    return reconfigured(model, dataclasses.replace(model.config, dtype="float64"))


@lru_cache
def loaded(name: str) -> Model:
    """The model of a family, in float64."""
    return in_float64(load_model(FOLDER / name))


@eqx.filter_jit
def forward(model: Model, row: Row):
    merged: Any = model.task.merged(model.backbone, row) if merger_of(model.task.config) else None
    return model.backbone.tokens(row), model(row), merged


def ours(model: Model) -> Said:
    """Tokens, output and merged tokens of a model for the packed row."""
    merger = merger_of(model.task.config)
    grids = grids_of(model.task.config)
    row = packed(grids)
    tokens, outputs, merged = forward(model, row)
    batched = Row(*(leaf[None] for leaf in row))
    blocks = unpack_tokens(batched, np.moveaxis(merged, 0, 1)[None]) if merger else []
    return Said(
        unpack_tokens(batched, tokens[None]),
        [np.asarray(outputs[slot]) for slot in range(len(grids))],
        [first_of_blocks(x, grid, merger.block) for x, grid in zip(blocks, grids)],
    )


def first_of_blocks(x: np.ndarray, grid: tuple[int, int], block: int) -> np.ndarray:
    """Merged tokens "T kinds E", each at the first token of its block → "kinds N E"."""
    return np.moveaxis(x.reshape(*grid, *x.shape[1:])[::block, ::block].reshape(-1, *x.shape[1:]), 1, 0)


@lru_cache
def expected(name: str, folder: Path = FOLDER) -> dict[str, np.ndarray]:
    """What the peer said."""
    with np.load(folder / f"{name}.npz") as stored:
        return dict(stored)


def theirs(name: str, folder: Path = FOLDER) -> Said:
    """Tokens, output and merged tokens of the peer."""
    stored = expected(name, folder)
    labels = [key.removeprefix("tokens_") for key in stored if key.startswith("tokens_")]
    return Said(*([stored[f"{kind}_{x}"] for x in labels if f"{kind}_{x}" in stored] for kind in KINDS))
