"""The task of `benchmarks/contest_train.py`, the same for all: model, law of resolution, augmentation, recipes.

Standard library alone, since the interpreter of the peers imports it too.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PATCH = 8
BUDGETS = (24, 40, 60, 80)
"""Most tokens of an image. A batch of timm has one of these; a batch of ours has all of them in every row."""
STEP_TOKENS = 2080  # places of a step: 26 rows of 80
DIVISOR = 8  # timm rounds the images of a batch down to a multiple of this
CROP, STRETCH = 0.25, 4 / 3  # smallest share of the area, largest change of the aspect ratio
TABLE = 64  # entries of a position table per axis
MODEL = {"width": 128, "depth": 5, "heads": 4, "mlp_width": 512}
QUICK = {"width": 32, "depth": 1, "heads": 1, "mlp_width": 64}
MEAN = STD = 0.5
RATE = {"lr": 1e-3, "weight_decay": 0.05}

# Three tries for each: time to an accuracy is that of the best. `own` is this project's preset as it stands.
RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "ours": {
        "adamw": {"rule": "adamw", "lr": 2e-3, "weight_decay": 0.1, "mix": 0.0},
        "muon": {"rule": "muon", "lr": 2e-3, "weight_decay": 0.3, "mix": 0.7},
        "own": {"rule": "own"},
    },
    "timm": {
        "adamw": {"rule": "adamw", "lr": 2e-3, "weight_decay": 0.1, "mix": 0.0},
        "adamw, mixed": {"rule": "adamw", "lr": 2e-3, "weight_decay": 0.1, "mix": 0.7},
        "muon": {"rule": "muon", "lr": 2e-3, "weight_decay": 0.3, "mix": 0.7},
    },
    "vit-pytorch": {
        "adamw": {"rule": "adamw", "lr": 2e-3, "weight_decay": 0.1, "mix": 0.0},
        "adamw, slow": {"rule": "adamw", "lr": 1e-3, "weight_decay": 0.1, "mix": 0.0},
        "adamw, half dropped": {"rule": "adamw", "lr": 2e-3, "weight_decay": 0.1, "mix": 0.0, "drop": 0.5},
    },
}
JITTER, WARMUP, SMOOTHING = 0.4, 0.1, 0.1  # of every recipe but `own`


def batch_size(budget: int) -> int:
    """Images of a batch of one budget, as timm rounds them."""
    return max(1, STEP_TOKENS // budget // DIVISOR * DIVISOR)


def weights() -> list[float]:
    """Share of the images that have each budget: timm draws budgets of batches, and small images come in large ones."""
    sizes = [batch_size(budget) for budget in BUDGETS]
    return [size / sum(sizes) for size in sizes]


def mean_budget() -> float:
    """Mean of the budgets over images."""
    return sum(share * budget for share, budget in zip(weights(), BUDGETS))


def digest(images: Iterable[tuple[str, str]]) -> str:
    """Of the (class, file name) of all images, in any order."""
    return hashlib.sha256(json.dumps(sorted(images)).encode()).hexdigest()[:16]


def of_paths(paths: Iterable[str]) -> str:
    """The digest of files in folders that are named after their classes."""
    parts = (Path(os.fsdecode(path)).parts[-2:] for path in paths)
    return digest((folder, name) for folder, name in parts)
