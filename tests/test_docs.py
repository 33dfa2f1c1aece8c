"""The documents point to what exists."""

import ast
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import navit_eqx as navit
from data.sources.folder import Folder
from harness.config import Config
from harness.presets import PRESETS
from navit_eqx.preprocessing import Native, Preprocessing
from navit_eqx.tasks.config import Classify
from tests.support.strategies import random_model
from train import command_line

ROOT = Path(__file__).parent.parent
PAGES = sorted(p for folder in (ROOT, ROOT / "docs") for p in folder.glob("*.md"))
OBJECTS = [*ROOT.glob("data/**/*.py"), *ROOT.glob("navit_eqx/**/*.py"), ROOT / "harness/config.py"]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_part_of_a_page_stands_twice(page):
    """Headings, outside of code, are different ones."""
    assert repeated(page.read_text()) == set()


def repeated(text: str) -> set[str]:
    """Headings that stand more than once."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ .*$", text, flags=re.MULTILINE)
    return {heading for heading in found if found.count(heading) > 1}


def test_a_part_that_stands_twice_is_found():
    assert repeated("# A\n## B\n```\n# c\n# c\n```\n## D\n## B\n") == {"## B"}


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
    from examples.scaling import recipe, recipes, table

    text = (ROOT / "docs/scaling.md").read_text()
    assert [line for line in (*recipes(), *table()) if line not in text] == []
    rows = [int(found) for found in re.findall(r"--rows (\d+)", text)]
    assert len(rows) > 6 and all(recipe(count // 256) in text for count in rows), "rows, steps and rate fit each other"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_tests_that_a_page_names_exist(page):
    for file, name in re.findall(r"`(tests/\w+\.py):(\w+)`", page.read_text()):
        assert name in names_in(ROOT / file), f"{page.name} names {name} of {file}"


def test_the_code_of_the_library_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    info = navit.ModelInfo(("a", "b"), Preprocessing(Native(1.0), row_tokens=64, row_images=4))
    config = navit.ModelConfig((8, 8), width=16, depth=1, heads=2, mlp_width=16)
    navit.save_model("runs/digits", random_model(config, Classify(classes=2), info), info)
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save("photo.jpg")
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as users have it
        for block in blocks("library"):
            exec(block, names)
    assert names["p"].shape == (2, 2) and names["vectors"].shape == (2, 16) and names["why"] == ""
    assert [len(t) for t in names["tokens"]] == [3 * 5, 2 * 20]


def test_the_files_of_the_page_on_bands_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(blocks("bands")[0], {})
    source = Folder().open("scenes", "train", channels=6)
    assert len(source.manifest) == 75 and source.manifest.classes == ("field", "forest")
    note = "no validation split: 5 of 80 images are held out, about a tenth of each class"
    assert note in source.manifest.notes and note in (ROOT / "docs/bands.md").read_text()


def commands() -> set[tuple[str, ...]]:
    """Arguments of every `python train.py` on the pages but the log, with 1 for N."""
    found = set()
    for page in (p for p in PAGES if p.name not in ("log.md", "mutants.md", "CHANGELOG.md")):
        for line in re.findall(r"python train\.py([^`\n&]*)", page.read_text().replace("\\\n", " ")):
            words = re.sub(r"\s#.*", "", line).strip().strip("'\"),]").split()
            words = words[1:] if words[:1] == ["doctor"] else words
            if not {"...", "PRESET"} & {*words}:
                found.add(tuple("1" if word == "N" else word for word in words))
    return found


def test_the_commands_of_the_pages_are_accepted():
    assert len(commands()) > 20
    for arguments in sorted(commands()):
        preset, config = command_line(list(arguments))
        assert preset in PRESETS and isinstance(config, Config)


def blocks(page: str) -> list[str]:
    """The Python code of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / f"docs/{page}.md").read_text(), re.DOTALL)


def test_a_broken_pointer_is_found():
    text = "`reference/model.py:forward` `reference/model.py:backward` `reference/nowhere.py`"
    assert broken(text) == ["reference/model.py:backward", "reference/nowhere.py"]
