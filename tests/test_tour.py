"""The tour runs: every lesson, its answer included, gives its page; what it points to exists."""

import re
from pathlib import Path

import pytest

from docs.tour.__main__ import LESSONS, cells, notebook, page
from tests.test_docs import names_in

ROOT = Path(__file__).parent.parent
TOUR = ROOT / "docs" / "tour"
every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


@every_lesson
def test_a_lesson_runs_and_gives_its_page(lesson, tmp_path):
    made = page(lesson, tmp_path)
    assert made == lesson.with_suffix(".md").read_text(), "the page is of another text: python -m docs.tour"
    assert (tmp_path / f"{lesson.stem}.png").stat().st_size > 4_000


def has_all_parts(text: str) -> None:
    """The question, lines of the reference, a picture, an exercise with one folded answer, the tests that prove it."""
    parts = cells(text)
    assert re.match(r"# \d\. .+\n\n\*\d+ minutes\. Question: .+\?\*", parts[0].text, re.DOTALL)
    code = "\n".join(cell.text for cell in parts if cell.kind == "code")
    assert "from reference." in code and "inspect.getsource(" in code and "savefig(" in code
    assert "navit_eqx" not in code, "the tour needs NumPy alone"
    assert [cell.answer for cell in parts].count(True) == 1
    exercise = next(n for n, cell in enumerate(parts) if "**Exercise.**" in cell.text)
    assert parts[exercise + 1].answer and "**Proof.**" in parts[-1].text


@every_lesson
def test_a_lesson_has_all_its_parts(lesson):
    has_all_parts(lesson.read_text())


@every_lesson
def test_what_a_lesson_points_to_exists(lesson):
    text = lesson.with_suffix(".md").read_text()
    pointers = re.findall(r"`(tests/\w+\.py):(\w+)`", text)
    assert pointers
    for file, name in pointers:
        assert name in names_in(ROOT / file), f"{file}: {name}"
    words = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", words):
        assert (TOUR / target).exists(), target


def test_the_minutes_are_those_of_the_table():
    rows = re.findall(r"^\| (\d+) \| \[.*\]\((\w+)\.md\)", (TOUR / "README.md").read_text(), re.MULTILINE)
    table = {name: int(minutes) for minutes, name in rows}
    said = {lesson.stem: int(re.findall(r"\*(\d+) minutes", lesson.read_text())[0]) for lesson in LESSONS}
    assert table == said and sum(said.values()) == 90


def test_cells_are_the_lesson():
    text = '# %% [markdown]\n# # A\n#\n# b\n\n# %%\nx = 1\n\n# %% tags=["answer"]\nprint(x)\n'
    assert [tuple(cell) for cell in cells(text)] == [
        ("markdown", "# A\n\nb", False),
        ("code", "x = 1", False),
        ("code", "print(x)", True),
    ]


@every_lesson
def test_a_notebook_has_the_cells_of_its_lesson(lesson):
    made, parts = notebook(lesson.read_text()), cells(lesson.read_text())
    assert [(cell["cell_type"], cell["source"]) for cell in made["cells"]] == [(c.kind, c.text) for c in parts]
    assert len({cell["id"] for cell in made["cells"]}) == len(parts) and made["nbformat"] == 4
    hidden = [cell["metadata"].get("jupyter", {}).get("source_hidden", False) for cell in made["cells"]]
    assert hidden == [cell.answer for cell in parts]
