"""The tour: seven lessons that run. Each is a file of cells, for notebooks and for reading.

python -m docs.tour                       run all; write their pages and pictures again
python -m docs.tour --notebooks FOLDER    the lessons as notebooks
"""

import contextlib
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
LESSONS = sorted(HERE.glob("[0-9]_*.py"))
ANSWER = ' tags=["answer"]'


class Cell(NamedTuple):
    """A part of a lesson. An answer is folded."""

    kind: str
    """markdown or code"""
    text: str
    answer: bool = False


def cells(lesson: str) -> list[Cell]:
    """The cells of a lesson in the percent format: `# %%` begins a cell, Markdown stands in comments."""
    found = []
    for head, text in re.findall(r"^# %%([^\n]*)\n(.*?)(?=^# %%|\Z)", lesson, re.MULTILINE | re.DOTALL):
        if head == " [markdown]":
            found.append(Cell("markdown", re.sub(r"^# ?", "", text.strip("\n"), flags=re.MULTILINE)))
        else:
            found.append(Cell("code", text.strip("\n"), head == ANSWER))
    return found


def page(lesson: Path, pictures: Path) -> str:
    """Run a lesson; its page, with what each cell printed. The picture is written into `pictures`."""
    names: dict[str, Any] = {"__name__": lesson.stem}
    parts = [f"<!-- made by `python -m docs.tour` from {lesson.name}: change that file -->"]
    with contextlib.chdir(pictures):
        for cell in cells(lesson.read_text()):
            parts.append(cell.text if cell.kind == "markdown" else shown(cell, run(cell.text, lesson, names)))
    return "\n\n".join(parts) + "\n"


def run(code: str, lesson: Path, names: dict[str, Any]) -> str:
    """Run a cell; what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, lesson.name, "exec"), names)
    return said.getvalue().rstrip()


def shown(cell: Cell, said: str) -> str:
    """A cell of code and what it printed, as Markdown."""
    text = f"```python\n{cell.text}\n```" + (f"\n\n```text\n{said}\n```" if said else "")
    return f"<details>\n<summary>Answer</summary>\n\n{text}\n\n</details>" if cell.answer else text


def notebook(lesson: str) -> dict[str, Any]:
    """A lesson as a Jupyter notebook; answers are hidden until they are opened."""
    made = []
    for number, cell in enumerate(cells(lesson)):
        about: dict[str, Any] = {"id": f"cell-{number}", "cell_type": cell.kind, "source": cell.text, "metadata": {}}
        if cell.kind == "code":
            about |= {"execution_count": None, "outputs": []}
        if cell.answer:
            about["metadata"] = {"tags": ["answer"], "jupyter": {"source_hidden": True}}
        made.append(about)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": made}


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--notebooks"] and len(arguments) == 2:
        folder = Path(arguments[1])
        os.makedirs(folder, exist_ok=True)
        for lesson in LESSONS:
            (folder / f"{lesson.stem}.ipynb").write_text(json.dumps(notebook(lesson.read_text()), indent=1) + "\n")
    elif arguments:
        sys.exit(__doc__)
    else:
        for lesson in LESSONS:
            lesson.with_suffix(".md").write_text(page(lesson, HERE))


if __name__ == "__main__":
    main(sys.argv[1:])
