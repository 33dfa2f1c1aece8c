"""python -m tests.mutants                        all mistakes, about half a minute each
python -m tests.mutants data "images mirrored"    those of a table, or with these words
python -m tests.mutants --new                     those that are not yet on the page
python -m tests.mutants --check                   whether each can still be made; no test runs

The page, `docs/mutants.md`, says which test failed. The tests are first run on the code as it is: one that fails there
says nothing about a mistake.
"""

import sys

from tests.mutants import MUTANTS, TABLES
from tests.mutants.kinds import Mutant
from tests.mutants.made import not_made, outcome, recorded, row, run, write


def chosen(words: list[str]) -> list[Mutant]:
    """Mistakes of the tables of these names and with these words; all without any.   Raises SystemExit on others."""
    found: list[Mutant] = []
    for word in words:
        named = TABLES.get(word) or [m for m in MUTANTS if word in m.what]
        found += named or sys.exit(f"no table and no mistake is called {word!r}; tables: {', '.join(TABLES)}")
    return list(dict.fromkeys(found if words else MUTANTS))


def main(arguments: list[str]) -> None:
    if "--check" in arguments:
        sys.exit("\n".join(not_made()) or print(f"all {len(MUTANTS)} mistakes can be made"))
    mutants = chosen([word for word in arguments if word != "--new"])
    if "--new" in arguments:
        mutants = [mutant for mutant in mutants if mutant.what not in recorded()]
    _, failing, _ = run(dict.fromkeys(test for mutant in mutants for test in mutant.tests), {})
    for mutant in mutants:
        already = [test for test in mutant.tests if test in failing]
        how, said, seconds = ("broken", f"{already[0]} fails without it", 0) if already else outcome(mutant)
        print(f"{mutant.what}: {how} {said} {seconds} s", flush=True)
        if how != "broken":
            write(recorded() | {mutant.what: row(mutant, f"{how} | {said} | {seconds} |")})


if __name__ == "__main__":
    main(sys.argv[1:])
