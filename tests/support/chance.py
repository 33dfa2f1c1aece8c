"""Laws of chance: what a distribution says of many draws, with limits that chance passes once in a million times."""

import numpy as np

SIGMAS = 5.0


def is_uniform(values, lo: float, hi: float) -> None:
    """Kolmogorov–Smirnov: the largest distance to U(lo, hi), limited by the inequality of Dvoretzky, Kiefer and
    Wolfowitz."""
    x = np.sort((np.asarray(values, float) - lo) / (hi - lo))
    steps = np.arange(len(x) + 1) / len(x)
    distance = max((steps[1:] - x).max(), (x - steps[:-1]).max(), -x[0], x[-1] - 1)
    limit = np.sqrt(np.log(2e6) / (2 * len(x)))
    assert distance <= limit, f"distance {distance:.3f} to U({lo:g}, {hi:g}), allowed {limit:.3f}"


def has_share(chosen, share: float) -> None:
    """A Bernoulli variable of this probability: its mean is within five standard errors."""
    chosen = np.asarray(chosen, bool)
    limit = SIGMAS * np.sqrt(share * (1 - share) / len(chosen))
    assert abs(chosen.mean() - share) <= limit, f"a share of {chosen.mean():.3f}, expected {share:g} ± {limit:.3f}"


def are_unrelated(*columns) -> None:
    """No two columns are correlated beyond five standard errors."""
    found = np.corrcoef(columns) - np.eye(len(columns))
    limit = SIGMAS / np.sqrt(len(columns[0]))
    assert np.abs(found).max() <= limit, f"a correlation of {np.abs(found).max():.2f}, allowed {limit:.2f}"
