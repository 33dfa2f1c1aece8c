"""The site: every page is in it, every link leads somewhere, and nothing is loaded from elsewhere."""

import importlib.util
import sys
import tomllib
from pathlib import Path

import pytest

from docs.__main__ import CONFIG, ROOT, api, broken, build, fenced, foreign, nav, slug, stage


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    stage(folder)
    return folder


def test_links_of_all_pages_lead_to_files_and_headings(pages):
    assert broken(pages) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "b.md").write_text("# The `b` – of it\n\n[here](#the-b-of-it)\n")
    (tmp_path / "a.md").write_text(
        "[b](b.md#the-b-of-it) [c](c.md) [d](b.md#none) `[code](no.md)` [far](https://x.y)\n"
    )
    assert broken(tmp_path) == ["a.md: c.md", "a.md: b.md#none"]
    assert slug("What a *run* leaves, `behind`: 2") == "what-a-run-leaves-behind-2"


def test_the_menu_has_every_page(pages):
    made = tomllib.loads(CONFIG.format(nav=nav(pages)))["project"]
    listed = {path for entry in made["nav"] for part in entry.values()
              for path in ([part] if isinstance(part, str) else [p for e in part for p in e.values()])}  # fmt: skip
    assert listed == {str(path.relative_to(pages)) for path in pages.rglob("*.md")}
    assert made["theme"]["font"] is False


def test_docstrings_are_those_of_the_code():
    page = api("reference")
    for words in ("## reference/packing.py", "### fullest_row", "def fullest_row(lengths: Sequence[int]", "class Row("):
        assert words in page, words
    assert "_fit_in_order" not in page
    assert fenced("a ``` b").startswith("````text\n")


def test_what_would_be_loaded_from_elsewhere_is_found(tmp_path):
    (tmp_path / "good.html").write_text('<script src="a.js"></script><a href="https://x.y">far</a><img src="data:,">')
    assert foreign(tmp_path) == []
    (tmp_path / "bad.html").write_text('<link rel="stylesheet" href="//x.y/z.css"><img src="https://x.y/p.png">')
    assert foreign(tmp_path) == ["bad.html: //x.y/z.css", "bad.html: https://x.y/p.png"]


@pytest.mark.slow
def test_the_site_is_built(tmp_path):
    if importlib.util.find_spec("zensical") is None:
        pytest.skip('Zensical is not installed: pip install -e ".[docs]"')
    assert sys.executable and (ROOT / "README.md").exists()
    build(tmp_path)
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html")}
    assert made >= {"index.html", "docs/tour/2_packing.html", "docs/packing/index.html", "api/reference.html"}
    assert "../tour/2_packing.html" in (tmp_path / "docs/packing/index.html").read_text()
