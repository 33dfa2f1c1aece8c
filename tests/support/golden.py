"""Models that other projects saved, and what their own classes said: `tests/golden/`, made by its `make.py`."""

import dataclasses
import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

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
PICTURES = ((13, 21), (40, 9), (8, 8))
PATCH = 2
SEED = json.loads((FOLDER / "versions.json").read_text())["seed"]
T, I = 90, 7  # a row for one image of each grid, some padding, an empty slot


class Said(NamedTuple):
    """Tokens and output for the image of each grid."""

    tokens: list[np.ndarray]
    outputs: list[np.ndarray]


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
def packed() -> Row:
    """The images of all grids in one row."""
    return to_device(pack([tokens_of(grid) for grid in GRIDS], range(len(GRIDS)), T, I))


def in_float64(model: Model) -> Model:
    """The same model, computing in float64."""
    return reconfigured(model, dataclasses.replace(model.config, dtype="float64"))


@lru_cache
def loaded(name: str) -> Model:
    """The model of a family, in float64."""
    return in_float64(load_model(FOLDER / name))


@eqx.filter_jit
def forward(model: Model, row: Row):
    return model.backbone.tokens(row), model(row)


def ours(model: Model) -> Said:
    """Tokens and output of a model for the packed row."""
    row = packed()
    tokens, outputs = forward(model, row)
    batched = Row(*(leaf[None] for leaf in row))
    return Said(unpack_tokens(batched, tokens[None]), [np.asarray(outputs[slot]) for slot in range(len(GRIDS))])


@lru_cache
def expected(name: str, folder: Path = FOLDER) -> dict[str, np.ndarray]:
    """What the peer said."""
    with np.load(folder / f"{name}.npz") as stored:
        return dict(stored)


def theirs(name: str, folder: Path = FOLDER) -> Said:
    """Tokens and output of the peer."""
    stored = expected(name, folder)
    labels = ["x".join(map(str, grid)) for grid in GRIDS]
    return Said([stored[f"tokens_{label}"] for label in labels], [stored[f"pooled_{label}"] for label in labels])
