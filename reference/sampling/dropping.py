"""Token dropping: a share of the tokens of each image is dropped before packing, so that other images use the space."""

import numpy as np
from jaxtyping import Float, Int

from .distributions import sample_truncated_normal

SIGMA = 0.02  # of drop rates around a mean that depends on the length
CUT = 2.0  # largest distance of a rate from its mean, in sigma


def beta_parameters(mean: Float[np.ndarray, " N"], highest: float) -> tuple[np.ndarray, np.ndarray]:
    """α = 7/3 μ and β = 7/3 (1 − μ) with μ = mean / d_max.   [NaViT, app. B, fig. 14]

    The variance is 0.3 μ (1 − μ): 30 % of the largest variance of a distribution on [0, 1] with this mean.
    Raises ValueError unless 0 < mean < highest ≤ 1.
    """
    if not (0 < mean.min() and mean.max() < highest <= 1):
        raise ValueError(
            f"Beta drop rates need 0 < mean < highest <= 1, got means {mean.min():g} to {mean.max():g}, "
            f"highest={highest:g}"
        )
    mu = mean / highest
    return 7 / 3 * mu, 7 / 3 * (1 - mu)


def sample_beta_rate(
    rng: np.random.Generator, mean: Float[np.ndarray, " N"], highest: float
) -> Float[np.ndarray, " N"]:
    """Drop rates d = d_max · u with u ~ Beta(α, β) and one mean per image.   [NaViT, app. B, fig. 14]

    Raises ValueError unless 0 < mean < highest ≤ 1.
    """
    return highest * rng.beta(*beta_parameters(mean, highest))


def mean_rate_by_length(
    tokens: Int[np.ndarray, " N"],
    lo: Float[np.ndarray, " N"],
    hi: Float[np.ndarray, " N"],
    shortest: int,
    longest: int,
) -> Float[np.ndarray, " N"]:
    """μ(s) = lo + (hi − lo) (s − s_min) / (s_max − s_min).   [NaViT, app. B, fig. 14]

    Choice: s is clamped to [shortest, longest].   Raises ValueError unless shortest < longest.
    """
    if not shortest < longest:
        raise ValueError(f"drop rates by length need shortest < longest, got {shortest} and {longest} tokens")
    return lo + (hi - lo) * np.clip((tokens - shortest) / (longest - shortest), 0, 1)


def sample_rate_by_length(
    rng: np.random.Generator,
    tokens: Int[np.ndarray, " N"],
    lo: Float[np.ndarray, " N"],
    hi: Float[np.ndarray, " N"],
    shortest: int,
    longest: int,
) -> Float[np.ndarray, " N"]:
    """d ~ N(μ(s), σ²) with σ = 0.02, truncated to |d − μ(s)| ≤ 2 σ.   [NaViT, app. B, fig. 14]

    Raises ValueError unless 2 σ ≤ lo ≤ hi ≤ 1 − 2 σ, so that every rate is in [0, 1].
    """
    margin = CUT * SIGMA
    if not (margin <= lo.min() + 1e-9 and (lo <= hi + 1e-9).all() and hi.max() <= 1 - margin + 1e-9):
        raise ValueError(
            f"drop rates by length need {margin:g} <= lo <= hi <= {1 - margin:g}, "
            f"got lo={lo.min():g} and hi={hi.max():g}"
        )
    noise = sample_truncated_normal(rng, 0.0, 1.0, -CUT, CUT, len(tokens))
    return np.clip(mean_rate_by_length(tokens, lo, hi, shortest, longest) + SIGMA * noise, 0, 1)


def move_range(
    lo: float, hi: float, middle: Float[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """The range [lo, hi] of mean rates shifted to midpoint m: m ± min(δ, m − 2 σ, 1 − 2 σ − m), δ = (hi − lo) / 2.

    Choice: near 0 and 1 the range is narrower, and its midpoint stays m.
    """
    half = np.minimum((hi - lo) / 2, np.minimum(middle, 1 - middle) - CUT * SIGMA)
    return middle - half, middle + half


def scheduled_rate(
    images_seen: Int[np.ndarray, " N"], lo: float, hi: float, middle: float, width: float
) -> Float[np.ndarray, " N"]:
    """ρ(n) = lo + (hi − lo) · sigmoid((n − μ) / τ) after n training images.   [NaViT, eq. 1, fig. 8, fig. 15]

    `middle` μ and `width` τ are numbers of images. With τ < 0 the rate decreases, which is better in the paper.
    Raises ValueError unless 0 ≤ lo ≤ hi ≤ 1 and τ ≠ 0.
    """
    if not (0 <= lo <= hi <= 1 and width):
        raise ValueError(f"a schedule needs 0 <= lo <= hi <= 1 and a width, got lo={lo:g}, hi={hi:g}, width={width:g}")
    sigmoid = (1 + np.tanh((images_seen - middle) / width / 2)) / 2
    return lo + (hi - lo) * sigmoid


def kept_tokens(tokens: Int[np.ndarray, " N"], rate: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Number of tokens kept: max(1, ⌊s (1 − d)⌋).   Choice: floor, and at least one token.

    Raises ValueError where a rate is outside [0, 1].
    """
    if len(rate) and not 0 <= rate.min() <= rate.max() <= 1:
        raise ValueError(f"drop rates must lie in [0, 1], got {rate.min():g} to {rate.max():g}")
    return np.clip(np.floor(tokens * (1 - rate) + 1e-9), 1, np.iinfo(np.int32).max).astype(np.int32)
