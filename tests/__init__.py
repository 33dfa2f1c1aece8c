"""Tests. `check` is what makes every annotation an assertion here: beartype, for which an int is a float too."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

check_at_once = beartype(conf=BeartypeConf(is_pep484_tower=True))
_made: dict[Any, Callable] = {}


def check(function: Callable) -> Callable:
    """Made when it is first called: a process imports thousands of functions and calls some. jaxtyping passes functions
    without a body, so equal signatures are one: a function within another is defined anew by each call."""
    code, made = function.__code__, None
    signature = code.co_varnames, code.co_argcount, code.co_kwonlyargcount, code.co_flags
    key = function.__module__, function.__qualname__, signature, (*function.__annotations__.items(),)

    def checked(*arguments: Any, **named: Any) -> Any:
        nonlocal made
        if made is None:
            try:
                made = _made.get(key) or _made.setdefault(key, check_at_once(function))
            except TypeError:  # an annotation without a hash
                made = check_at_once(function)
        return made(*arguments, **named)

    return checked
