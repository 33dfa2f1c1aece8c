"""Sampling laws as objects: at which size an image is seen, how large its patches are, which tokens are dropped.

A law of resolutions has `grids` (patches per side of every image), `at` (the law that always gives one
resolution, for evaluation) and `spread` (the smallest and largest it gives). What a resolution is depends on
the law: a side in pixels, a factor, a number of tokens.

A law of patch sizes has `sample`, a size in pixels for every image, from the images seen before it and from the
`tokens` that it would have at a size, at its drawn resolution; and `per`, what has one size: the run, a step, an
image.

A law of dropping has `rates`, a share for every image, from its tokens and the images seen before it, and
`around`, the same with a mean for each image, which is what a `Schedule` moves.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Num

from reference.choosing import contrast, sample_at_random, sample_by_score, sample_spread
from reference.distributions import sample_truncated_normal
from reference.dropping import move_range, sample_beta_rate, sample_rate_by_length, scheduled_rate
from reference.patch_sizes import finest_within, patch_size_at, sample_coarse_to_fine
from reference.resolution import fit_tokens, linear_in_area, linear_in_side, never_enlarged, target_grid

Rng = np.random.Generator
PatchSize = int | Int[np.ndarray, " N"]
Tokens = Callable[[int], Int[np.ndarray, " N"]]


@dataclass(frozen=True)
class Uniform:
    """u ~ U(−1, 1)."""

    def sample(self, rng: Rng, count: int) -> Float[np.ndarray, " N"]:
        return rng.uniform(-1, 1, count)


@dataclass(frozen=True)
class TruncatedNormal:
    """u ~ N(mean, 1) within [−1, 1]; a mean below 0 prefers small images.   [NaViT, fig. 7: −0.5, 0, 0.5]"""

    mean: float = -0.5

    def sample(self, rng: Rng, count: int) -> Float[np.ndarray, " N"]:
        return sample_truncated_normal(rng, self.mean, 1.0, -1.0, 1.0, count)


@dataclass(frozen=True)
class Sides:
    """Every image at area R², aspect kept, with the side R drawn from [lo, hi] pixels: the paper's default."""

    lo: float = 64
    hi: float = 256
    draw: Uniform | TruncatedNormal = Uniform()

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        return target_grid(sizes, linear_in_side(self.draw.sample(rng, len(sizes)), self.lo, self.hi), patch_size)

    def at(self, resolution: float) -> "Sides":
        """The law that always gives this resolution."""
        return Sides(resolution, resolution)

    @property
    def spread(self) -> tuple[float, float]:
        """Smallest and largest resolution."""
        return self.lo, self.hi


@dataclass(frozen=True)
class Areas:
    """As `Sides`, with the area drawn from [lo², hi²]: more large images.   [NaViT, fig. 7]"""

    lo: float = 64
    hi: float = 256
    draw: Uniform | TruncatedNormal = Uniform()

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        return target_grid(sizes, linear_in_area(self.draw.sample(rng, len(sizes)), self.lo, self.hi), patch_size)

    def at(self, resolution: float) -> "Areas":
        return Areas(resolution, resolution)

    @property
    def spread(self) -> tuple[float, float]:
        return self.lo, self.hi


@dataclass(frozen=True)
class Native:
    """Every image at its own size times a factor ~ U(lo, hi)."""

    lo: float = 1.0
    hi: float = 1.0

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        factor = linear_in_side(Uniform().sample(rng, len(sizes)), self.lo, self.hi)
        return target_grid(sizes, np.sqrt(sizes.prod(-1, dtype=float)) * factor, patch_size)

    def at(self, resolution: float) -> "Native":
        """The law that always gives this factor."""
        return Native(resolution, resolution)

    @property
    def spread(self) -> tuple[float, float]:
        return self.lo, self.hi


@dataclass(frozen=True)
class TokenBudget:
    """Every image at the largest size, aspect kept, that has at most so many tokens.   [NaViT, app. C]"""

    tokens: int = 256

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        return fit_tokens(sizes, np.full(len(sizes), self.tokens))

    def at(self, resolution: float) -> "TokenBudget":
        """The law of another budget, rounded down to whole tokens."""
        return TokenBudget(int(resolution))

    @property
    def spread(self) -> tuple[float, float]:
        return self.tokens, self.tokens


@dataclass(frozen=True)
class NeverEnlarged:
    """As `law`, but no image beyond its own size; one below a patch is still seen as one patch."""

    law: Sides | Areas | Native | TokenBudget = Sides()

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        return never_enlarged(self.law.grids(rng, sizes, patch_size), sizes, patch_size)

    def at(self, resolution: float) -> "NeverEnlarged":
        return replace(self, law=self.law.at(resolution))

    @property
    def spread(self) -> tuple[float, float]:
        return self.law.spread


