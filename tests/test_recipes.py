"""What others need to use it: recipes that run, and files that say what is true of this project."""

import re
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from PIL import Image

import navit_eqx as navit
from navit_eqx.preprocessing import Native, Preprocessing
from navit_eqx.tasks.config import Classify
from tests.support.strategies import random_model
from tests.test_docs import blocks

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"


def read(path: str) -> dict:
    return yaml.safe_load((ROOT / path).read_text())


def test_the_code_of_the_recipes_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    info = navit.ModelInfo(("a", "b"), Preprocessing(Native(1.0), row_tokens=64, row_images=4))
    config = navit.ModelConfig((8, 8), width=16, depth=1, heads=2, mlp_width=16)
    navit.save_model("runs/digits", random_model(config, Classify(classes=2), info), info)
    rng = np.random.default_rng(0)
    for name, size in {"photo.jpg": (30, 40, 3), "other.jpg": (20, 17, 3)}.items():
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(name)
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as users have it
        for block in blocks("recipes"):
            exec(block, names)
    assert names["nearest"].tolist() == [0, 1]
    assert names["flat"].grid_thw.tolist() == [[1, 3, 5], [1, 2, 2]] and names["pixels"].shape == (19, 3 * 2 * 64)
    assert names["back"].segment_ids.shape == (1, 128)


def test_the_citation_is_of_this_version():
    project, cited = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"], read("CITATION.cff")
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert cited["title"].startswith(project["name"]) and cited["cff-version"] == "1.2.0"
    for each in cited["references"]:
        assert each["title"].split(":")[0] in (ROOT / "docs/papers.md").read_text()


def test_ci_elsewhere_runs_what_ci_runs_here():
    jobs = read(".github/workflows/ci.yml")["jobs"]
    steps = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    assert ".ci/run" in steps and (ROOT / ".ci/run").is_file()
    for step in steps:
        for path in re.findall(r"tests/\w+\.py", step):
            assert (ROOT / path).is_file(), path
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    versions = {s["with"]["python-version"] for j in jobs.values() for s in j["steps"] if "with" in s}
    assert versions == {python.removeprefix(">=")}


@pytest.mark.parametrize("form", sorted((GITHUB / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: path.stem)
def test_a_report_of_a_fault_comes_with_the_doctor(form):
    fields = {field["id"]: field for field in yaml.safe_load(form.read_text())["body"]}
    doctor = fields["doctor"]
    assert doctor["validations"] == {"required": True}
    assert "python train.py doctor" in doctor["attributes"]["description"]
