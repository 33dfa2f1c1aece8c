"""The rules of the house: which module may import which, names on both sides, docstrings, and how a task is added.

Each rule is a function of a tree of files or of modules, so that a small test can show that it fails.
"""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import pytest

import train
from data.sources.digits import Digits
from harness.presets import digits
from navit_eqx import load_model
from navit_eqx.config import Factorised
from navit_eqx.rows import Batch as DeviceBatch
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference import model as slow_model
from reference import tasks as slow_tasks
from reference.rows import pack
from tests.support import laws, toy_task
from tests.support.laws import caught
from tests.support.strategies import CONFIG, I, Packed, T, model, tokens_of
from tests.support.tolerances import FLOAT64, assert_close

ROOT = Path(__file__).parent.parent
FLOORS = {"reference": 0, "data": 1, "navit_eqx": 1, "harness": 2}  # train.py, experiments and tests are above
PACKAGES = tuple(FLOORS)
ABOVE = {"benchmarks", "examples", "experiments", "tests", "train", "evaluate", "predict"}


# who imports whom -----------------------------------------------------------------------------------


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
    return found


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
    "data": {"numpy", "jaxtyping", "grain", "array_record", "absl", "PIL", "pyarrow", "sklearn"},
    "navit_eqx": MODEL,
    "navit_eqx.training": MODEL | {"optax", "orbax"},
    "harness": {"numpy", "jaxtyping", "jax", "equinox", "tyro", "packaging", "matplotlib"},
}


def uses_what_its_chapter_may(arrows: dict[str, set[str]], allowed: dict[str, set[str]]) -> None:
    """The nearest entry above a module says what it may import."""
    for name in arrows:
        chapter = name
        while chapter not in allowed:
            chapter = chapter.rpartition(".")[0]
        found = third_party({name: arrows[name]}, name)
        assert found <= allowed[chapter], f"{name} imports {found - allowed[chapter]}"


ARROWS = graph(ROOT)


def test_no_import_leads_in_a_circle():
    has_no_circle(ARROWS)


def test_no_import_leads_upwards():
    never_imports_upwards(ARROWS)


def test_chapters_use_what_they_may():
    uses_what_its_chapter_may(ARROWS, ALLOWED)


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


@pytest.mark.parametrize("package, absent", [("reference", "jax"), ("navit_eqx", "reference"), ("navit_eqx", "data")])
def test_stands_without(package, absent):
    """The reference works where JAX is not installed; the backend without the reference and without data."""
    done = without(absent, [name for name in ARROWS if name.split(".")[0] == package])
    assert done.returncode == 0, done.stderr


def test_the_model_stands_without_what_trains_it():
    """Every chapter of navit_eqx but `training` works without Optax and Orbax."""
    names = [name for name in ARROWS if name.startswith("navit_eqx") and not name.startswith("navit_eqx.training")]
    done = without("optax", names)
    assert done.returncode == 0, done.stderr
    assert without("optax", [*names, "navit_eqx.training.optim"]).returncode != 0


def without(absent: str, names: list[str]) -> subprocess.CompletedProcess:
    """Import these modules where one package is missing."""
    code = f"import sys; sys.modules[{absent!r}] = None\n" + "\n".join(f"import {name}" for name in names)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


# what a chapter says of itself ----------------------------------------------------------------------


def lists_its_files(init: Path) -> None:
    """The docstring of a folder names exactly its files and its chapters."""
    text = ast.get_docstring(ast.parse(init.read_text())) or ""
    lines = [line for line in text.splitlines() if re.match(r"\s*(★ )?\w+(\.py|/)\s", line)]
    named = {name for line in lines for name in re.findall(r"(?<![\w./])(\w+(?:\.py|/))(?!\w)", line)}
    files = {path.name for path in init.parent.glob("*.py")} - {"__init__.py"}
    chapters = {f"{path.parent.name}/" for path in init.parent.glob("*/__init__.py")}
    assert named == files | chapters, f"{init}: missing {files | chapters - named}, too many {named - files - chapters}"


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


# both sides use the same names ----------------------------------------------------------------------

