"""The rules of the house: which module may import which, names on both sides, docstrings, and how a task is added.

Each rule is a function of a tree of files or of modules, so that a small test can show that it fails.
"""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.laws import caught

ROOT = Path(__file__).parent.parent
FLOORS = {"reference": 0, "data": 1, "navit_eqx": 1, "harness": 2}  # train.py, experiments and tests are above
PACKAGES = tuple(FLOORS)
ABOVE = {"benchmarks", "examples", "experiments", "tests", "train", "evaluate", "predict", "export"}


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
WALKS = "the backend walks over blocks of similarities, and its gradients are part of it: pair_losses.py"
EXCEPTIONS = {
    "attention.project": "the reference reads its arrays by name",
    "attention.attend": "chooses a kernel",
    "attention.attention_weights": "pictures read them from the reference; kernels do not keep them",
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
    "layers.make_mlp": FRESH,
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
    "model.embedded": METHOD + "NaViT.embedded",
    "model.encode": METHOD + "NaViT.encode",
    "local.mask_of": "BlockMasks.of, within the scan",
    "local.make_local": FRESH,
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
    "rows.row_of": "the reference stays on the host",
    "rows.micro_batches": "to accumulate is a matter of memory",
    "tables.triangle": "the reference has it in resize.py",
    "tables.keys": "the reference has it in resize.py",
    "tables.weights_of": METHOD + "Table.weights_of",
    "tasks.classify.predict": METHOD + "Classify.predict",
    "tasks.classify.loss": METHOD + "Classify.loss",
    "tasks.classify.zero_head": FRESH,
    "tasks.classify.logits_of": "the reference has it in predict",
    "tasks.classify.sum_over_real": "the reference sums in each formula",
    "tasks.classify.correct": "in evaluation/metrics.py of the reference",
    "tasks.embed.predict": METHOD + "Embed.predict",
    "tasks.embed.merged": METHOD + "Embed.merged",
    "tasks.segment.predict": METHOD + "Segment.predict",
    "tasks.segment.loss": METHOD + "Segment.loss",
    "tasks.segment.pixel_logits": METHOD + "Segment.pixel_logits",
    "tasks.segment.neighbors": HOST,
    "tasks.segment.native_logits": METHOD + "Segment.native_logits",
    "tasks.distill.loss": METHOD + "Distill.loss",
    "tasks.distill.agreements": "in evaluation/metrics.py of the reference, as `correct`",
    "tasks.detect.sigmoid": "jax.nn.sigmoid",
    "tasks.detect.propose": METHOD + "Detect.propose",
    "tasks.detect.predict": METHOD + "Detect.predict",
    "tasks.detect.loss": METHOD + "Detect.loss",
    "tasks.detect.match": METHOD + "Detect.match",
    "tasks.detect.hungarian": "the backend says where it is computed",
    "tasks.detect.over_rows": "the reference has one row",
    "tasks.detect.token_grids": "the reference has it in each place",
    "tasks.detect.box_units": "the reference has it in loss",
    "tasks.contrast.device_targets": "the reference stays on the host",
    "tasks.contrast.slots": "the reference takes the slots of all rows",
    "tasks.contrast.pairs": WALKS,
    "tasks.contrast.weigh": WALKS,
    "tasks.contrast.similarities": WALKS,
    "tasks.contrast.vectors": WALKS,
    "tasks.contrast.sigmoid_loss": WALKS,
    "tasks.contrast.sigmoid_gradients": WALKS,
    "tasks.contrast.softmax_loss": WALKS,
    "tasks.contrast.loss_of_rows": WALKS,
    "tasks.contrast.softmax_gradients": WALKS,
    "tasks.contrast.slope_of_rows": WALKS,
    "tasks.contrast.chain": WALKS,
    "tasks.contrast.bias_init": WALKS,
    "tasks.contrast.start_loss": WALKS,
    "tasks.contrast.clip_log_scale": WALKS,
    "text.encode": METHOD + "Bytes.encode",
    "text.decode": "only the reference reads ids back",
    "text.tokens_of": HOST,
    "text.one_hot": "the backend looks ids up: embed_ids",
    "text.with_one_hot": "the backend looks ids up: embed_ids",
    "text.token_embedding": FRESH,
    "text.embed_ids": SPEED,
    "tubelets.time_weights": METHOD + "TimeEmbedding.__call__",
    "tubelets.in_space": "NaViT.in_space; the reference reads time and shape as entries of a patch",
    "tubelets.forward": "NaViT.__call__",
    "tubelets.forward_clip": "the meaning, which only the reference has",
    "tubelets.make_time": FRESH,
    "adaptive.block_sums": "the backend adds up four neighbors at a time: pooled",
    "adaptive.pooled": "the reference adds up each block: block_sums",
    "adaptive.in_cells": "the reference adds up each block: block_sums",
    "adaptive.block": "the backend has it in cut_by_budget",
    "adaptive.by_pi": "the backend has it in merged",
    "adaptive.by_area": "the backend has it in merged",
    "adaptive.entropy_scores": "compared with in the reference, and not used",
    "adaptive.cut_by_threshold": "compared with in the reference, and not used",
    "adaptive.owner_map": "the backend has no dense output of merged patches",
    "adaptive.in_plane": METHOD + "LevelEmbedding.__call__",
    "adaptive.forward": "NaViT.__call__",
    "adaptive.forward_merged": "the meaning, which only the reference has",
    "adaptive.make_levels": FRESH,
    "adaptive.cut": HOST,
    "fuzzy.sample_moves": "the reference draws for one image, the backend for the tokens of a row by their keys",
    "fuzzy.symmetric": "the reference draws from NumPy",
    "fuzzy.fuzzy_row": "the reference moves the coordinates of one image: move",
    "hierarchy.in_blocks": "data/hierarchy.py uses that of the reference; `images.pack` orders its own tokens",
    "hierarchy.quads_of": "the meaning, which only the reference has",
    "hierarchy.forward_image": "the meaning, which only the reference has",
    "hierarchy.encode": METHOD + "Hierarchy.__call__",
    "hierarchy.forward": "NaViT.__call__",
    "hierarchy.last_level": "the row that the reference returns beside its tokens",
    "hierarchy.stage_configs": FRESH,
    "hierarchy.make_encoder": FRESH,
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
