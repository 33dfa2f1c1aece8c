"""Sampling of drop rates: the share of tokens dropped from each image in training.

`rates` gives the drop rate of every image, from its number of tokens and the number of images before it in the run;
`around` gives rates around another mean for each image, as `Schedule` needs them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reference.sampling.complexity import ranks, rate_by_complexity
from reference.sampling.dropping import move_range, sample_beta_rate, sample_rate_by_length, scheduled_rate

from ..errors import check_in, check_ordered
from .kinds import Rng

Complexity = Float[np.ndarray, " N"] | None
"""Complexity of each image; None where it was not measured."""


@dataclass(frozen=True)
class Constant:
    """Drop the same share of tokens from every image."""

    rate: float = 0.0
    """Share of tokens dropped; 0 drops none."""

    def __post_init__(self):
        check_in("[0, 1)", rate=self.rate)

    def rates(
        self, rng: Rng, tokens: Int[np.ndarray, " N"], images_seen: Int[np.ndarray, " N"], complexity: Complexity = None
    ):
        return np.full(len(tokens), float(self.rate))

    def around(self, mean: Float[np.ndarray, " N"], rng: Rng, tokens: Int[np.ndarray, " N"]):
        """`mean` itself."""
        return mean


@dataclass(frozen=True)
class Beta:
    """A Beta-distributed drop rate per image, at most `highest`.   [NaViT, app. B]"""

    mean: float = 0.5
    """Mean drop rate."""
    highest: float = 0.9
    """Largest drop rate; must be above the mean."""

    def __post_init__(self):
        check_in("(0, 1]", mean=self.mean, highest=self.highest)
        if not self.mean < self.highest:
            raise ValueError(f"mean={self.mean!r} must be in (0, highest={self.highest!r})")

    def rates(
        self, rng: Rng, tokens: Int[np.ndarray, " N"], images_seen: Int[np.ndarray, " N"], complexity: Complexity = None
    ):
        return self.around(np.full(len(tokens), float(self.mean)), rng, tokens)

    def around(self, mean: Float[np.ndarray, " N"], rng: Rng, tokens: Int[np.ndarray, " N"]):
        """Rates around another mean, with the same `highest`.   Choice: the paper only schedules a constant rate."""
        return sample_beta_rate(rng, mean, self.highest)


@dataclass(frozen=True)
class ByResolution:
    """A drop rate that grows linearly with the tokens of an image, ± 0.04 at random.   [NaViT, app. B: truncated
    normal]"""

    lo: float = 0.1
    """Mean drop rate of the shortest images."""
    hi: float = 0.9
    """Mean drop rate of the longest images."""
    shortest: int | None = None
    """Tokens at which the mean rate is `lo`; auto: the fewest tokens of an image in the data."""
    longest: int | None = None
    """Tokens at which the mean rate is `hi`; auto: the most tokens of an image in the data."""

    def __post_init__(self):
        check_in("[0.04, 0.96]", lo=self.lo, hi=self.hi)
        check_ordered(lo=self.lo, hi=self.hi)
        check_in("[1, 2147483646]", shortest=self.shortest)
        check_in(f"[{(self.shortest or 1) + 1}, 2147483647]", longest=self.longest)

    def rates(
        self, rng: Rng, tokens: Int[np.ndarray, " N"], images_seen: Int[np.ndarray, " N"], complexity: Complexity = None
    ):
        lo, hi = (np.full(len(tokens), float(end)) for end in (self.lo, self.hi))
        return sample_rate_by_length(rng, tokens, lo, hi, *self._range())

    def around(self, mean: Float[np.ndarray, " N"], rng: Rng, tokens: Int[np.ndarray, " N"]):
        """Rates with the range [lo, hi] shifted to be centered at the mean and clipped to [0, 1].   Choice."""
        lo, hi = move_range(self.lo, self.hi, mean)
        return sample_rate_by_length(rng, tokens, lo, hi, *self._range())

    def _range(self) -> tuple[int, int]:
        assert self.shortest is not None and self.longest is not None, "chosen from the data before anything is drawn"
        return self.shortest, self.longest


@dataclass(frozen=True)
class ByContent:
    """A drop rate that falls with the complexity of an image: from `hi` for the plainest to `lo` for the most complex.
    The complexity of every image is measured once, when the images are opened.   Choice: the paper drops by length."""

    lo: float = 0.3
    """Drop rate of the most complex image."""
    hi: float = 0.7
    """Drop rate of the plainest image; the mean is half-way."""
    quantiles: tuple[float, ...] = ()
    """Complexity in the middle of equal shares of the images; auto: of the training images."""

    def __post_init__(self):
        check_in("[0, 1)", lo=self.lo, hi=self.hi)
        check_ordered(lo=self.lo, hi=self.hi)
        check_in("[0, inf)", quantiles=self.quantiles)
        check_sorted(self.quantiles)

    def rates(
        self, rng: Rng, tokens: Int[np.ndarray, " N"], images_seen: Int[np.ndarray, " N"], complexity: Complexity = None
    ):
        """Nothing is drawn."""
        rank = ranks_in(complexity, self.quantiles)
        return rate_by_complexity((self.lo + self.hi) / 2, (self.hi - self.lo) / 2, rank)


@dataclass(frozen=True)
class Schedule:
    """A mean drop rate that follows a sigmoid of the images seen: lo + (hi − lo) · sigmoid((n − μ) / τ).

    The three schedules of the paper: (middle, width) = (1/2, −1/10) falls fast, (2/3, −1/5)
    falls slowly, (1/2, 1/10) rises.
    [NaViT, eq. 1, fig. 8]
    """

    sampling: Constant | Beta | ByResolution = Constant()
    """Distribution of drop rates around the scheduled mean."""
    lo: float = 0.2
    """Smallest mean drop rate."""
    hi: float = 0.8
    """Largest mean drop rate."""
    images: float | None = None
    """N, images in a whole run; auto: the images of this run."""
    middle: float = 0.5
    """μ / N, share of the run after which the mean is half-way between `lo` and `hi`."""
    width: float = -0.1
    """τ / N, width of the sigmoid as a share of the run; negative: the rate falls, positive: it rises."""

    def __post_init__(self):
        check_in("[0, 1]", lo=self.lo, hi=self.hi)
        check_ordered(lo=self.lo, hi=self.hi)
        check_in("(0, inf)", images=self.images)
        check_in("(-inf, inf)", middle=self.middle, width=self.width)
        if not self.width:
            raise ValueError("width must not be 0: the rate rises or falls over some images")

    def rates(
        self, rng: Rng, tokens: Int[np.ndarray, " N"], images_seen: Int[np.ndarray, " N"], complexity: Complexity = None
    ):
        images = self.images or 1
        middle, width = self.middle * images, self.width * images
        return self.sampling.around(scheduled_rate(images_seen, self.lo, self.hi, middle, width), rng, tokens)


Dropping = Constant | Beta | ByResolution | ByContent | Schedule


def ranks_in(complexity: Complexity, quantiles: tuple[float, ...]) -> Float[np.ndarray, " N"]:
    """The rank of each image among the training images, 0 … 1."""
    assert complexity is not None, "the complexity of these images was not measured: `data.complexity.with_complexity`"
    assert quantiles, "chosen from the data before anything is planned"
    return ranks(complexity, quantiles)


def check_sorted(quantiles: tuple[float, ...]) -> None:
    """Raises ValueError unless the values rise."""
    if any(a > b for a, b in zip(quantiles, quantiles[1:])):
        raise ValueError("quantiles must rise: leave them open, they are chosen from the data")
