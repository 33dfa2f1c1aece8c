"""Citations are of one edition of each paper: docs/papers.md lists every place that is cited, and no other."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / f"docs/{name}.md" for name in ("evaluation", "method", "sampling")]
CODE = [
    p
    for top in ("reference", "navit_eqx", "data", "harness", "experiments", "examples")
    for p in ROOT.glob(f"{top}/**/*.py")
]
NAMES = "NaViT", "FlexiViT", "ViT"
NUMBERS = r"\d+[a-c]?(?:(?:, | and |-|–)\d+[a-c]?\b)*"
PLACE = re.compile(rf"§\d(?:\.\d)?|\b(?:figs?|tables?|eqs?)\.? {NUMBERS}|\bapp\. [A-Z](?:\.\d)?\b")
NO_PLACE = re.compile(r"\bapp(?:endix|endices)?\b(?!\. [A-Z]\b)", re.IGNORECASE)


def places_in(text: str) -> set[str]:
    """Every place that a text names: "figs. 2 and 17c" are "fig. 2" and "fig. 17"."""
    found = set()
    for place in PLACE.findall(text):
        kind = re.match(r"(fig|table|eq)", place)
        if not kind:
            found.add(place)
            continue
        dot = "" if kind[1] == "table" else "."
        found |= {f"{kind[1]}{dot} {number}" for number in re.findall(r"\d+", place)}
    return found


def citations(text: str) -> list[tuple[str, str]]:
    """Paper and words of each part of "[NaViT, fig. 1; ViT, §4.1]"; a part without a name continues the one before."""
    found = []
    for cited in re.findall(r"\[([^\[\]]*)\](?!\()", text):
        paper = ""
        for part in re.split(r"[;:] ", " ".join(cited.split())):
            name, _, words = part.partition(", ")
            paper = name if name in NAMES else paper if paper and name not in NAMES else ""
            if paper:
                found.append((paper, words if name in NAMES else part))
    return found


def listed() -> dict[str, set[str]]:
    """Places of each paper in docs/papers.md."""
    parts = re.split(r"^## ", (ROOT / "docs/papers.md").read_text(), flags=re.MULTILINE)[1:]
    return {part.split()[0]: set(re.findall(r"^\| ([^|]*\d[^|]*|app[^|]*) \|", part, re.MULTILINE)) for part in parts}


def cited() -> dict[str, dict[str, str]]:
    """Places of each paper, each with a file that cites it. Tables with a column "paper" cite without brackets."""
    found: dict[str, dict[str, str]] = {name: {} for name in NAMES}
    for path in (*CODE, *PAGES):
        for paper, words in citations(path.read_text()):
            assert not NO_PLACE.search(words), (
                f"{path}: [{paper}, {words}] names no appendix: write app. and its letter"
            )
            found[paper] |= dict.fromkeys(places_in(words), str(path))
    for path, paper, words in columns():
        found[paper] |= dict.fromkeys(places_in(words), str(path))
    return found


def columns():
    """Cells of the columns "paper": the first of docs/method.md, the last of docs/sampling.md."""
    paper = "NaViT"
    for line in (ROOT / "docs/method.md").read_text().splitlines():
        if line.startswith("| "):
            words = line.strip("|").split("|")[0]
            paper = "FlexiViT" if "**FlexiViT" in words else "NaViT" if "**" in words else paper
            yield ROOT / "docs/method.md", paper, words
    for line in (ROOT / "docs/sampling.md").read_text().splitlines():
        if line.startswith("| "):
            yield ROOT / "docs/sampling.md", "NaViT", line.strip("| ").split("|")[-1]


def test_every_citation_is_of_the_edition_that_is_listed():
    known = listed()
    wrong = [
        f"{path}: {paper}, {place}"
        for paper, all_ in cited().items()
        for place, path in all_.items()
        if place not in known[paper]
    ]
    assert known.keys() == {*NAMES} and not wrong, "\n".join(wrong)


def test_every_place_that_is_listed_is_cited():
    found = cited()
    assert {paper: places - found[paper].keys() for paper, places in listed().items()} == dict.fromkeys(NAMES, set())


def test_what_a_citation_is():
    text = "x [ViT, eq. 2-4; QK-norm: NaViT, §2.1] [NaViT, figs. 2, 3 and 17c; app. B, fig. 14] [NaViT](page) [0, 1]"
    found = [(paper, places_in(words)) for paper, words in citations(text)]
    assert found == [
        ("ViT", {"eq. 2", "eq. 4"}),
        ("ViT", set()),
        ("NaViT", {"§2.1"}),
        ("NaViT", {"fig. 2", "fig. 3", "fig. 17"}),
        ("NaViT", {"app. B", "fig. 14"}),
    ]
    assert NO_PLACE.search("app. on calibration") and not NO_PLACE.search("app. E, and what applies")
