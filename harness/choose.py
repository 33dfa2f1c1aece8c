"""What the data decide where the configuration says 0. Every choice is returned in words, to be printed."""

from dataclasses import replace

import numpy as np

from data.laws import Resolution, Sides, Square
from data.manifest import Manifest
from data.plan import Packing
from reference.dropping import kept_tokens

from .config import Config

EPOCHS = 60  # passes over the images where steps are not given
FEWEST_IMAGES = 50_000  # seen in training, however small the set
TOKEN_STEP = 32  # row lengths are multiples of this


def resolve(config: Config, manifest: Manifest) -> tuple[Config, list[str]]:
    """The configuration with nothing left open, and the choices made."""
    notes: list[str] = []
    patch = config.model.patch_size
    data = config.data

    if config.model.classes == 0:
        config = replace(config, model=replace(config.model, classes=len(manifest.classes)))
        notes.append(f"model.classes = {len(manifest.classes)}: the classes of the data")

    law = sides_from(data.resolution, manifest, patch)
    if law != data.resolution:
        data = replace(data, resolution=law)
        notes.append(f"data.resolution = {law}: up to the median image side, at most 16 patches; down to half of it")

    lengths = expected_lengths(replace(config, data=data), manifest)
    packing = packing_for(data.packing, lengths)
    if packing != data.packing:
        data = replace(data, packing=packing)
        notes.append(
            f"data.packing: row_tokens = {packing.row_tokens} holds the longest image and four mean ones "
            f"({lengths.mean():.0f} tokens), row_images = {packing.row_images} is 2.5 times what fits on average"
        )

    if not data.val_resolution:
        data = replace(data, val_resolution=spread(law)[1])
        notes.append(f"data.val_resolution = {data.val_resolution:g}: the largest seen in training")
    if not data.eval_resolutions:
        lo, hi = spread(law)
        sweep = np.unique(np.round(np.linspace(lo, 1.25 * hi, 5), 2)).tolist()
        data = replace(data, eval_resolutions=tuple(sweep))
        notes.append(f"data.eval_resolutions = {sweep}: from the smallest seen to a quarter beyond the largest")

    config = replace(config, data=data)
    if config.steps == 0:
        images = max(EPOCHS * len(manifest), FEWEST_IMAGES)
        per_step = config.rows * packing.row_tokens / lengths.mean()
        config = replace(config, steps=int(np.ceil(images / per_step)))
        notes.append(f"steps = {config.steps}: {images / len(manifest):.0f} passes over {len(manifest)} images")
    return config, notes


def spread(law: Resolution) -> tuple[float, float]:
    """Smallest and largest resolution of a law."""
    return spread(law.law) if isinstance(law, Square) else (law.lo, law.hi)


def sides_from(law: Resolution, manifest: Manifest, patch: int) -> Resolution:
    """The law with sides of 0 replaced."""
    if isinstance(law, Square):
        return replace(law, law=sides_from(law.law, manifest, patch))
    if not isinstance(law, Sides) or law.hi:
        return law
    median = float(np.median(np.sqrt(manifest.sizes.prod(-1, dtype=float))))
    hi = patch * int(np.clip(round(median / patch), 4, 16))
    return Sides(law.lo or patch * max(2, round(hi / 2 / patch)), hi)


def expected_lengths(config: Config, manifest: Manifest) -> np.ndarray:
    """Token counts of one draw of the laws over the whole set."""
    rng = np.random.default_rng(config.seed)
    grids = config.data.resolution.grids(rng, manifest.sizes, config.model.patch_size)
    return kept_tokens(grids.prod(-1), config.data.dropping.rates(rng, len(grids)))


def packing_for(packing: Packing, lengths: np.ndarray) -> Packing:
    """Row length and slots where they are 0."""
    mean = float(lengths.mean())
    tokens = packing.row_tokens or round_up(max(int(lengths.max()), int(4 * mean)))
    images = packing.row_images or max(4, int(np.ceil(2.5 * tokens / mean)))
    return replace(packing, row_tokens=tokens, row_images=images)


def round_up(tokens: int) -> int:
    return -(-tokens // TOKEN_STEP) * TOKEN_STEP
