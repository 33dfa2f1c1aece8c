"""Exceptions of data, and range checks. Messages say what happened, where, and how to fix it."""

from numbers import Real
from typing import Any


class DataError(ValueError):
    """The data cannot be used as asked: wrong labels, nothing fits, too much is unreadable."""


class DataMissing(DataError):
    """The path does not exist or has no image."""


class UnknownClasses(DataError):
    """Images have classes that are not among those that are known."""


class BadImage(ValueError):
    """An image that cannot be used, with the reason; the run continues without it."""


def check_in(interval: str, **values: Any) -> None:
    """Raises ValueError where a number, or one of a tuple, lies outside an interval such as "[0, 1)" or "(0, inf)".

    NaN lies outside every interval. None, a value left open, passes.
    """
    lo, hi = map(float, interval[1:-1].split(","))
    for name, value in values.items():
        for x in value if isinstance(value, tuple | list) else (value,):
            number: Any = x if isinstance(x, Real) and not isinstance(x, bool) else float("nan")
            inside = lo < number < hi or number == lo and interval[0] == "[" or number == hi and interval[-1] == "]"
            if x is not None and not inside:
                raise ValueError(f"{name}={x!r} must be in {interval}")


def check_ordered(**values: float | None) -> None:
    """Raises ValueError where the first of two numbers is above the second; None, a value left open, passes."""
    (low, lo), (high, hi) = values.items()
    if lo is not None and hi is not None and lo > hi:
        raise ValueError(f"{low}={lo!r} must not be above {high}={hi!r}")
