"""Sampling of drop rates: which share of its tokens each image loses in training.

Each class has `rates`, a share for every image, from its tokens and the images seen before it; and `around`, the same
with another mean for each image, which is what a `Schedule` moves.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reference.sampling.dropping import move_range, sample_beta_rate, sample_rate_by_length, scheduled_rate

from ..errors import check_in, check_ordered
from .kinds import Rng


@dataclass(frozen=True)
class Constant:
    """The same share of tokens dropped from every image; 0 drops none."""

    rate: float = 0.0

    def __post_init__(self):
        check_in("[0, 1)", rate=self.rate)

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

    def __post_init__(self):
        check_in("(0, 1]", mean=self.mean, highest=self.highest)
        if not self.mean < self.highest:
            raise ValueError(f"mean={self.mean!r} must be in (0, highest={self.highest!r})")

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
    shortest: int | None = None
    """Tokens of an image with mean rate `lo`; auto: the shortest of the data."""
    longest: int | None = None
    """Tokens of an image with mean rate `hi`; auto: the longest of the data."""

    def __post_init__(self):
        check_in("[0.04, 0.96]", lo=self.lo, hi=self.hi)
        check_ordered(lo=self.lo, hi=self.hi)
        check_in("[1, 2147483646]", shortest=self.shortest)
        check_in(f"[{(self.shortest or 1) + 1}, 2147483647]", longest=self.longest)

    def rates(self, rng: Rng, tokens: Int[np.ndarray, " N"], images_seen: Int[np.ndarray, " N"]):
        lo, hi = (np.full(len(tokens), float(end)) for end in (self.lo, self.hi))
        return sample_rate_by_length(rng, tokens, lo, hi, *self._range())

    def around(self, mean: Float[np.ndarray, " N"], rng: Rng, tokens: Int[np.ndarray, " N"]):
        """The range [lo, hi] moved so that its middle is the mean, narrower where [0, 1] ends.   Choice."""
        lo, hi = move_range(self.lo, self.hi, mean)
        return sample_rate_by_length(rng, tokens, lo, hi, *self._range())

    def _range(self) -> tuple[int, int]:
        assert self.shortest is not None and self.longest is not None, "chosen from the data before anything is drawn"
        return self.shortest, self.longest


@dataclass(frozen=True)
class Schedule:
    """`law` with a mean that moves along a sigmoid of the images seen: lo + (hi − lo) · sigmoid((n − μ) / τ).

    The paper's three: (middle, width) = (1/2, −1/10) falls fast, (2/3, −1/5) falls slowly, (1/2, 1/10) rises.
    [NaViT, eq. 1, fig. 8]
    """

    law: Constant | Beta | ByResolution = Constant()
    lo: float = 0.2
    hi: float = 0.8
    images: float | None = None
    """N, images of a whole run; auto: those of this one."""
    middle: float = 0.5
    """μ / N, where the mean is half way."""
    width: float = -0.1
    """τ / N; below 0 the rate falls."""

    def __post_init__(self):
        check_in("[0, 1]", lo=self.lo, hi=self.hi)
        check_ordered(lo=self.lo, hi=self.hi)
        check_in("(0, inf)", images=self.images)
        check_in("(-inf, inf)", middle=self.middle, width=self.width)
        if not self.width:
            raise ValueError("width=0 must be in (-inf, 0) or (0, inf): the rate rises or falls over some images")

    def rates(self, rng: Rng, tokens: Int[np.ndarray, " N"], images_seen: Int[np.ndarray, " N"]):
        images = self.images or 1
        middle, width = self.middle * images, self.width * images
        return self.law.around(scheduled_rate(images_seen, self.lo, self.hi, middle, width), rng, tokens)


Dropping = Constant | Beta | ByResolution | Schedule
