"""What the data decide where the configuration says 0. Every choice is returned in words, to be printed."""

from dataclasses import replace

import numpy as np

from data.laws import Areas, ByResolution, Dropping, NeverEnlarged, Resolution, Schedule, Sides, Square
from data.manifest import Manifest
from data.plan import Packing
from navit_eqx.config_json import ConfigError
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

    tokens = expected_tokens(law, manifest, patch, config.seed)
    dropping = lengths_from(data.dropping, tokens)
    if dropping != data.dropping:
        data = replace(data, dropping=dropping)
        notes.append(f"data.dropping = {dropping}: the shortest and longest of the data")

    lengths = expected_lengths(dropping, tokens, config.seed)
    packing = packing_for(data.packing, lengths)
    if packing != data.packing:
        data = replace(data, packing=packing)
        notes.append(
            f"data.packing: row_tokens = {packing.row_tokens} holds the longest image and four mean ones "
            f"({lengths.mean():.0f} tokens), row_images = {packing.row_images} is 2.5 times what fits on average"
        )

    if not data.val_resolution:
        data = replace(data, val_resolution=law.spread[1])
        notes.append(f"data.val_resolution = {data.val_resolution:g}: the largest seen in training")
    if not data.eval_resolutions:
        lo, hi = law.spread
        sweep = np.unique(np.round(np.linspace(lo, 1.25 * hi, 5), 2)).tolist()
        data = replace(data, eval_resolutions=tuple(sweep))
        notes.append(f"data.eval_resolutions = {sweep}: from the smallest seen to a quarter beyond the largest")

    config = replace(config, data=data)
    per_step = config.rows * packing.row_tokens / lengths.mean()
    if config.steps == 0:
        images = max(EPOCHS * len(manifest), FEWEST_IMAGES)
        config = replace(config, steps=int(np.ceil(images / per_step)))
        notes.append(f"steps = {config.steps}: {images / len(manifest):.0f} passes over {len(manifest)} images")
    if isinstance(dropping, Schedule) and not dropping.images:
        dropping = replace(dropping, images=float(round(config.steps * per_step)))
        config = replace(config, data=replace(config.data, dropping=dropping))
        notes.append(f"data.dropping.images = {dropping.images:g}: about what the run will see")
    return config, notes


def sides_from(law: Resolution, manifest: Manifest, patch: int) -> Resolution:
    """The law with sides of 0 replaced."""
    if isinstance(law, Square | NeverEnlarged):
        return replace(law, law=sides_from(law.law, manifest, patch))
    if not isinstance(law, Sides | Areas) or law.hi:
        return law
    median = float(np.median(np.sqrt(manifest.sizes.prod(-1, dtype=float))))
    hi = patch * int(np.clip(round(median / patch), 4, 16))
    return replace(law, lo=law.lo or patch * max(2, round(hi / 2 / patch)), hi=hi)


def lengths_from(law: Dropping, tokens: np.ndarray) -> Dropping:
    """The law with lengths of 0 replaced by those of the shortest and longest image."""
    if isinstance(law, Schedule):
        return replace(law, law=lengths_from(law.law, tokens))
    if not isinstance(law, ByResolution) or law.longest:
        return law
    shortest = law.shortest or int(tokens.min())
    return replace(law, shortest=shortest, longest=max(shortest + 1, int(tokens.max())))


def expected_tokens(law: Resolution, manifest: Manifest, patch: int, seed: int) -> np.ndarray:
    """Token counts before dropping, of one draw over the whole set.   Raises ConfigError where the law makes no
    sense."""
    try:
        return law.grids(np.random.default_rng(seed), manifest.sizes, patch).prod(-1)
    except ValueError as error:
        raise ConfigError(f"data.resolution = {law}: {error}") from None


def expected_lengths(law: Dropping, tokens: np.ndarray, seed: int) -> np.ndarray:
    """Token counts after dropping, of one draw over the whole set, in which a schedule runs from end to end.

    Raises ConfigError where the law makes no sense.
    """
    if isinstance(law, Schedule):
        law = replace(law, images=len(tokens))
    rng = np.random.default_rng([seed, 1])
    try:
        return kept_tokens(tokens, law.rates(rng, tokens, rng.permutation(len(tokens))))
    except ValueError as error:
        raise ConfigError(f"data.dropping = {law}: {error}") from None


def packing_for(packing: Packing, lengths: np.ndarray) -> Packing:
    """Row length and slots where they are 0."""
    mean = float(lengths.mean())
    tokens = packing.row_tokens or round_up(max(int(lengths.max()), int(4 * mean)))
    images = packing.row_images or max(4, int(np.ceil(2.5 * tokens / mean)))
    return replace(packing, row_tokens=tokens, row_images=images)


def round_up(tokens: int) -> int:
    return -(-tokens // TOKEN_STEP) * TOKEN_STEP