MIRRORED = tuple(
    str(path.relative_to(ROOT / "reference").with_suffix("")).replace("/", ".")
    for path in sorted((ROOT / "reference").rglob("*.py"))
    if (ROOT / "navit_eqx" / path.relative_to(ROOT / "reference")).exists() and path.name != "__init__.py"
)
HOST = "works on the images of the host"
CLASS = "a class is chosen instead of a name"
METHOD = "a method of the module: "
FRESH = "makes fresh parameters; the reference has init.py"
SPEED = "a part of its own for speed or precision"
# Functions that one side has, or has with other arguments, and why.
EXCEPTIONS = {
    "attention.project": "the reference reads its arrays by name",
    "attention.attend": "chooses a kernel",
    "attention.dot_product_attention": SPEED,
    "attention.dot_product_attention_fwd": SPEED,
    "attention.dot_product_attention_bwd": SPEED,
    "attention.plus": "a bias that may be None",
    "attention.heads_first": SPEED,
    "encoder.hidden_states": METHOD + "Encoder.hidden_states",
    "encoder.take": "the backend scans over layers",
    "encoder.one": "the backend scans over layers",
    "encoder.sample_gates": "the backend draws from a key and the numbers of the images",
    "layers.norm": CLASS,
    "layers.gelu_tanh": "jax.nn.gelu",
    "layers.gelu_exact": "jax.nn.gelu",
    "layers.normal": FRESH,
    "layers.make_norm": FRESH,
    "layers.full": SPEED,
    "layers.matmul": SPEED,
    "layers.expand": "axes are added explicitly in the backend",
    "layers.scaled": SPEED,
    "layers.normalize": "in patches.py of the reference, beside the other functions of patches",
    "layers.compute_dtype": "precision is a matter of the backend",
    "masks.spans": "kernels read where images begin and end",
    "model.embed_patches": METHOD + "NaViT.embed_patches",
    "model.at_patch_size": METHOD + "NaViT.patch_embedding_at",
    "model.rotary_angles": METHOD + "NaViT.embed_row",
    "model.registers_of": METHOD + "NaViT.embed_row",
    "model.embed_row": METHOD + "NaViT.embed_row",
    "model.forward": METHOD + "NaViT.__call__",
    "model.forward_image": "the meaning, which only the reference has",
    "model.image_hidden_states": "the meaning, which only the reference has",
    "pooling.pool": CLASS,
    "pooling.make_pool": FRESH,
    "pooling.probes": SPEED,
    "posembed.posembed": CLASS,
    "posembed.make_posembed": FRESH,
    "resize.base_patches": HOST,
    "resize.vanilla_resize": "compared with in the reference, and not used",
    "resize.area_resize": "compared with in the reference, and not used",
    "resize.norm_resize": "compared with in the reference, and not used",
    "rope.make_rope": FRESH,
    "rows.pack": HOST,
    "rows.check_fits": HOST,
    "rows.unpack": HOST,
    "rows.to_device": "the reference stays on the host",
    "tasks.classify.predict": METHOD + "Classify.predict",
    "tasks.classify.loss": METHOD + "Classify.loss",
    "tasks.classify.zero_head": FRESH,
    "tasks.classify.logits_of": "the reference has it in predict",
    "tasks.classify.sum_over_real": "the reference sums in each formula",
    "tasks.classify.correct": "in evaluation/metrics.py of the reference",
    "tasks.distill.loss": METHOD + "Distill.loss",
    "tasks.distill.agreements": "in evaluation/metrics.py of the reference, as `correct`",
    "tasks.multi_label.loss": METHOD + "MultiLabel.loss",
    "tasks.multi_label.hits_at_1": "in evaluation/metrics.py of the reference, as `precision_at_1`",
}


def functions_of(module) -> dict[str, object]:
    """Public functions that a module defines; below their decorators."""
    found = {name: inspect.unwrap(f) for name, f in vars(module).items() if callable(f) and not name.startswith("_")}
    return {name: f for name, f in found.items() if inspect.isfunction(f) and f.__module__ == module.__name__}


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def mirrors(slow, fast, exceptions: set[str]) -> None:
    """Each public function of one side is on the other, with the same arguments: as a function, or, where the
    reference takes `params`, as a class. Methods that an exception names exist."""
    ours, theirs = functions_of(slow), functions_of(fast)
    for name in (ours.keys() | theirs.keys()) - exceptions:
        if name in ours and name not in theirs:
            assert hasattr(fast, camel(name)), f"{name} is not in {fast.__name__}"
            got = list(inspect.signature(getattr(fast, camel(name)).__call__).parameters)[1:]
            assert got == list(inspect.signature(ours[name]).parameters)[1:], name
        else:
            assert name in ours, f"{name} is not in {slow.__name__}"
            got, want = (list(inspect.signature(side[name]).parameters) for side in (theirs, ours))
            assert got == want, f"{name}: {got} and {want}"


def sides_of(name: str) -> list:
    return [importlib.import_module(f"{side}.{name}") for side in ("reference", "navit_eqx")]


