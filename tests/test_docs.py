"""The documents point to what exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(p for folder in (ROOT, ROOT / "docs") for p in folder.glob("*.md"))
OBJECTS = [
    ROOT / "navit_eqx/resize.py",
    *ROOT.glob("data/*.py"),
    *ROOT.glob("navit_eqx/config*.py"),
    *ROOT.glob("harness/config.py"),
]


def names_in(path: Path) -> set[str]:
    """Classes and functions that a file defines at its top."""
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def broken(text: str) -> list[str]:
    """Pointers `path` and `path:name` of a text that lead nowhere."""
    found = []
    for pointer in re.findall(r"`([\w/]+/[\w.]+\.py(?::\w+)?)`", text):
        path, _, name = pointer.partition(":")
        if not (ROOT / path).is_file() or (name and name not in names_in(ROOT / path)):
            found.append(pointer)
    return found


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_code_that_a_page_names_exists(page):
    assert not broken(page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_row_of_the_method_has_a_test_and_its_objects_exist():
    classes = set().union(*(names_in(path) for path in OBJECTS))
    paper, *table = rows((ROOT / "docs/method.md").read_text())
    assert paper == ["paper", "reference", "backend or host", "object", "test", "experiment"]
    steps = [row for row in table if any(row[1:])]
    assert len(steps) > 35
    for row in steps:
        assert "`tests/" in row[4], f"no test: {row[0]}"
        for name in re.findall(r"`(\w+)`", row[3]):
            assert name in classes, f"no object {name}: {row[0]}"


def test_predictions_are_what_the_formulas_say():
    from examples.scaling import table

    text = (ROOT / "docs/scaling.md").read_text()
    assert [line for line in table() if line not in text] == []


def test_a_broken_pointer_is_found():
    text = "`reference/model.py:forward` `reference/model.py:backward` `reference/nowhere.py`"
    assert broken(text) == ["reference/model.py:backward", "reference/nowhere.py"]
