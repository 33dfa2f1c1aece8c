"""The rules of the house: which module may import which, and what stands alone.

Each rule is a function of a tree of files, so that a small test can show that it fails.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pytest

from tests.support.laws import caught

ROOT = Path(__file__).parent.parent
FLOORS = {"reference": 0, "data": 1, "navit_eqx": 1, "harness": 2}  # train.py, experiments and tests are above
PACKAGES = tuple(FLOORS)
ABOVE = {"benchmarks", "examples", "experiments", "tests", "train", "evaluate", "predict", "export"}


def modules_of(root: Path, packages=PACKAGES) -> dict[str, Path]:
    """Every module by its dotted name."""
    files = [path for package in packages for path in (root / package).rglob("*.py")]
    dotted = {".".join(path.relative_to(root).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in dotted.items()}


def imports(name: str, modules: dict[str, Path]) -> set[str]:
    """What a module imports, at its top or within a function; a name may be a module too."""
    path, found = modules[name], set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*outer, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.add(inner if inner in modules else source)
    return found | {package for other in found for package in first_of(other, name, modules)}


def first_of(other: str, name: str, modules: dict[str, Path]) -> set[str]:
    """Packages that Python imports before a module, and that the module which imports it is not in: what their
    `__init__.py` imports comes first."""
    parts = other.split(".")
    around = {".".join(parts[:k]) for k in range(1, len(parts))} & modules.keys()
    return {package for package in around if not f"{name}.".startswith(f"{package}.")}


def graph(root: Path) -> dict[str, set[str]]:
    modules = modules_of(root)
    return {name: imports(name, modules) for name in modules}


def has_no_circle(arrows: dict[str, set[str]]) -> None:
    """No module leads back to itself along imports."""
    done: set[str] = set()

    def follow(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path[path.index(name) :], name))
        if name in arrows and name not in done:
            for other in sorted(arrows[name]):
                follow(other, (*path, name))
            done.add(name)

    for name in sorted(arrows):
        follow(name, ())


def never_imports_upwards(arrows: dict[str, set[str]]) -> None:
    """reference < data < harness; navit_eqx stands alone, below harness; all else is above."""
    for name, others in arrows.items():
        package = name.split(".")[0]
        for other in others:
            top = other.split(".")[0]
            assert top not in ABOVE, f"{name} imports {other}"
            if top in FLOORS and top != package:
                assert FLOORS[top] < FLOORS[package] and (package, top) != ("navit_eqx", "reference"), (
                    f"{name} imports {other}"
                )


def third_party(arrows: dict[str, set[str]], part: str) -> set[str]:
    """Packages of others that the modules of a part import."""
    names = [name for name in arrows if name == part or name.startswith(part + ".")]
    tops = {other.split(".")[0] for name in names for other in arrows[name]}
    return tops - sys.stdlib_module_names - FLOORS.keys()


MODEL = {"numpy", "jax", "equinox", "jaxtyping", "safetensors", "PIL"}
ALLOWED = {
    "reference": {"numpy", "jaxtyping"},
    "reference.tasks.detect": {"numpy", "jaxtyping", "scipy"},
    "data": {"numpy", "jaxtyping", "grain", "array_record", "absl", "PIL", "pyarrow", "sklearn"},
    "data.sources.jpeg": {"numpy", "jaxtyping", "simplejpeg"},
    "data.sources.remote": {"fsspec"},
    "data.sources.video_files": {"numpy", "jaxtyping", "av"},
    "navit_eqx": MODEL,
    "navit_eqx.export": MODEL | {"jax2onnx"},
    "navit_eqx.sentencepiece": MODEL | {"sentencepiece"},
    "navit_eqx.training": MODEL | {"optax", "orbax", "tensorstore"},
    "navit_eqx.training.matching": MODEL | {"optax", "scipy"},
    "harness": {"numpy", "jaxtyping", "jax", "equinox", "tyro", "packaging", "matplotlib"},
    "harness.evaluation.studies.attributes": {"numpy", "jaxtyping", "sklearn"},
    "harness.evaluation.overlays": {"numpy", "jaxtyping", "PIL"},
}


def uses_what_its_chapter_may(arrows: dict[str, set[str]], allowed: dict[str, set[str]]) -> None:
    """The nearest entry above a module says what it may import."""
    for name in arrows:
        chapter = name
        while chapter not in allowed:
            chapter = chapter.rpartition(".")[0]
        found = third_party({name: arrows[name]}, name)
        assert found <= allowed[chapter], f"{name} imports {found - allowed[chapter]}"


@lru_cache
def ours() -> dict[str, set[str]]:
    return graph(ROOT)


def test_no_import_leads_in_a_circle():
    has_no_circle(ours())


def test_no_import_leads_upwards():
    never_imports_upwards(ours())


def test_chapters_use_what_they_may():
    uses_what_its_chapter_may(ours(), ALLOWED)


@pytest.fixture
def house(tmp_path):
    """A house with a room on each floor, and a function that adds a file."""

    def write(path: str, text: str) -> dict[str, set[str]]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        return graph(tmp_path)

    for package in PACKAGES:
        write(f"{package}/__init__.py", '"""A package."""\n')
        write(f"{package}/room.py", "import numpy\n")
    return write


def test_a_circle_is_caught(house):
    has_no_circle(house("data/window.py", "from .room import x\n"))
    caught(has_no_circle, house("data/room.py", "def f():\n    from . import window\n"))


def test_a_circle_through_a_package_is_caught(house):
    """A module that needs a file of a package gets all that the package imports, itself perhaps."""
    house("harness/studies/__init__.py", "from .one import x\n")
    has_no_circle(house("harness/studies/one.py", "from ..window import x\n"))
    house("harness/studies/two.py", "x = 1\n")
    caught(has_no_circle, house("harness/window.py", "from .studies.two import x\n"))


@pytest.mark.parametrize(
    "file, text",
    [
        ("reference/up.py", "from data.room import x"),
        ("data/up.py", "def f():\n    from harness import room"),
        ("navit_eqx/side.py", "from reference import room"),
        ("data/side.py", "import navit_eqx.room"),
        ("harness/up.py", "from experiments.bed import x"),
        ("reference/up.py", "import train"),
    ],
)
def test_an_import_upwards_is_caught(house, file, text):
    never_imports_upwards(house("harness/down.py", "from data import room\nfrom navit_eqx.room import x\n"))
    caught(never_imports_upwards, house(file, text))


def test_a_package_too_many_is_caught(house):
    uses_what_its_chapter_may(house("navit_eqx/training/step.py", "import optax"), ALLOWED)
    caught(uses_what_its_chapter_may, house("navit_eqx/step.py", "def f():\n    from optax import sgd\n"), ALLOWED)


def test_the_reference_stands_without_jax():
    named = [name for name in ours() if name.split(".")[0] == "reference"]
    stands("import sys", *without("jax"), *imported(named))


def test_the_backend_stands_alone():
    """Without the reference and without data; every chapter of it but `training` without Optax and Orbax, too."""
    named = [name for name in ours() if name.split(".")[0] == "navit_eqx"]
    learning = [name for name in named if name.startswith("navit_eqx.training")]
    stands(
        "import sys", *without("reference", "data", "optax", "orbax"), *imported(n for n in named if n not in learning),
        "try:\n    import navit_eqx.training.optim\nexcept ImportError:\n    pass\nelse:\n    sys.exit('not without')",
        "del sys.modules['optax'], sys.modules['orbax']", *imported(learning),
    )  # fmt: skip


def without(*packages: str) -> list[str]:
    """Lines of code after which these packages cannot be imported."""
    return [f"sys.modules[{package!r}] = None" for package in packages]


def imported(names: Iterable[str]) -> list[str]:
    return [f"import {name}" for name in names]


def stands(*lines: str) -> None:
    """Lines of code run, in a process of their own."""
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_does_not_stand_is_caught():
    caught(stands, "import sys", *without("numpy"), "import reference.masks")
