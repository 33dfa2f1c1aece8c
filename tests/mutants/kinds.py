"""What a mistake is, and where the table of those that were made stands."""

from pathlib import Path
from typing import NamedTuple

from tests.support.mutation import Change

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "mutants.md"


class Mutant(NamedTuple):
    """A mistake: changes at places of the code, the tests that must see it, and whether none did at first."""

    what: str
    changes: tuple[tuple[str, Change], ...]
    tests: tuple[str, ...]
    survived: bool = False


def one(what: str, place: str, change: Change, *tests: str, survived: bool = False) -> Mutant:
    """A mistake in one place."""
    return Mutant(what, ((place, change),), tests, survived)
