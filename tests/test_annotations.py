"""Annotations are assertions: each function has a check of its own, made when it is first called."""

import subprocess
import sys
from pathlib import Path

import pytest
from beartype.roar import BeartypeCallHintViolation

from tests import check, check_at_once

ROOT = Path(__file__).parent.parent


def defined(kind: type, more: bool = False):
    """A function within a function: another one in each call, of the same name."""

    def inner(x: kind) -> kind: ...  # pyright: ignore[reportInvalidTypeForm]

    def wider(x: kind, y: kind) -> None: ...  # pyright: ignore[reportInvalidTypeForm]

    inner.__annotations__.pop("return")
    wider.__qualname__ = inner.__qualname__
    return wider if more else inner


@pytest.mark.parametrize("check", [check, check_at_once])
def test_functions_of_one_name_are_checked_by_their_own_annotations(check):
    for _ in range(2):
        for right, wrong in ((int, "a"), (str, 1)):
            check(defined(right))(right())
            check(defined(right, True))(right(), y=right())
            for arguments in ((wrong,), (right(), right())):
                with pytest.raises((BeartypeCallHintViolation, TypeError)):
                    check(defined(right))(*arguments)
            with pytest.raises(BeartypeCallHintViolation):
                check(defined(right, True))(right(), y=wrong)


def test_an_annotation_without_a_hash_is_checked():
    def odd(x: int): ...

    odd.__annotations__["y"] = []
    with pytest.raises(BeartypeCallHintViolation):
        check(odd)("a")


@pytest.mark.slow
def test_every_annotation_can_be_checked():
    """All at once: in the other tests, one of a function that is never called is not read."""
    code = """
import importlib, pkgutil
from jaxtyping import install_import_hook
names = ["reference", "navit_eqx", "data", "harness"]
with install_import_hook(names, "tests.check_at_once"):
    for package in map(importlib.import_module, names):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
