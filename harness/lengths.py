"""How many tokens the images of a set have under a configuration, before any is planned: what options are chosen by."""

from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int

from data.manifest import Manifest
from data.plan import in_reach
from data.sampling.dropping import Complexity, Schedule
from data.sampling.kinds import Patch
from data.sampling.merge import Law, kept_by, of_images
from data.sampling.packing import Template, far_longer
from data.sampling.patch_size import CoarseToFine, OneSize, PatchSizes
from data.tasks import DataTask
from navit_eqx.config import ModelConfig
from navit_eqx.errors import ConfigError

from .config import Config

MOST_TOKENS = 1 << 14  # longer images do not set the row length
ENOUGH = 1 << 20  # images of a larger set from which statistics are computed


class Images(NamedTuple):
    """Input of resolvers: the manifest of the training images, and the task."""

    manifest: Manifest
    task: DataTask


def patch_sampling(config: Config) -> PatchSizes:
    """The sampling of patch sizes, with automatic sizes taken from the model.

    Raises ConfigError where the model has no list of sizes.
    """
    return _patch_sampling(config.data.patch_sizes, config.model)


def _patch_sampling(sampling: PatchSizes, model: ModelConfig) -> PatchSizes:
    if isinstance(sampling, OneSize):
        return replace(sampling, size=sampling.size or model.spatial_patch)
    if model.flexi is None:
        raise ConfigError(f"data.patch_sizes = {sampling} has several patch sizes, the model has one: set model.flexi")
    if isinstance(sampling, CoarseToFine):
        inner = _patch_sampling(sampling.sampling, model)
        return replace(sampling, sampling=inner)
    if not (sampling.sizes or model.flexi.sizes):
        raise ConfigError("data.patch_sizes has no sizes, nor has the model: set model.flexi.sizes")
    return replace(sampling, sizes=sampling.sizes or model.flexi.sizes)


def sizes_in(sampling: PatchSizes) -> list[Patch]:
    """All patch sizes of a sampling."""
    if isinstance(sampling, CoarseToFine):
        return sizes_in(sampling.sampling)
    if isinstance(sampling, OneSize):
        return [sampling.size] if sampling.size else []
    return [(side, side) for side in sampling.sizes]


def enough(manifest: Manifest) -> Int[np.ndarray, "n A"]:
    """Sizes of all images up to a million, else of images at equal distances in the manifest."""
    return manifest.sizes[:: stride(manifest)]


def complexity_of(manifest: Manifest) -> Complexity:
    """Complexity of the same images, where it was measured."""
    return None if manifest.complexity is None else manifest.complexity[:: stride(manifest)]


def law_for(config: Config, manifest: Manifest) -> Law:
    """How grids of the same images are planned."""
    return of_images(config.data.law, complexity_of(manifest))


