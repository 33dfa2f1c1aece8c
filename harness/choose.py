"""What the data decide where the configuration says 0. Every choice is returned in words, to be printed."""

from dataclasses import asdict, replace

import numpy as np
from jaxtyping import Int

from data.laws import (
    Areas,
    ByResolution,
    CoarseToFine,
    Dropping,
    NeverEnlarged,
    OneSize,
    PatchSizes,
    Resolution,
    Schedule,
    Sides,
    Square,
)
from data.manifest import Manifest
from data.plan import Packing
from navit_eqx.config import ModelConfig
from navit_eqx.config_json import ConfigError
from navit_eqx.config_training import Distill
from reference.dropping import kept_tokens
from reference.patch_sizes import check_gains
from reference.resize import Interpolation

from .config import Config
from .cost import row_cost
from .teaching import Teacher

EPOCHS = 60  # passes over the images where steps are not given
FEWEST_IMAGES = 50_000  # seen in training, however small the set
TOKEN_STEP = 32  # row lengths are multiples of this
ENOUGH = 1 << 20  # images of a larger set by which choices are made


def resolve(config: Config, manifest: Manifest, teacher: Teacher | None = None) -> tuple[Config, list[str]]:
    """The configuration with nothing left open, and the choices made; `teacher` is that of `config.loss`."""
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

    patch_sizes = patch_law(config)
    notes += about_patches(patch_sizes, config)
    drawn, tokens = expected_tokens(law, patch_sizes, manifest, config.seed)
    dropping = lengths_from(data.dropping, tokens)
    if dropping != data.dropping:
        data = replace(data, dropping=dropping)
        notes.append(f"data.dropping = {dropping}: the shortest and longest of the data")

    lengths = expected_lengths(dropping, tokens, config.seed)
    mean = mean_length(patch_sizes, drawn, lengths)
    packing = packing_for(data.packing, lengths, mean)
    if packing != data.packing:
        data = replace(data, packing=packing)
        notes.append(
            f"data.packing: row_tokens = {packing.row_tokens} holds the longest image and four mean ones "
            f"({mean:.0f} tokens), row_images = {packing.row_images} is 2.5 times what fits on average"
        )

    if teacher and isinstance(config.loss, Distill):
        _, taught = expected_tokens(law, OneSize(teacher.shape.patch_size), manifest, config.seed)
        at_most = law.at(law.spread[1]).grids(np.random.default_rng(0), manifest.sizes, teacher.shape.patch_size)
        largest = at_most.prod(-1).max()
        row_tokens = config.loss.row_tokens
        if not row_tokens:
            row_tokens = teacher_row(lengths, taught, int(largest), packing, config.model, teacher.shape)
            notes.append(
                f"loss.row_tokens = {row_tokens}: the teacher, in patches of {teacher.shape.patch_size}, sees "
                f"{taught.mean():.0f} tokens of an image where the student sees {lengths.mean():.0f}"
            )
        config = replace(config, loss=replace(config.loss, row_tokens=row_tokens, digest=teacher.digest))
        mean = mean_length(patch_sizes, drawn, np.maximum(lengths, taught * packing.row_tokens / row_tokens))

    if not data.val_resolution:
        data = replace(data, val_resolution=law.spread[1])
        notes.append(f"data.val_resolution = {data.val_resolution:g}: the largest seen in training")
    if not data.eval_resolutions:
        lo, hi = law.spread
        sweep = np.unique(np.round(np.linspace(lo, 1.25 * hi, 5), 2)).tolist()
        data = replace(data, eval_resolutions=tuple(sweep))
        notes.append(f"data.eval_resolutions = {sweep}: from the smallest seen to a quarter beyond the largest")

    config = replace(config, data=data)
    per_step = config.rows * packing.row_tokens / mean
    if config.steps == 0:
        images = max(EPOCHS * len(manifest), FEWEST_IMAGES)
        config = replace(config, steps=int(np.ceil(images / per_step)))
        notes.append(f"steps = {config.steps}: {images / len(manifest):.0f} passes over {len(manifest)} images")
    if isinstance(dropping, Schedule) and not dropping.images:
        dropping = replace(dropping, images=float(round(config.steps * per_step)))
        config = replace(config, data=replace(config.data, dropping=dropping))
        notes.append(f"data.dropping.images = {dropping.images:g}: about what the run will see")
    if isinstance(patch_sizes, CoarseToFine) and not patch_sizes.images:
        patch_sizes = replace(patch_sizes, images=float(round(config.steps * per_step)))
        notes.append(f"data.patch_sizes.images = {patch_sizes.images:g}: about what the run will see")
    return replace(config, data=replace(config.data, patch_sizes=patch_sizes)), notes


def patch_law(config: Config) -> PatchSizes:
    """The law of patch sizes with what it leaves open taken from the model: its own size, or its list of sizes.

    Raises ConfigError where there is none.
    """
    return _patch_law(config.data.patch_sizes, config.model)


def _patch_law(law: PatchSizes, model: ModelConfig) -> PatchSizes:
    if isinstance(law, OneSize):
        return replace(law, size=law.size or model.patch_size)
    if model.flexi is None:
        raise ConfigError(
            f"data.patch_sizes = {law} cuts patches of several sizes, and the model has one: set model.flexi"
        )
    if isinstance(law, CoarseToFine):
        return replace(law, law=_patch_law(law.law, model))
    if not (law.sizes or model.flexi.sizes):
        raise ConfigError("data.patch_sizes has nothing to choose from: set model.flexi.sizes")
    return replace(law, sizes=law.sizes or model.flexi.sizes)


