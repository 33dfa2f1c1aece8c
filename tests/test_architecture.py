"""Who may import whom, and that both sides use the same names."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STANDARD = sys.stdlib_module_names
ALLOWED = {
    "reference": {"numpy", "jaxtyping"},
    "data": {"numpy", "jaxtyping", "grain", "array_record", "absl", "PIL", "pyarrow", "sklearn", "reference"},
    "navit_eqx": {"numpy", "jaxtyping", "jax", "equinox", "optax", "orbax", "safetensors"},
}
MIRRORED = ("attention", "encoder", "layers", "losses", "masks", "patches", "pooling", "posembed", "resize", "rope")


def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports from outside its own package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found - STANDARD


@pytest.mark.parametrize("package", ALLOWED)
def test_imports(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert imports(path) <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {imports(path)}"


def test_the_import_rule_can_fail(tmp_path):
    (tmp_path / "wrong.py").write_text("def f():\n    from jax.numpy import sum\n")
    assert imports(tmp_path / "wrong.py") == {"jax"}


@pytest.mark.parametrize("package, absent", [("reference", "jax"), ("navit_eqx", "reference"), ("navit_eqx", "data")])
def test_stands_without(package, absent):
    """The reference works where JAX is not installed; the backend without the reference."""
    modules = [f"{package}.{p.stem}" for p in (ROOT / package).glob("*.py") if p.stem != "__init__"]
    code = f"import sys; sys.modules[{absent!r}] = None\n" + "\n".join(f"import {m}" for m in modules)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def public_functions(module):
    return {
        name: f
        for name, f in inspect.getmembers(module, inspect.isfunction)
        if f.__module__ == module.__name__ and not name.startswith("_")
    }


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


# NumPy in both worlds
ON_HOST = {"patchify", "unpatchify", "raster", "base_patches", "vanilla_resize", "area_resize", "norm_resize"}
HELPERS = {
    "take",
    "one",
    "norm",
    "project",
    "posembed",
    "layers",
}  # done otherwise in the backend: by scan, by choice of a class


@pytest.mark.parametrize("name", MIRRORED)
def test_both_sides_use_the_same_names(name):
    slow, fast = (importlib.import_module(f"{side}.{name}") for side in ("reference", "navit_eqx"))
    checked = 0
    for function, f in public_functions(slow).items():
        if function in ON_HOST | HELPERS | {"gelu_tanh", "gelu_exact"}:
            continue
        want = list(inspect.signature(f).parameters)
        if want[0] == "params":
            got = list(inspect.signature(getattr(fast, camel(function)).__call__).parameters)
            assert got[1:] == want[1:], function
        else:
            assert list(inspect.signature(getattr(fast, function)).parameters) == want, function
        checked += 1
    assert checked


def test_rows_have_the_same_fields():
    from navit_eqx.rows import Row as fast
    from reference.rows import Row as slow

    assert fast._fields == slow._fields


def test_every_public_function_says_what_it_means():
    for package in ("reference", "navit_eqx", "data"):
        for path in (ROOT / package).glob("*.py"):
            module = importlib.import_module(f"{package}.{path.stem}" if path.stem != "__init__" else package)
            for name, f in public_functions(module).items():
                if package == "reference":
                    assert f.__doc__ or name.startswith("check"), f"{package}.{path.stem}.{name} has no docstring"
            assert module.__doc__, path


def test_the_project_names_no_registry():
    """Where packages come from is the user's configuration."""
    for path in [*ROOT.glob("*.txt"), *ROOT.glob("*.toml"), *ROOT.glob("*.md")]:
        for word in ("://" + "pypi", "python" + "hosted", "index-" + "url"):
            assert word not in path.read_text(), f"{path.name} names {word}"