def stride(manifest: Manifest) -> int:
    """Distance between the images by which choices are made."""
    return -(-len(manifest) // ENOUGH)


def expected_tokens(
    config: Config, manifest: Manifest, patches: PatchSizes | None = None
) -> tuple[Int[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    """Sampled patch sizes and token counts before dropping, once for each image, over the whole range of a curriculum.

    Raises ConfigError where the options cannot be sampled.
    """
    sizes, sampling, patches = enough(manifest), law_for(config, manifest), patches or patch_sampling(config)
    count = len(sizes)

    def grids(patch) -> Int[np.ndarray, "n A"]:
        return sampling.grids(np.random.default_rng(config.seed), sizes, patch)

    if isinstance(patches, CoarseToFine):
        patches = replace(patches, images=count)
    rng = np.random.default_rng([config.seed, 2])
    try:
        drawn = patches.sample(rng, rng.permutation(count), lambda patch: sampling.token_counts(grids(patch)))
        return drawn, sampling.token_counts(grids(drawn))
    except ValueError as error:
        raise ConfigError(f"data.resolution = {sampling}, data.patch_sizes = {patches}: {error}") from None


def expected_lengths(config: Config, manifest: Manifest) -> Int[np.ndarray, " n"]:
    """Sampled token counts after dropping, once for each image, over the whole range of a schedule.

    Raises ConfigError where the options cannot be sampled.
    """
    sampling, tokens = config.data.dropping, expected_tokens(config, manifest)[1]
    if isinstance(sampling, Schedule):
        sampling = replace(sampling, images=float(len(tokens)))
    rng = np.random.default_rng([config.seed, 1])
    try:
        rates = sampling.rates(rng, tokens, rng.permutation(len(tokens)), complexity_of(manifest))
        return kept_by(config.data.law, tokens, rates)
    except ValueError as error:
        raise ConfigError(f"data.dropping = {sampling}: {error}") from None


def usable(config: Config, manifest: Manifest) -> Bool[np.ndarray, " n"]:
    """The images that have a position for every patch, at most MOST_TOKENS tokens, and are not far longer than the
    others; all of them if none is."""
    drawn, tokens = expected_tokens(config, manifest)
    grids = law_for(config, manifest).grids(np.random.default_rng(config.seed), enough(manifest), drawn)
    fits = in_reach(grids, config.model.posembed.longest_side) & (tokens <= MOST_TOKENS)
    fits[fits] = ~far_longer(tokens[fits])
    return fits if fits.any() else np.ones_like(fits)


def mean_length(config: Config, manifest: Manifest, lengths: np.ndarray) -> float:
    """Mean tokens per image, such that a step has rows · T / mean images. With one patch size per step this is the
    harmonic mean over steps, since all steps have equal tokens."""
    sampling, used = patch_sampling(config), usable(config, manifest)
    if sampling.per != "step":
        return float(lengths[used].mean())
    drawn, lengths = expected_tokens(config, manifest)[0][used], lengths[used]
    _, place, counts = np.unique(drawn, axis=0, return_inverse=True, return_counts=True)
    means = np.bincount(place.ravel(), lengths) / counts
    return float(1 / np.average(1 / means, weights=counts))


def images_per_step(config: Config, images: Images) -> float:
    """Mean number of images in a step."""
    if isinstance(config.data.packing.rule, Template):
        return config.rows * config.data.packing.shape[1]
    lengths, row_tokens = expected_lengths(config, images.manifest), config.data.packing.shape[0]
    if images.task.budget:
        law = law_for(config, images.manifest)
        grids_at = lambda patch: law.grids(np.random.default_rng(config.seed), enough(images.manifest), patch)
        which = np.arange(0, len(images.manifest), stride(images.manifest))
        lengths = np.minimum(images.task.budget.tokens(which, lengths, grids_at, row_tokens), row_tokens)
    return config.rows * row_tokens / mean_length(config, images.manifest, lengths)


class TokenLengths:
    """Implementation of `data.tasks.task.Lengths` for a configuration and its images."""

    def __init__(self, config: Config, manifest: Manifest):
        self.config, self.manifest = config, manifest
        self.used = usable(config, manifest)
        self.kept = expected_lengths(config, manifest)[self.used]
        self.rows, self.devices = config.rows, jax.device_count()
        self.row_tokens, self.row_images = config.data.packing.shape
        self.patch = config.model.patch
        self.sizes = config.model.sizes | {"classes": config.task.classes or 0}

    def tokens_in(self, patch: tuple[int, ...]) -> tuple[Int[np.ndarray, " n"], int]:
        """Tokens of every used image at another patch size, and the largest number one can have."""
        tokens = expected_tokens(self.config, self.manifest, OneSize(patch))[1][self.used]
        sampling = self.config.data.resolution
        sizes = enough(self.manifest)[self.used]
        largest = sampling.at(sampling.spread[1]).grids(np.random.default_rng(0), sizes, patch)
        return tokens, int(largest.prod(-1).max())
