"""Would the tests notice? Mistakes are made in a copy of the code, one at a time, and the tests that should see it run.

A file for each part of the code, each with its MUTANTS; a mistake is known by its words. `__main__.py` makes them and
writes `docs/mutants.md`. One that survives is a missing test: write the law first, then the entry.
"""

from importlib import import_module
from pathlib import Path

from tests.mutants.kinds import Mutant

NO_TABLE = ("__init__", "__main__", "kinds", "made")
NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in NO_TABLE)
TABLES: dict[str, tuple[Mutant, ...]] = {name: import_module(f"tests.mutants.{name}").MUTANTS for name in NAMES}
MUTANTS: tuple[Mutant, ...] = tuple(mutant for table in TABLES.values() for mutant in table)
