"""Configurations that make no sense."""

from numbers import Real
from typing import Any


class ConfigError(ValueError):
    """A configuration that makes no sense; the message says which key and how to mend it."""


def check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def check_in(where: str, interval: str, **values: Any) -> None:
    """Raises ConfigError where a number, or one of a tuple, lies outside an interval such as "[0, 1)" or "(0, inf)".

    NaN lies outside every interval. None, a value left open, passes. `where` is the key above: "optim" for `optim.lr`.
    """
    lo, hi = map(float, interval[1:-1].split(","))
    for name, value in values.items():
        for x in value if isinstance(value, tuple | list) else (value,):
            number = isinstance(x, Real) and not isinstance(x, bool)
            above = number and (lo <= x if interval[0] == "[" else lo < x)
            below = number and (x <= hi if interval[-1] == "]" else x < hi)
            check(x is None or (above and below), f"{where}{where and '.'}{name}={x!r} must be in {interval}")
