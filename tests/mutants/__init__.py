"""Would the tests notice? Mistakes are made in a copy of the code, one at a time, and the tests that should see it run.

A file for each part of the code, each with its MUTANTS; a mistake is known by its words. `__main__.py` makes them and
writes `docs/mutants.md`. One that survives is a missing test: write the law first, then the entry.
"""

from tests.mutants import contrast, data, front_door, harness, model, pairs, reference, tasks, training, weights
from tests.mutants.kinds import Mutant

TABLES: dict[str, tuple[Mutant, ...]] = {
    "reference": reference.MUTANTS,
    "model": model.MUTANTS,
    "tasks": tasks.MUTANTS,
    "contrast": contrast.MUTANTS,
    "training": training.MUTANTS,
    "front_door": front_door.MUTANTS,
    "data": data.MUTANTS,
    "harness": harness.MUTANTS,
    "pairs": pairs.MUTANTS,
    "weights": weights.MUTANTS,
}
MUTANTS: tuple[Mutant, ...] = tuple(mutant for table in TABLES.values() for mutant in table)