@pytest.mark.parametrize("name", MIRRORED)
def test_both_sides_use_the_same_names(name):
    slow, fast = sides_of(name)
    exceptions = {key.rpartition(".")[2]: why for key, why in EXCEPTIONS.items() if key.rpartition(".")[0] == name}
    mirrors(slow, fast, set(exceptions))
    for function, why in exceptions.items():
        assert function in functions_of(slow).keys() | functions_of(fast).keys(), f"{function} is no exception any more"
        if why.startswith(METHOD):
            kind, method = why.removeprefix(METHOD).split(".")
            assert callable(getattr(getattr(fast, kind), method)), why


def test_every_exception_is_of_a_mirrored_file():
    assert {key.rpartition(".")[0] for key in EXCEPTIONS} <= set(MIRRORED)
    core = {"attention", "encoder", "layers", "masks", "model", "pooling", "posembed", "resize", "rope", "rows"}
    assert core | {f"tasks.{task}" for task in ("classify", "multi_label", "distill")} <= set(MIRRORED)


def test_other_names_and_arguments_are_caught(monkeypatch):
    slow, fast = sides_of("masks")
    mirrors(slow, fast, {"spans"})
    caught(mirrors, slow, fast, set())
    renamed = lambda ids, slots: fast.slot_tokens(ids, slots)
    renamed.__module__ = fast.__name__
    monkeypatch.setattr(fast, "used_slots", renamed)
    caught(mirrors, slow, fast, {"spans"})


def test_rows_batches_and_targets_have_the_same_fields():
    slow, fast = sides_of("rows")
    for name in ("Row", "Batch"):
        assert getattr(slow, name)._fields == getattr(fast, name)._fields
    for task in ("classify", "multi_label", "distill"):
        slow, fast = sides_of(f"tasks.{task}")
        assert slow.Targets._fields == fast.Targets._fields


# a task is three parts and a line in each table -----------------------------------------------------


@pytest.fixture
def toy(monkeypatch):
    toy_task.register(monkeypatch)
    return toy_task.Config(Digits(200, 40))


def test_a_new_task_agrees_on_both_sides(toy):
    """Packed is alone, and the loss is that of the reference."""
    module = model(task=toy)
    params = to_reference(module)
    rng = np.random.default_rng(0)
    images = [tokens_of(rng, (2, 3)), tokens_of(rng, (3, 3), keep=5)]
    row = pack(images, [0, 1], T, I)
    laws.gives_each_image_its_meaning(
        lambda row: np.asarray(module(to_device(row))), laws.model_of(params), Packed(row, images)
    )
    targets = toy_task.Targets(rng.random((I, 3)))
    features = slow_model.forward(params["backbone"], row)
    used = row.grids[:, 0] > 0
    want, count = slow_tasks.TASKS["MeanColor"].loss(params["task"], features, targets, used)
    got, images, _ = module.task.loss(module.backbone, DeviceBatch(to_device(row), targets), jr.key(0))
    assert int(images) == count == 2
    assert_close(got, want, FLOAT64)


def test_a_new_task_trains_from_end_to_end(toy, tmp_path):
    """By the program for all tasks: the loss falls, the summary holds the metric, and the model is read again."""
    base = digits()
    config = replace(
        base,
        model=replace(CONFIG, patch=(8, 8), posembed=Factorised(40), dtype="float32"),
        data=replace(base.data, source=toy.images, eval_resolutions=(1.0,), val_resolution=1.0),
        optim=replace(base.optim, lr=1e-2),
        task=toy, rows=8, steps=20, log_every=5, save_every=0, out=str(tmp_path), name="toy",
    )  # fmt: skip
    with jax.numpy_dtype_promotion("standard"):  # Optax multiplies floats by integer step counts
        train.train(config, "digits")
    folder = tmp_path / "toy"
    losses = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.5 * losses[0], losses
    summary = json.loads((folder / "summary.json").read_text())
    assert 0.5 < summary["val_closeness"] < 1 and "closeness" in summary["sweep"][0]
    loaded = load_model(folder)
    assert loaded.task.config == toy and loaded.config.patch == (8, 8)


def test_a_task_that_is_in_no_table_is_refused(toy, monkeypatch, tmp_path):
    """It is the table that makes a task known: not that its class exists."""
    import navit_eqx.tasks

    monkeypatch.delitem(navit_eqx.tasks.TASKS, toy_task.Config)
    with pytest.raises(KeyError, match="MeanColor"):
        train.train(replace(digits(), task=toy, out=str(tmp_path), rows=8), "digits")
