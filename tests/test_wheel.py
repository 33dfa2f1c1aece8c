"""The wheel ships `navit_eqx` alone, and its front door works beside folders called data/, reference/ and tests/."""

import os
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from navit_eqx import ModelConfig, ModelInfo, save_model
from navit_eqx.config import Factorised
from navit_eqx.preprocessing import Native, Preprocessing
from navit_eqx.tasks.config import Classify
from tests.support.strategies import random_model

ROOT = Path(__file__).parent.parent
SIX = """
import numpy as np
import navit_eqx as navit

model = navit.load("model")
images = [np.zeros((20, 60, 3), np.uint8), np.full((33, 9, 3), 200, np.uint8)]
batch = navit.pack(images, model)
out = navit.forward(model, batch)
probabilities = navit.probabilities(model, navit.unpack(batch, out))
assert probabilities.shape == (2, 3) and np.allclose(probabilities.sum(-1), 1)
vectors = navit.features(model, images)
tokens = navit.features(model, images, tokens=True)
assert vectors.shape == (2, 16) and [len(t) for t in tokens] == [7 * 2, 1 * 4], [len(t) for t in tokens]
assert model.config.width == 16 and model.info.classes == ("a", "b", "c")
assert "site-packages" in navit.__file__, navit.__file__
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built by the project's own build backend, without a network."""
    out = tmp_path_factory.mktemp("wheel")
    code = f"import hatchling.build; print(hatchling.build.build_wheel({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.strip().splitlines()[-1]


def test_it_holds_the_model_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        about = next(archive.read(name).decode() for name in names if name.endswith("METADATA"))
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"navit_eqx"}
    assert "navit_eqx/py.typed" in names and "navit_eqx/front.py" in names
    needed = [Requirement(line.partition(": ")[2]) for line in about.splitlines() if line.startswith("Requires-Dist")]
    always = {need.name for need in needed if need.marker is None}
    assert always == {"equinox", "jax", "jaxlib", "jaxtyping", "numpy", "pillow", "safetensors"}


def test_the_front_door_from_an_empty_environment(wheel, tmp_path):
    """Six names, from a folder that itself holds data/, reference/ and tests/."""
    config = ModelConfig((8, 8), width=16, depth=1, heads=2, mlp_width=16, posembed=Factorised(16))
    model = random_model(config, Classify(classes=3))
    info = ModelInfo(("a", "b", "c"), Preprocessing(Native(1.0), row_tokens=32, row_images=4), "nothing")
    save_model(tmp_path / "model", model, info)
    for name in ("data", "reference", "tests", "harness"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the folder of somebody else')\n")
    (tmp_path / "try_it.py").write_text(SIX)

    quick = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_NUM_CPU_DEVICES": "1"}
    run = [_environment(wheel, tmp_path), "try_it.py"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, env=quick)
    assert done.returncode == 0, done.stderr


def _environment(wheel: Path, folder: Path) -> str:
    """The Python of an environment with the wheel and its dependencies alone; they come from this environment."""
    venv.create(folder / "env", with_pip=False, symlinks=True)
    site = next((folder / "env").glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in _closure({"equinox", "jax", "jaxlib", "jaxtyping", "numpy", "pillow", "safetensors"}):
        for file in metadata.distribution(name).files or ():
            top = file.parts[0]
            source = Path(metadata.distribution(name).locate_file(top))
            if top != ".." and source.exists() and not (site / top).exists():
                os.symlink(source, site / top)
    return str(folder / "env" / "bin" / "python")


def _closure(names: set[str]) -> set[str]:
    """Distributions and all that they need."""
    found: set[str] = set()
    while names:
        name = names.pop()
        found.add(name)
        for line in metadata.requires(name) or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                names |= {need.name} - found
    return found


def test_importing_changes_nothing():
    """No global limit of Pillow, no logger, no environment, no working folder, no warnings filter, no matplotlib."""
    modules = sorted(
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
        for package in ("reference", "navit_eqx", "data", "harness")
        for path in (ROOT / package).rglob("*.py")
    )
    code = f"""
import importlib, json, locale, logging, os, signal, sys, warnings
import numpy, jax, PIL.Image, matplotlib, absl.logging, grain, equinox, optax, tyro, sklearn, pyarrow
import jax.experimental.pallas.ops.tpu.splash_attention
from orbax.checkpoint import v1
def known(log):
    # Libraries make loggers when they are first used: only those count that somebody has changed.
    return log.level or log.handlers or log.filters

def state():
    loggers = [("", logging.root)] + [
        (name, log) for name, log in sorted(logging.root.manager.loggerDict.items()) if isinstance(log, logging.Logger)
    ]
    return {{
        "pixels": PIL.Image.MAX_IMAGE_PIXELS,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "filters": [str(f) for f in warnings.filters],
        "loggers": [(name, log.level, str(log.handlers), str(log.filters)) for name, log in loggers if known(log)],
        "backend": matplotlib.rcParams._get_backend_or_none(),
        "jax": {{k: str(v) for k, v in jax.config.values.items()}},
        "numpy": str(numpy.geterr()),
        "signals": [str(signal.getsignal(s)) for s in (signal.SIGTERM, signal.SIGINT)],
        "path": list(sys.path),
    }}
before = state()
for name in {modules}:
    importlib.import_module(name)
after = state()
print(json.dumps([key for key in before if before[key] != after[key]]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stdout
