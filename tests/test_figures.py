"""The table of all figures follows from the results, and names what is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import __main__ as command
from experiments import figures

DOCS = figures.PAGE.parent


def test_the_page_is_that_of_the_results():
    assert figures.PAGE.read_text() == figures.page(), "python -m experiments --page"


def test_no_row_is_empty():
    papers = [figure.paper for figure in figures.FIGURES]
    assert papers.count(figures.NAVIT) == 31 and papers.count(figures.FLEXIVIT) == 16
    for figure in figures.FIGURES:
        assert bool(figure.experiment) != bool(figure.why), figure
        if figure.experiment:
            assert set(figure.experiments) <= set(figures.experiments()) and figures.verdicts(figure), figure


def test_every_word_of_a_row_finds_a_claim():
    for figure in figures.FIGURES:
        for word in figure.says.split("|"):
            if figure.experiment:
                assert figures.verdicts(figure._replace(says=word)), (figure.place, word)


def test_every_experiment_has_a_row():
    """One that was not run yet is named in a row that says so; one of our own in the list of experiments."""
    assert all(f"({name}/README.md)" in (figures.HERE / "README.md").read_text() for name in figures.BEYOND)
    used = {name for figure in figures.FIGURES for name in figure.experiments}
    assert used <= set(figures.experiments())
    unused = set(figures.experiments()) - used - set(figures.BEYOND)
    waiting = " ".join(figure.why for figure in figures.FIGURES if figure.why.startswith("not run"))
    assert not [name for name in unused if f"experiments/{name}`" not in waiting], unused


def test_commands_in_the_table_exist():
    help_of = {name: (DOCS.parent / name).exists() for name in ("train.py", "evaluate.py")}
    assert all(help_of.values())
    studies = {path.stem for path in (DOCS.parent / "harness" / "evaluation" / "studies").glob("*.py")}
    for figure in figures.FIGURES:
        for names in re.findall(r"--studies ([a-z ]+)`", figure.why):
            assert set(names.split()) <= studies, figure


@pytest.mark.parametrize(
    "found, word",
    [
        (["holds", "holds"], "reproduced"),
        (["holds", "open"], "in part"),
        (["holds", "fails"], "in part"),
        (["fails", "open"], "contradicted"),
        (["open"], "open"),
        ([], "open"),
    ],
)
def test_words(found, word):
    assert figures.status(found) == word
    assert figures.status(found, out_of_scale=True) == "out of scale"


def test_a_name_that_is_none_is_refused():
    with pytest.raises(
        SystemExit, match="no experiment 'fig99'; there are: all adaptive_photographs adaptive_tokens choosing_tokens"
    ):
        command.main(["fig99"])


@pytest.mark.slow
def test_all_experiments_run():
    """Two arms each, two steps; nothing is written."""
    before = {path: path.read_bytes() for path in Path("experiments").glob("*/result.json")}
    subprocess.run([sys.executable, "-m", "experiments", "all", "--tiny"], check=True, timeout=1200)
    assert before == {path: path.read_bytes() for path in Path("experiments").glob("*/result.json")}
