"""What a chapter says of itself: its list of files, its docstrings, and the length of the path that is read first."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.laws import caught

ROOT = Path(__file__).parent.parent
PACKAGES = ("reference", "data", "navit_eqx", "harness")


def lists_its_files(init: Path) -> None:
    """The docstring of a folder names exactly its files and its chapters."""
    text = ast.get_docstring(ast.parse(init.read_text())) or ""
    lines = [line for line in text.splitlines() if re.match(r"\s*(★ )?\w+(\.py|/)\s", line)]
    named = {name for line in lines for name in re.findall(r"(?<![\w./])(\w+(?:\.py|/))(?!\w)", line)}
    files = {path.name for path in init.parent.glob("*.py")} - {"__init__.py"}
    chapters = {f"{path.parent.name}/" for path in init.parent.glob("*/__init__.py")}
    assert named == files | chapters, (
        f"{init}: missing {(files | chapters) - named}, too many {named - files - chapters}"
    )


CHAPTERS = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("__init__.py"))]


@pytest.mark.parametrize("init", CHAPTERS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_chapter_lists_its_files(init):
    lists_its_files(init)


@pytest.mark.parametrize("line", ["", "    room.py   a room\n    hall.py   not there\n"])
def test_a_wrong_list_is_caught(tmp_path, line):
    init = tmp_path / "__init__.py"
    (tmp_path / "room.py").write_text("")
    init.write_text('"""A chapter.\n\n    room.py   a room\n"""\n')
    lists_its_files(init)
    init.write_text(f'"""A chapter.\n\n{line}"""\n')
    caught(lists_its_files, init)


LONGEST = 900  # lines of the core path, blank ones left out: one sitting


def core_path(text: str) -> list[str]:
    """Files marked with a star."""
    return re.findall(r"★ (\w+\.py)", text)


def is_read_in_one_sitting(files: list[Path]) -> None:
    lines = sum(bool(line.strip()) for path in files for line in path.read_text().splitlines())
    assert lines <= LONGEST, f"the core path has {lines} lines"


def test_the_core_path_is_read_in_one_sitting():
    stars = core_path((ROOT / "reference" / "__init__.py").read_text())
    core = "rows patches layers rope attention encoder pooling posembed masks model packing resize"
    assert sorted(stars) == sorted(f"{name}.py" for name in core.split())
    is_read_in_one_sitting([ROOT / "reference" / name for name in stars])


def test_a_core_path_that_grows_is_caught(tmp_path):
    (tmp_path / "long.py").write_text("x = 1\n" * (LONGEST + 1))
    caught(is_read_in_one_sitting, [tmp_path / "long.py"])


def public(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public functions and classes of a file."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node


def says_what_it_means(path: Path) -> None:
    """The module, and every public function and class in it, has a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text())), path
    for name, node in public(path):
        assert ast.get_docstring(node), f"{path}: {name} has no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_function_says_what_it_means(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        says_what_it_means(path)


@pytest.mark.parametrize("text", ["def f(): ...", "class C: ...", '"""A module."""\ndef f(): ...'])
def test_a_missing_docstring_is_caught(tmp_path, text):
    path = tmp_path / "module.py"
    path.write_text('"""A module."""\ndef f():\n    """A function."""\ndef _g(): ...\n')
    says_what_it_means(path)
    path.write_text(text)
    caught(says_what_it_means, path)
