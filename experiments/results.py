"""The three files of an experiment's folder: result.json, its picture, and the part of README.md made from it; on an
accelerator accelerator.json and its picture."""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.run.folder import PACKAGES, commit, write_json

RESULT, ACCELERATOR = "result", "accelerator"  # names of the files
HEADING = "## Result"
PLUS_MINUS = "Over {seeds} seeds; ± is half the width of a 95 % t interval."


def save(folder: Path, name: str = RESULT, **found: Any) -> dict:
    """Write NAME.json: what was found, with which code."""
    versions = {name: metadata.version(name) for name in PACKAGES} | {"python": platform.python_version()}
    arguments = [
        Path(word).name if word.startswith("/") else word for word in sys.argv[1:]
    ]  # no folders of this machine
    command = " ".join(["python", f"experiments/{folder.name}/run.py", *arguments])
    result = {"experiment": folder.name, "command": command, "commit": commit(), "versions": versions, **found}
    write_json(folder / f"{name}.json", result)
    return result


def renew(folder: Path, name: str = RESULT, **found: Any) -> dict:
    """Write NAME.json with other findings from the same command and code."""
    result = load(folder, name) | found
    write_json(folder / f"{name}.json", result)
    return result


def load(folder: Path, name: str = RESULT) -> dict:
    return json.loads((folder / f"{name}.json").read_text())


def fill_readme(folder: Path, result: Mapping) -> None:
    """Put the tables of a result under its heading, and leave the rest of the page as it is."""
    path = folder / "README.md"
    path.write_text(filled(path.read_text(), tables(result)))


def filled(page: str, text: str) -> str:
    """The page with `text` between the heading and the next one."""
    before, _, after = page.partition(HEADING + "\n")
    _, again, rest = after.partition("\n## ")
    return f"{before.rstrip()}\n\n{HEADING}\n\n{text}\n{again}{rest}"


def tables(result: Mapping) -> str:
    """Claims and verdicts, what ± says where models were trained, then the numbers, in Markdown."""
    said = [PLUS_MINUS.format(**result)] if "seeds" in result else []
    judged = [claim_table(result["claims"])] if result["claims"] else []
    return "\n\n".join([*judged, *said, *(markdown(rows) for rows in result["tables"])])


def claim_table(claims: Sequence[Mapping]) -> str:
    return markdown([{"claim": c["says"], "found": found(c), "verdict": f"**{c['verdict']}**"} for c in claims])


def found(claim: Mapping) -> str:
    """The number behind a verdict: of several pairs the one that decided, in points of accuracy."""
    if "found" in claim:
        return claim["found"]
    pair = min((p for p in claim["pairs"] if p["verdict"] == claim["verdict"]), key=lambda p: p["difference"])
    which = "" if len(claim["pairs"]) == 1 else f" ({' and '.join(pair['first'])} − {' and '.join(pair['second'])})"
    return f"{100 * pair['difference']:+.1f} ± {100 * pair['interval']:.1f}{which}"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with the keys of the first row as its heading."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(v) for v in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
