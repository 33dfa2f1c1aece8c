"""The site: pages, tour, interactive page and docstrings, by Zensical, without a network.

    pip install -e ".[docs]" -c constraints.txt
    python -m docs [FOLDER]        by default site/

Pages keep their places in the repository, so that their links hold here and there. A link that leads nowhere, or a page
that would load something from elsewhere, ends the build.
"""

import ast
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ("*.md", "docs/*.md", "docs/tour/*.md", "benchmarks/*.md", "experiments/**/*.md")
FILES = ("docs/img/*", "docs/tour/*.png", "docs/packing/*", "experiments/**/*.png")
CHAPTERS = ("reference", "navit_eqx", "data", "harness")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`|^    .*?$", re.MULTILINE | re.DOTALL)
CONFIG = """
[project]
site_name = "NaViT, packed and proven"
docs_dir = "pages"
site_dir = "site"
use_directory_urls = false
nav = [{nav}]

[project.theme]
font = false
features = ["navigation.sections", "navigation.top", "search.highlight"]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
"""


# pages ----------------------------------------------------------------------------------------------------


def stage(folder: Path) -> None:
    """Copy all pages and what they show to their places below `folder`, and write the pages of docstrings."""
    for pattern in (*PAGES, *FILES):
        for path in ROOT.glob(pattern):
            place = folder / path.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
            if path.suffix == ".html":  # pages are `.md` in the repository and `.html` in the site
                place.write_text(re.sub(r'(href="[^":]+)\.md"', r'\1.html"', path.read_text()))
    (folder / "api").mkdir(exist_ok=True)
    for chapter in CHAPTERS:
        (folder / "api" / f"{chapter}.md").write_text(api(chapter))


def api(chapter: str) -> str:
    """Docstrings and signatures of the public names of a package, file by file, in the order of their listing."""
    parts = [f"# {chapter}"]
    for path in sorted((ROOT / chapter).rglob("*.py"), key=lambda path: (len(path.parts), path)):
        tree = ast.parse(path.read_text())
        parts.append(f"## {path.relative_to(ROOT)}\n\n{fenced(ast.get_docstring(tree) or '')}")
        parts += [f"### {name}\n\n{fenced(text)}" for name, text in documented(tree)]
    return "\n\n".join(parts) + "\n"


def documented(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Public functions and classes of a module, each with its head and docstring."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            head = [f"@{ast.unparse(each)}" for each in node.decorator_list]
            if isinstance(node, ast.FunctionDef):
                result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
                head.append(f"def {node.name}({ast.unparse(node.args)}){result}")
            else:
                head.append(f"class {node.name}({', '.join(map(ast.unparse, node.bases))})".replace("()", ""))
            yield node.name, "\n".join([*head, "", ast.get_docstring(node) or ""]).rstrip()


def fenced(text: str) -> str:
    """Text as it stands, however many backticks it has."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def broken(folder: Path) -> list[str]:
    """Links of pages below a folder that lead to no file, or to no heading of a page."""
    wrong = []
    for page in sorted(folder.rglob("*.md")):
        for target, anchor in LINK.findall(CODE.sub("", page.read_text())):
            there = (page.parent / target).resolve() if target else page
            if not there.exists():
                wrong.append(f"{page.relative_to(folder)}: {target}")
            elif anchor and there.suffix == ".md" and anchor not in headings(there):
                wrong.append(f"{page.relative_to(folder)}: {target}#{anchor}")
    return wrong


def headings(page: Path) -> set[str]:
    """Anchors of the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {slug(words) for words in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def slug(words: str) -> str:
    """The anchor of a heading: lower case, dashes for spaces, without other marks."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", words)).strip().lower())


# site -------------------------------------------------------------------------------------------------------


def nav(folder: Path) -> str:
    """The entries of the menu, as TOML."""
    title = lambda path: re.sub(r"[`*\"]", "", path.read_text().split("# ", 1)[1].splitlines()[0])
    entry = lambda path: f'{{"{title(path)}" = "{path.relative_to(folder)}"}}'
    group = lambda name, paths: f'{{"{name}" = [{", ".join(map(entry, paths))}]}}'
    tour = [folder / "docs/tour/README.md", *sorted((folder / "docs/tour").glob("[0-9]*.md"))]
    experiments = [folder / "experiments/README.md", *sorted((folder / "experiments").glob("*/README.md"))]
    others = [folder / f"{name}.md" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG")]
    return ", ".join(
        [
            f'{{"NaViT" = "{"README.md"}"}}',
            group("Tour", tour),
            group("Pages", sorted((folder / "docs").glob("*.md"))),
            group("Experiments", experiments),
            group("Docstrings", sorted((folder / "api").glob("*.md"))),
            group("Project", [*others, folder / "benchmarks/README.md"]),
        ]
    )


class Loads(HTMLParser):
    """What a page loads when it is shown: addresses of scripts, styles, pictures and frames."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.found.append(given.get("src") or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect", "modulepreload"):
            self.found.append(given.get("href") or "")


def foreign(site: Path) -> list[str]:
    """Pages of a site that would load something from elsewhere, with its address."""
    wrong = []
    for page in sorted(site.rglob("*.html")):
        loads = Loads()
        loads.feed(page.read_text())
        wrong += [f"{page.relative_to(site)}: {url}" for url in loads.found if re.match(r"(https?:)?//", url)]
    return wrong


def build(out: Path) -> None:
    """Build the site.   Raises SystemExit where a link leads nowhere, or something would be loaded from elsewhere."""
    with tempfile.TemporaryDirectory() as inside:
        work = Path(inside)
        stage(work / "pages")
        if wrong := broken(work / "pages"):
            sys.exit("links that lead nowhere:\n" + "\n".join(wrong))
        (work / "zensical.toml").write_text(CONFIG.format(nav=nav(work / "pages")))
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
        if subprocess.run(command, cwd=work).returncode:
            sys.exit('the site was not built; is Zensical there? pip install -e ".[docs]" -c constraints.txt')
        if wrong := foreign(work / "site"):
            sys.exit("pages that load something from elsewhere:\n" + "\n".join(wrong))
        shutil.copytree(work / "site", out, dirs_exist_ok=True)
    print(f"site: {out}/index.html")


if __name__ == "__main__":
    build(Path(*sys.argv[1:2]) if sys.argv[1:] else ROOT / "site")