@dataclass(frozen=True)
class Square:
    """Every image squeezed to a square of about the tokens that `law` would give it: what NaViT does without."""

    law: Sides | Areas | Native | TokenBudget | NeverEnlarged = Sides()

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        tokens = self.law.grids(rng, sizes, patch_size).prod(-1)
        side = np.maximum(1, np.rint(np.sqrt(tokens))).astype(np.int32)
        return np.stack([side, side], -1)

    def at(self, resolution: float) -> "Square":
        return replace(self, law=self.law.at(resolution))

    @property
    def spread(self) -> tuple[float, float]:
        return self.law.spread


@dataclass(frozen=True)
class OneSquare:
    """Every image squeezed to one square, as plain ViTs see them: the baseline."""

    side: float = 224
    """In pixels; whole patches of it are used."""

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        count = np.maximum(1, self.side // np.broadcast_to(patch_size, len(sizes))).astype(np.int32)
        return np.stack([count, count], -1)

    def at(self, resolution: float) -> "OneSquare":
        return OneSquare(resolution)

    @property
    def spread(self) -> tuple[float, float]:
        return self.side, self.side


@dataclass(frozen=True)
class OneSize:
    """Every image in patches of one size."""

    size: int = 0
    """0 is the model's own."""
    per = "run"

    def sample(self, rng: Rng, images_seen: Int[np.ndarray, " N"], tokens: Tokens) -> Int[np.ndarray, " N"]:
        return np.full(len(images_seen), self.size, np.int32)


@dataclass(frozen=True)
class PerImage:
    """A random size for every image; images of all sizes share rows, mapped to the model's own size.

    With `TokenBudget` an image gets the pixels that its patch size needs for the budget.
    """

    sizes: tuple[int, ...] = ()
    """Empty takes those of the model."""
    weights: tuple[float, ...] = ()
    """How often each is drawn; empty draws all alike."""
    per = "image"

    def sample(self, rng: Rng, images_seen: Int[np.ndarray, " N"], tokens: Tokens) -> Int[np.ndarray, " N"]:
        return self.at(rng.random(len(images_seen)))

    def at(self, q: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
        """The sizes at places q, from coarse to fine."""
        return patch_size_at(q, self.sizes, self.weights)


@dataclass(frozen=True)
class PerStep(PerImage):
    """A random size for every step, which all its images share; the model resizes its kernel.   [FlexiViT]

    Choice: a step has as many rows at every size, hence more images where patches are coarse.
    """

    per = "step"


@dataclass(frozen=True)
class CoarseToFine:
    """`law` in order: coarse patches early in the run, fine ones late.   [FlexiViT: a curriculum of patch sizes]"""

    law: PerImage | PerStep = PerImage()
    images: float = 0
    """N, images of a whole run; 0 takes those of this one."""
    mix: float = 0.5
    """Share of chance: 0 sorts the sizes strictly, 1 is `law` itself."""

    @property
    def per(self) -> str:
        return self.law.per

    def sample(self, rng: Rng, images_seen: Int[np.ndarray, " N"], tokens: Tokens) -> Int[np.ndarray, " N"]:
        return self.law.at(sample_coarse_to_fine(rng, images_seen / self.images, self.mix))


@dataclass(frozen=True)
class AtBudget:
    """The finest size at which an image, at its drawn resolution, has at most so many tokens; else the coarsest."""

    tokens: int = 64
    sizes: tuple[int, ...] = ()
    """Empty takes those of the model."""
    per = "image"

    def sample(self, rng: Rng, images_seen: Int[np.ndarray, " N"], tokens: Tokens) -> Int[np.ndarray, " N"]:
        return finest_within(np.stack([tokens(size) for size in self.sizes]), self.sizes, self.tokens)


@dataclass(frozen=True)
class Constant:
    """The same share of tokens dropped from every image; 0 drops none."""

    rate: float = 0.0

    def rates(self, rng: Rng, tokens: Int[np.ndarray, " N"], images_seen: Int[np.ndarray, " N"]):
        return np.full(len(tokens), float(self.rate))

    def around(self, mean: Float[np.ndarray, " N"], rng: Rng, tokens: Int[np.ndarray, " N"]):
        """The mean itself."""
        return mean


@dataclass(frozen=True)
class Beta:
    """A share per image, Beta-distributed with this mean, never above `highest`.   [NaViT, app. B.2]"""

    mean: float = 0.5
    highest: float = 0.9

    def rates(self, rng: Rng, tokens: Int[np.ndarray, " N"], images_seen: Int[np.ndarray, " N"]):
        return self.around(np.full(len(tokens), float(self.mean)), rng, tokens)

    def around(self, mean: Float[np.ndarray, " N"], rng: Rng, tokens: Int[np.ndarray, " N"]):
        """Another mean, the same `highest`.   Choice: the paper schedules a constant rate alone."""
        return sample_beta_rate(rng, mean, self.highest)


@dataclass(frozen=True)
class ByResolution:
    """The more tokens an image has, the larger the share dropped: from `lo` at `shortest` to `hi` at `longest`,
    give or take at most 0.04.   [NaViT, app. B.2: truncated normal]"""

    lo: float = 0.1
    hi: float = 0.9
    shortest: int = 0
    """Tokens of an image with mean rate `lo`."""
    longest: int = 0
    """Tokens of an image with mean rate `hi`. 0 chooses both from the data."""

    def rates(self, rng: Rng, tokens: Int[np.ndarray, " N"], images_seen: Int[np.ndarray, " N"]):
        lo, hi = (np.full(len(tokens), float(end)) for end in (self.lo, self.hi))
        return sample_rate_by_length(rng, tokens, lo, hi, self.shortest, self.longest)

    def around(self, mean: Float[np.ndarray, " N"], rng: Rng, tokens: Int[np.ndarray, " N"]):
        """The range [lo, hi] moved so that its middle is the mean, narrower where [0, 1] ends.   Choice."""
        lo, hi = move_range(self.lo, self.hi, mean)
        return sample_rate_by_length(rng, tokens, lo, hi, self.shortest, self.longest)


@dataclass(frozen=True)
class Schedule:
    """`law` with a mean that moves along a sigmoid of the images seen: lo + (hi − lo) · sigmoid((n − μ) / τ).

    The paper's three: (middle, width) = (1/2, −1/10) falls fast, (2/3, −1/5) falls slowly, (1/2, 1/10) rises.
    [NaViT, eq. 1, fig. 8]
    """

    law: Constant | Beta | ByResolution = Constant()
    lo: float = 0.2
    hi: float = 0.8
    images: float = 0
    """N, images of a whole run; 0 takes those of this one."""
    middle: float = 0.5
    """μ / N, where the mean is half way."""
    width: float = -0.1
    """τ / N; below 0 the rate falls."""

    def rates(self, rng: Rng, tokens: Int[np.ndarray, " N"], images_seen: Int[np.ndarray, " N"]):
        middle, width = self.middle * self.images, self.width * self.images
        return self.law.around(scheduled_rate(images_seen, self.lo, self.hi, middle, width), rng, tokens)


@dataclass(frozen=True)
class AtRandom:
    """Which tokens stay is a matter of chance: the paper's."""

    def sample(self, rng: Rng, patches: Num[np.ndarray, "T P"], kept: int) -> Int[np.ndarray, " kept"]:
        return sample_at_random(rng, len(patches), kept)


@dataclass(frozen=True)
class Spread:
    """One token of each equal stretch of the image stays: no large hole."""

    def sample(self, rng: Rng, patches: Num[np.ndarray, "T P"], kept: int) -> Int[np.ndarray, " kept"]:
        return sample_spread(rng, len(patches), kept)


@dataclass(frozen=True)
class ByContrast:
    """Patches of high contrast are likelier to stay."""

    sharpness: float = 1.0
    """The chance is proportional to contrast to this power."""

    def sample(self, rng: Rng, patches: Num[np.ndarray, "T P"], kept: int) -> Int[np.ndarray, " kept"]:
        return sample_by_score(rng, contrast(patches), kept, self.sharpness)


@dataclass(frozen=True)
class Mix:
    """A share of the training images is mixed with another image of the set, drawn for each one."""

    share: float = 0.5
    """Of the images that are mixed."""
    alpha: float = 0.8
    """The partner's weight is Beta(alpha, alpha)."""
    cut: float = 0.5
    """Of the mixed images, those that get a box of the partner (CutMix) and not a blend (mixup)."""


@dataclass(frozen=True)
class Augment:
    """Random changes of a training image that keep its aspect ratio, so that the plan stays valid."""

    flip: bool = False
    """Mirror every second image left to right."""
    crop: float = 1.0
    """Smallest share of the area that a random crop keeps; 1 keeps all."""
    stretch: float = 0.0
    """The crop's aspect ratio moves by up to this factor: ± ln(1 + stretch)."""
    turn: float = 0.0
    """Turned by up to this angle either way, in radians; what comes into view is grey."""
    jitter: float = 0.0
    """Brightness, contrast and saturation move by up to this share."""
    mix: Mix | None = None
    """Mixing with another image; none by default."""


Resolution = Sides | Areas | Native | TokenBudget | NeverEnlarged | Square | OneSquare
PatchSizes = OneSize | PerImage | PerStep | CoarseToFine | AtBudget
Dropping = Constant | Beta | ByResolution | Schedule
Choosing = AtRandom | Spread | ByContrast
