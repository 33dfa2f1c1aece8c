"""ConfigError, and checks that raise it."""

from numbers import Real
from typing import Any


class ConfigError(ValueError):
    """An invalid configuration; the message names the key and the fix."""


class Unavailable(Exception):
    """A device, or another process of the run, is not there."""


def check(condition: bool, message: str) -> None:
    """Raises ConfigError(message) unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def check_in(where: str, interval: str, **values: Any) -> None:
    """Raises ConfigError where a number, or one of a tuple, is outside an interval such as "[0, 1)" or "(0, inf)".

    NaN is outside every interval. None (automatic) passes. `where` is the parent key: "optim" for `optim.lr`.
    """
    lo, hi = map(float, interval[1:-1].split(","))
    for name, value in values.items():
        for x in value if isinstance(value, tuple | list) else (value,):
            inside = is_number(x) and (lo < x < hi or x == lo and interval[0] == "[" or x == hi and interval[-1] == "]")
            check(x is None or inside, f"{where}{where and '.'}{name}={x!r} must be in {interval}")


def is_number(x: Any) -> bool:
    """Whether x is a real number; True and False are not."""
    return isinstance(x, Real) and not isinstance(x, bool)
