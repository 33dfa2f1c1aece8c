"""Images of all contestants: cases, pixels, steps. NumPy alone, since the interpreter of the peers imports it too."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PATCH = 16
CLASSES = 1_000
SHAPES = np.array([4 / 3, 3 / 4, 3 / 2, 2 / 3, 1.0])  # width over height
BUCKETS = (64, 128, 192, 320, 512, 1024)  # tokens; possible lengths of a padded batch


@dataclass(frozen=True)
class Case:
    """Images and row shape of a case; row_tokens is about the longest image."""

    row_tokens: int
    row_images: int
    images: int = 0
    """Number of images; 0: as many as fill the rows of all steps."""
    train: bool = True


CASES = {
    "mixed": Case(288, 8),
    "tiny": Case(64, 24, images=512),
    "equal": Case(196, 1),
    "long": Case(1024, 8),
    "inference": Case(288, 8, train=False),
}


def sizes(name: str, rng: np.random.Generator, count: int) -> np.ndarray:
    """Heights and widths of `count` images, multiples of the patch; those of more tokens than a row are left out."""
    match name:
        case "tiny":
            hw = np.stack([np.full(count, 16), 16 * rng.integers(2, 6, count)], -1)
        case "equal":
            hw = np.full((count, 2), 224)
        case "long":
            hw = photographs(rng, count, 64, 512)
        case _:
            hw = photographs(rng, count, 64, 256)
    return hw[tokens(hw) <= CASES[name].row_tokens]


def photographs(rng: np.random.Generator, count: int, lo: int, hi: int) -> np.ndarray:
    """Common shapes, jittered by 10 %; the square of the same area has a side from U(lo, hi); sides 64 to 1.5 · hi."""
    shape = rng.choice(SHAPES, count) * np.exp(0.1 * rng.standard_normal(count))
    side = rng.uniform(lo, hi, count)
    hw = np.stack([side / np.sqrt(shape), side * np.sqrt(shape)], -1)
    return PATCH * np.rint(np.clip(hw, 64, 1.5 * hi) / PATCH).astype(int)


def tokens(hw: np.ndarray) -> np.ndarray:
    return (hw // PATCH).prod(-1)


def pixels(rng: np.random.Generator, hw: np.ndarray) -> list[np.ndarray]:
    """Images of noise, since the time of no contestant depends on their content."""
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in hw.tolist()]


def consecutive(lengths: Sequence[int], steps: int) -> list[list[int]]:
    """Images in order, in steps of about equal tokens."""
    middle = np.cumsum(lengths) - np.asarray(lengths) / 2
    step = (middle * steps / np.sum(lengths)).astype(int)
    return [np.flatnonzero(step == s).tolist() for s in range(steps)]


def bucketed(lengths: Sequence[int], step_tokens: int) -> list[list[int]]:
    """Batches of one length bucket each, in equal parts of at most `step_tokens` places, as NaFlex loaders do."""
    lengths, bounds = np.asarray(lengths), (0, *BUCKETS)
    batches = []
    for lo, hi in zip(bounds, bounds[1:]):
        members = np.flatnonzero((lengths > lo) & (lengths <= hi))
        if len(members):
            most = max(1, step_tokens // int(lengths[members].max()))
            batches += np.array_split(members, -(-len(members) // most))
    return [batch.tolist() for batch in batches]


def save(path: Path, images: Sequence[np.ndarray], labels: np.ndarray) -> None:
    hw = np.array([image.shape[:2] for image in images])
    np.savez(path, hw=hw, pixels=np.concatenate([image.ravel() for image in images]), labels=labels)


def load(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """(images h w 3, labels)"""
    with np.load(path) as file:
        hw, flat, labels = file["hw"], file["pixels"], file["labels"]
    ends = 3 * hw.prod(-1).cumsum()
    return [part.reshape(*size, 3) for part, size in zip(np.split(flat, ends[:-1]), hw.tolist())], labels