def about_patches(law: PatchSizes, config: Config) -> list[str]:
    """Patch sizes in words; warns of those that amplify noise."""
    sizes = law.law.sizes if isinstance(law, CoarseToFine) else (law.size,) if isinstance(law, OneSize) else law.sizes
    base = config.model.patch_size
    check_gains((base, base), [(size, size) for size in sizes], interpolation_of(config.model))
    if law.per == "run":
        return []
    how = "mapped to it on the way, one compiled program" if law.per == "image" else "a compiled program for each"
    return [f"patch sizes {', '.join(map(str, sorted(sizes)))} with a kernel of {base}: one per {law.per}, {how}"]


def interpolation_of(model: ModelConfig) -> Interpolation:
    """That of the model, as the host's functions read it."""
    return Interpolation(**asdict(model.interpolation))


def sides_from(law: Resolution, manifest: Manifest, patch: int) -> Resolution:
    """The law with sides of 0 replaced."""
    if isinstance(law, Square | NeverEnlarged):
        return replace(law, law=sides_from(law.law, manifest, patch))
    if not isinstance(law, Sides | Areas) or law.hi:
        return law
    median = float(np.median(np.sqrt(enough(manifest).prod(-1, dtype=float))))
    hi = patch * int(np.clip(round(median / patch), 4, 16))
    return replace(law, lo=law.lo or patch * max(2, round(hi / 2 / patch)), hi=hi)


def enough(manifest: Manifest) -> Int[np.ndarray, "n 2"]:
    """Sizes of images at equal distances in the manifest: of all of them up to a million."""
    return manifest.sizes[:: -(-len(manifest) // ENOUGH)]


def lengths_from(law: Dropping, tokens: np.ndarray) -> Dropping:
    """The law with lengths of 0 replaced by those of the shortest and longest image."""
    if isinstance(law, Schedule):
        return replace(law, law=lengths_from(law.law, tokens))
    if not isinstance(law, ByResolution) or law.longest:
        return law
    shortest = law.shortest or int(tokens.min())
    return replace(law, shortest=shortest, longest=max(shortest + 1, int(tokens.max())))


def expected_tokens(
    law: Resolution, patch_sizes: PatchSizes, manifest: Manifest, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Patch sizes, and token counts before dropping, of one draw over the set; a curriculum runs from end to end.

    Raises ConfigError where a law makes no sense.
    """

    sizes = enough(manifest)
    count = len(sizes)

    def grids(patch_size) -> np.ndarray:
        return law.grids(np.random.default_rng(seed), sizes, patch_size)

    if isinstance(patch_sizes, CoarseToFine):
        patch_sizes = replace(patch_sizes, images=count)
    rng = np.random.default_rng([seed, 2])
    try:
        drawn = patch_sizes.sample(rng, rng.permutation(count), lambda size: grids(size).prod(-1))
        return drawn, grids(drawn).prod(-1)
    except ValueError as error:
        raise ConfigError(f"data.resolution = {law}, data.patch_sizes = {patch_sizes}: {error}") from None


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


def mean_length(law: PatchSizes, drawn: np.ndarray, lengths: np.ndarray) -> float:
    """Tokens per image, so that a step holds rows · T / mean images: with a size for each step, the harmonic mean over
    steps, since every step has as many tokens."""
    if law.per != "step":
        return float(lengths.mean())
    sizes, place, counts = np.unique(drawn, return_inverse=True, return_counts=True)
    means = np.bincount(place, lengths) / counts
    return float(1 / np.average(1 / means, weights=counts))


def packing_for(packing: Packing, lengths: np.ndarray, mean: float) -> Packing:
    """Row length and slots where they are 0."""
    tokens = packing.row_tokens or round_up(max(int(lengths.max()), int(4 * mean)))
    images = packing.row_images or max(4, int(np.ceil(2.5 * tokens / mean)))
    return replace(packing, row_tokens=tokens, row_images=images)


def teacher_row(
    lengths: np.ndarray, taught: np.ndarray, longest: int, packing: Packing, student: ModelConfig, teacher: ModelConfig
) -> int:
    """Tokens T' of a teacher's row, at least as many as the longest image has, for which the images cost least.

    Choice: a set of images needs rows as Σ max(k / T, n / T'), k tokens for the student and n for the teacher, and a
    pair of rows costs the FLOPs of three forward passes of the student's, for it is also run backwards, and of one of
    the teacher's.
    """
    shortest, once = round_up(longest), 3 * row_cost(student, packing.row_tokens, packing.row_images)
    choices = range(shortest, max(shortest, 4 * packing.row_tokens) + 1, TOKEN_STEP)

    def cost(row_tokens: int) -> float:
        rows = np.maximum(lengths / packing.row_tokens, taught / row_tokens).mean()
        return rows * (once + row_cost(teacher, row_tokens, packing.row_images))

    return min(choices, key=cost)


def round_up(tokens: int) -> int:
    return -(-tokens // TOKEN_STEP) * TOKEN_STEP
