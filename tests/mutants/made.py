"""Mistakes made in a copy of the code, the tests run on it, and the page that says which test saw which."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.mutants import MUTANTS, TABLES
from tests.mutants.kinds import PAGE, ROOT, Mutant
from tests.support.mutation import DoesNotApply, file_of, mutated

LIMIT = 900  # seconds for the tests of a mistake
HEAD = "| mistake | place | | seen by | seconds |\n| --- | --- | --- | --- | --- |\n"
PARTS = (
    *("reference", "navit_eqx", "data", "harness", "benchmarks", "examples", "tests"),
    *("train.py", "evaluate.py", "predict.py", "export.py", "README.md", "pyproject.toml"),
)


def sources(mutant: Mutant, root: Path = ROOT) -> dict[Path, str]:
    """The files of a mistake, made.   Raises DoesNotApply, naming it, where the code has moved on."""
    made: dict[Path, str] = {}
    for place, change in mutant.changes:
        file = file_of(root, place)
        try:
            text = made.get(file) or file.read_text()
            made[file] = mutated(text, place, change)
            compile(made[file], str(file), "exec")
        except (OSError, DoesNotApply, SyntaxError) as error:
            raise DoesNotApply(f"{mutant.what!r} cannot be made any more: {error}") from None
    return made


def not_made() -> list[str]:
    """Why mistakes cannot be made any more."""
    wrong = []
    for mutant in MUTANTS:
        try:
            sources(mutant)
        except DoesNotApply as error:
            wrong.append(str(error))
    return wrong


def run(tests: Iterable[str], made: dict[Path, str]) -> tuple[int, list[str], str]:
    """Exit code of pytest on a copy of the code with these files changed, the tests that failed, and what it said.

    A mistake after which tests do not end says nothing: give them a reason to fail first.
    """
    with tempfile.TemporaryDirectory() as inside:
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, Path(inside) / part)
        for file, text in made.items():
            (Path(inside) / file.relative_to(ROOT)).write_text(text)
        stop = ["-x"] if made else []
        command = [sys.executable, "-m", "pytest", "-n", "0", *stop, "-q", "--tb=no", "-p", "no:cacheprovider"]
        env = os.environ | {
            "HYPOTHESIS_PROFILE": "mutants",
            "PYTHONPATH": os.pathsep.join([inside, os.environ.get("PYTHONPATH", "")]),
        }
        limit = LIMIT if made else None
        try:
            done = subprocess.run(
                [*command, *tests], cwd=inside, env=env, capture_output=True, text=True, timeout=limit
            )
        except subprocess.TimeoutExpired:
            return -1, [], f"no end after {limit} s"
    failed = re.findall(r"^(?:FAILED|ERROR) ([^\s\[]+)", done.stdout, re.M)
    return done.returncode, list(dict.fromkeys(failed)), done.stdout[-300:]


def outcome(mutant: Mutant) -> tuple[str, str, int]:
    """("seen", the test that failed, seconds), or ("survived" or "broken", what pytest said, seconds)."""
    start = time.monotonic()
    code, failed, said = run(mutant.tests, sources(mutant))
    seconds = round(time.monotonic() - start)
    if code == 1 and failed:
        return "seen", f"`{failed[0]}`", seconds
    return ("survived", "", seconds) if code == 0 else ("broken", said, seconds)


def recorded() -> dict[str, str]:
    """Lines of the page so far, by the words of their mistakes."""
    lines = PAGE.read_text().splitlines() if PAGE.exists() else []
    cells = ((line.split(" | ")[0].removeprefix("| "), line) for line in lines if line.startswith("| "))
    return {what: line for what, line in cells if what not in ("mistake", "---")}


def row(mutant: Mutant, found: str) -> str:
    """A line of the page, as far as its first cells if nothing was found yet."""
    return f"| {mutant.what} | `{mutant.changes[0][0]}` | {found}"


def write(lines: dict[str, str]) -> None:
    """The page, with the mistakes of the list alone, as they are called and placed today."""
    kept = {m.what: lines[m.what] for m in MUTANTS if lines.get(m.what, "").startswith(row(m, ""))}
    seen = sum(" | seen | " in line for line in kept.values())
    survived = sum(mutant.survived for mutant in MUTANTS)
    tables = (
        f"## {name}\n\n{HEAD}" + "\n".join(kept[m.what] for m in table if m.what in kept)
        for name, table in TABLES.items()
    )
    PAGE.write_text(
        "# Would the tests notice?\n\n"
        f"{len(kept)} of {len(MUTANTS)} mistakes were made so far, one at a time in a copy of the code, and the\n"
        f"tests meant to see them were run: {seen} were seen. {survived} of them survived when they were first made:\n"
        "each of these got a law. `python -m tests.mutants` makes them again; the lists are in `tests/mutants/`.\n"
        "Seconds are those of a busy machine.\n\n" + "\n\n".join(tables) + "\n"
    )
