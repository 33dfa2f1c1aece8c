"""Fill automatic config values from dataset statistics.

Each rule takes the configuration and the images, and returns the configuration with one more value filled in, and a
note to be printed where there is something to say.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from data.manifest import Manifest
from data.plan import round_up
from data.sampling.dropping import ByResolution, Dropping, Schedule
from data.sampling.kinds import Patch
from data.sampling.packing import Packing
from data.sampling.patch_size import CoarseToFine, OneSize, PatchSizes
from data.sampling.resolution import Areas, NeverEnlarged, Resolution, Sides, Square
from data.tasks import DataTask
from navit_eqx.config import ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.resize import Interpolation as ModelInterpolation
from reference.resize import Interpolation
from reference.sampling.dropping import kept_tokens
from reference.sampling.patch_sizes import check_gains

from .config import Config

EPOCHS = 60  # passes over the images where steps are not given
FEWEST_IMAGES = 50_000  # seen in training, however small the set
ENOUGH = 1 << 20  # images of a larger set by which choices are made


class Images(NamedTuple):
    """What rules may look at."""

    manifest: Manifest
    task: DataTask


Rule = Callable[[Config, Images], tuple[Config, list[str]]]


def resolve(config: Config, manifest: Manifest, task: DataTask) -> tuple[Config, list[str]]:
    """The configuration with nothing left open, and the choices made.

    Raises ConfigError where a choice makes no sense.
    """
    notes = []
    for rule in RULES:
        config, more = rule(config, Images(manifest, task))
        notes += more
    return config, notes


def channels(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Refuse images with other channels than the model reads."""
    found, wanted = images.manifest.channels, config.model.channels
    if found != wanted:
        raise ConfigError(
            f"{images.manifest.where} has images of {found} channels, the model reads {wanted}: --model.channels {found}"
        )
    return config, []


def resolution(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Sides up to the median of the images."""
    sampling, notes = sides_from(config.data.resolution, images.manifest, config.model.patch)
    return with_data(config, resolution=sampling), notes


def patch_sizes(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Patch sizes of the model; warns of those that amplify noise."""
    sampling = patch_sampling(config)
    base = config.model.patch
    patches = sizes_in(sampling)
    check_gains(base, patches, host_interpolation(config.model.interpolation))
    if sampling == config.data.patch_sizes:
        return config, []
    config = with_data(config, patch_sizes=sampling)
    if isinstance(sampling, OneSize):
        return config, [f"data.patch_sizes.size = {base[0]} x {base[1]}: the patch of the model"]
    key = "data.patch_sizes.sampling.sizes" if isinstance(sampling, CoarseToFine) else "data.patch_sizes.sizes"
    how = "mapped to it on the way, one compiled program" if sampling.per == "image" else "a compiled program for each"
    sides = ", ".join(str(height) for height, _ in patches)
    kernel = f"with a kernel of {base[0]} x {base[1]}, one per {sampling.per}, {how}"
    return config, [f"{key} = {sides}: those of the model, {kernel}"]


def dropping(config: Config, images: Images) -> tuple[Config, list[str]]:
    """The range of lengths of the images."""
    sampling, notes = lengths_from(config.data.dropping, expected_tokens(config, images.manifest)[1])
    return with_data(config, dropping=sampling), notes


def packing(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Row length and slots."""
    lengths = expected_lengths(config, images.manifest)
    mean = mean_length(config, images.manifest, lengths)
    found = packing_for(config.data.packing, lengths, mean)
    if found == config.data.packing:
        return config, []
    notes = []
    if config.data.packing.row_tokens is None:
        why = f"holds the longest image, and four of the mean length {mean:.0f}"
        notes += [f"data.packing.row_tokens = {found.row_tokens}: {why}"]
    if config.data.packing.row_images is None:
        notes += [f"data.packing.row_images = {found.row_images}: 2.5 times what fits on average, at least 4"]
    return with_data(config, packing=found), notes


def task(config: Config, images: Images) -> tuple[Config, list[str]]:
    """What the task leaves to the data."""
    fields, notes = images.task.resolve(TokenLengths(config, images.manifest))
    return replace(config, task=replace(config.task, **fields)), notes


def val_resolution(config: Config, images: Images) -> tuple[Config, list[str]]:
    """The largest resolution seen in training."""
    if config.data.val_resolution is not None:
        return config, []
    largest = config.data.resolution.spread[1]
    return with_data(config, val_resolution=largest), [
        f"data.val_resolution = {number(largest)}: the largest in training"
    ]


def eval_resolutions(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Five resolutions around those seen in training."""
    if config.data.eval_resolutions:
        return config, []
    lo, hi = config.data.resolution.spread
    sweep = np.unique(np.round(np.linspace(lo, 1.25 * hi, 5), 2)).tolist()
    values = " ".join(map(number, sweep))
    note = f"data.eval_resolutions = {values}: from the smallest in training to a quarter beyond the largest"
    return with_data(config, eval_resolutions=tuple(sweep)), [note]


def steps(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Enough steps for EPOCHS passes, or for FEWEST_IMAGES."""
    if config.steps is not None:
        return config, []
    count = len(images.manifest)
    wanted = max(EPOCHS * count, FEWEST_IMAGES)
    config = replace(config, steps=int(np.ceil(wanted / images_per_step(config, images))))
    return config, [f"steps = {config.steps}: {wanted / count:.0f} passes over {count} images"]


def schedules(config: Config, images: Images) -> tuple[Config, list[str]]:
    """Images of the whole run, along which schedules of drop rates and of patch sizes run."""
    notes = []
    total = float(round(config.total_steps * images_per_step(config, images)))
    for name, kind in (("dropping", Schedule), ("patch_sizes", CoarseToFine)):
        sampling = getattr(config.data, name)
        if isinstance(sampling, kind) and sampling.images is None:
            config = with_data(config, **{name: replace(sampling, images=total)})
            notes.append(f"data.{name}.images = {number(total)}: about what the run will see")
    return config, notes


RULES: tuple[Rule, ...] = (
    channels,
    resolution,
    patch_sizes,
    dropping,
    packing,
    task,
    val_resolution,
    eval_resolutions,
    steps,
    schedules,
)


# what rules are made of -------------------------------------------------------------------------------


def with_data(config: Config, **fields) -> Config:
    """The configuration with other fields of `data`."""
    return replace(config, data=replace(config.data, **fields))


def patch_sampling(config: Config) -> PatchSizes:
    """The sampling of patch sizes with what it leaves open taken from the model: its own size, or its list of sizes.

    Raises ConfigError where there is none.
    """
    return _patch_sampling(config.data.patch_sizes, config.model)


def _patch_sampling(sampling: PatchSizes, model: ModelConfig) -> PatchSizes:
    if isinstance(sampling, OneSize):
        return replace(sampling, size=sampling.size or model.patch)
    if model.flexi is None:
        raise ConfigError(
            f"data.patch_sizes = {sampling} cuts patches of several sizes, and the model has one: set model.flexi"
        )
    if isinstance(sampling, CoarseToFine):
        inner = _patch_sampling(sampling.sampling, model)
        return replace(sampling, sampling=inner)
    if not (sampling.sizes or model.flexi.sizes):
        raise ConfigError("data.patch_sizes has nothing to choose from: set model.flexi.sizes")
    return replace(sampling, sizes=sampling.sizes or model.flexi.sizes)


def sizes_in(sampling: PatchSizes) -> list[Patch]:
    """The patches that a sampling may give."""
    if isinstance(sampling, CoarseToFine):
        return sizes_in(sampling.sampling)
    if isinstance(sampling, OneSize):
        return [sampling.size] if sampling.size else []
    return [(side, side) for side in sampling.sizes]


def host_interpolation(interpolation: ModelInterpolation) -> Interpolation:
    """The model's, as the functions of the host read it."""
    return Interpolation(interpolation.method, interpolation.antialias, interpolation.edges)


def number(x: float) -> str:
    """In full: a note names the very value that is in the configuration."""
    return str(int(x)) if x == int(x) else repr(float(x))


def sides_from(
    sampling: Resolution, manifest: Manifest, patch: Patch, key: str = "data.resolution"
) -> tuple[Resolution, list[str]]:
    """The sampling with open sides filled in, and a note on each."""
    if isinstance(sampling, Square | NeverEnlarged):
        inner, notes = sides_from(sampling.sampling, manifest, patch, f"{key}.sampling")
        return replace(sampling, sampling=inner), notes
    if not isinstance(sampling, Sides | Areas):
        return sampling, []
    pixels, notes = float(np.sqrt(np.prod(patch))), []
    if sampling.hi is None:
        median = float(np.median(np.sqrt(enough(manifest).prod(-1, dtype=float))))
        sampling = replace(sampling, hi=max(sampling.lo or 0.0, pixels * int(np.clip(round(median / pixels), 4, 16))))
        notes += [f"{key}.hi = {number(sampling.hi)}: the median image side, 4 to 16 patches, and not below lo"]
    if sampling.lo is None:
        sampling = replace(sampling, lo=min(sampling.hi, pixels * max(2, round(sampling.hi / 2 / pixels))))
        notes += [f"{key}.lo = {number(sampling.lo)}: half of hi, at least 2 patches, and not above hi"]
    return sampling, notes


def enough(manifest: Manifest) -> Int[np.ndarray, "n 2"]:
    """Sizes of images at equal distances in the manifest: of all of them up to a million."""
    return manifest.sizes[:: -(-len(manifest) // ENOUGH)]


def lengths_from(
    sampling: Dropping, tokens: Int[np.ndarray, " n"], key: str = "data.dropping"
) -> tuple[Dropping, list[str]]:
    """The sampling with open lengths filled in by the shortest and longest image, and a note on each."""
    if isinstance(sampling, Schedule):
        inner, notes = lengths_from(sampling.sampling, tokens, f"{key}.sampling")
        return replace(sampling, sampling=inner), notes
    if not isinstance(sampling, ByResolution):
        return sampling, []
    notes = []
    if sampling.shortest is None:
        shortest = int(tokens.min()) if sampling.longest is None else min(int(tokens.min()), sampling.longest - 1)
        sampling = replace(sampling, shortest=shortest)
        notes += [f"{key}.shortest = {shortest}: tokens of the shortest image, below longest"]
    if sampling.longest is None:
        sampling = replace(sampling, longest=max(sampling.shortest + 1, int(tokens.max())))
        notes += [f"{key}.longest = {sampling.longest}: tokens of the longest image, above shortest"]
    return sampling, notes


def expected_tokens(
    config: Config, manifest: Manifest, patches: PatchSizes | None = None
) -> tuple[Int[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    """Patch sizes, and token counts before dropping, of one draw over the set; a curriculum runs from end to end.

    Raises ConfigError where sampling makes no sense.
    """
    sizes, sampling, patches = enough(manifest), config.data.resolution, patches or patch_sampling(config)
    count = len(sizes)

    def grids(patch) -> Int[np.ndarray, "n 2"]:
        return sampling.grids(np.random.default_rng(config.seed), sizes, patch)

    if isinstance(patches, CoarseToFine):
        patches = replace(patches, images=count)
    rng = np.random.default_rng([config.seed, 2])
    try:
        drawn = patches.sample(rng, rng.permutation(count), lambda patch: grids(patch).prod(-1))
        return drawn, grids(drawn).prod(-1)
    except ValueError as error:
        raise ConfigError(f"data.resolution = {sampling}, data.patch_sizes = {patches}: {error}") from None


def expected_lengths(config: Config, manifest: Manifest) -> Int[np.ndarray, " n"]:
    """Token counts after dropping, of one draw over the whole set, in which a schedule runs from end to end.

    Raises ConfigError where sampling makes no sense.
    """
    sampling, tokens = config.data.dropping, expected_tokens(config, manifest)[1]
    if isinstance(sampling, Schedule):
        sampling = replace(sampling, images=float(len(tokens)))
    rng = np.random.default_rng([config.seed, 1])
    try:
        return kept_tokens(tokens, sampling.rates(rng, tokens, rng.permutation(len(tokens))))
    except ValueError as error:
        raise ConfigError(f"data.dropping = {sampling}: {error}") from None


def mean_length(config: Config, manifest: Manifest, lengths: np.ndarray) -> float:
    """Tokens per image, so that a step holds rows · T / mean images: with a size for each step, the harmonic mean over
    steps, since every step has as many tokens."""
    sampling = patch_sampling(config)
    if sampling.per != "step":
        return float(lengths.mean())
    drawn = expected_tokens(config, manifest)[0]
    _, place, counts = np.unique(drawn, axis=0, return_inverse=True, return_counts=True)
    means = np.bincount(place.ravel(), lengths) / counts
    return float(1 / np.average(1 / means, weights=counts))


def packing_for(packing: Packing, lengths: np.ndarray, mean: float) -> Packing:
    """Row length and slots where they are open."""
    tokens = packing.row_tokens or round_up(max(int(lengths.max()), int(4 * mean)))
    images = packing.row_images or max(4, int(np.ceil(2.5 * tokens / mean)))
    return replace(packing, row_tokens=tokens, row_images=images)


def images_per_step(config: Config, images: Images) -> float:
    """Images that a step sees on average."""
    lengths, row_tokens = expected_lengths(config, images.manifest), config.data.packing.shape[0]
    if images.task.budget:
        grids_at = lambda patch: config.data.resolution.grids(
            np.random.default_rng(config.seed), enough(images.manifest), patch
        )
        lengths = np.minimum(images.task.budget.tokens(lengths, grids_at, row_tokens), row_tokens)
    return config.rows * row_tokens / mean_length(config, images.manifest, lengths)


class TokenLengths:
    """`data.tasks.task.Lengths` of a configuration on its images."""

    def __init__(self, config: Config, manifest: Manifest):
        self.config, self.manifest = config, manifest
        self.kept = expected_lengths(config, manifest)
        self.row_tokens, self.row_images = config.data.packing.shape
        self.sizes = config.model.sizes | {"classes": config.task.classes or 0}

    def tokens_in(self, patch: tuple[int, ...]) -> tuple[Int[np.ndarray, " n"], int]:
        """Tokens of every image in other patches, and the most that one can have."""
        tokens = expected_tokens(self.config, self.manifest, OneSize(patch))[1]
        sampling = self.config.data.resolution
        largest = sampling.at(sampling.spread[1]).grids(np.random.default_rng(0), self.manifest.sizes, patch)
        return tokens, int(largest.prod(-1).max())
