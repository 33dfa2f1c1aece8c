"""`train.py doctor`: all is ok where it is; where one thing is broken, its line says so and the exit code follows."""

import copy
import os
import resource
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.sampling.packing import Packing
from data.sources.digits import Digits
from data.sources.folder import Folder
from harness import doctor
from harness.case import Case
from harness.config import Config, DataConfig, TensorBoard
from harness.digit_presets import large_digits
from harness.doctor import CHECKS, examine
from harness.presets import PRESETS
from navit_eqx import save_model
from navit_eqx.config import ModelConfig
from navit_eqx.tasks.config import Distill
from navit_eqx.training import checkpoints
from navit_eqx.training.config import OptimConfig
from train import info_of

ROOT = Path(__file__).parent.parent
BASE = large_digits()
TINY = replace(
    BASE,
    model=ModelConfig((8, 8), width=8, depth=1, heads=1, mlp_width=8, posembed=BASE.model.posembed, dtype="float32"),
    data=replace(BASE.data, source=Digits(60, 10)),
    optim=OptimConfig(),  # compiles sooner than Muon
    rows=8,
    steps=9,
)


@pytest.fixture(autouse=True)
def promotion():
    """Optax multiplies floats by integer step counts."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A case in order, what was said of it, and its state on the host."""
    case, said = Case(replace(TINY, out=str(tmp_path_factory.mktemp("runs"))), "digits"), []
    with jax.numpy_dtype_promotion("standard"):
        code = examine(case, said.append)
    return case, code, said, jax.device_get(case.state)


@pytest.fixture
def case(whole):
    """The same, compiled already."""
    again = copy.copy(whole[0])
    again.state = jax.device_put(whole[3], jax.tree.leaves(again.program.abstract_state)[0].sharding)
    return again


def given(case: Case, **fields) -> None:
    """Another configuration, of the data too."""
    inner = {k: v for k, v in fields.items() if k in DataConfig.__dataclass_fields__}
    outer = {k: v for k, v in fields.items() if k in Config.__dataclass_fields__ and k not in inner}
    for name in ("requested", "config"):
        config = getattr(case, name)
        setattr(case, name, replace(config, data=replace(config.data, **inner), **outer))


def full(only: str | None = None):
    """No space left, everywhere or in one place."""
    usage = namedtuple("usage", "total used free")
    return lambda path: usage(1, 1, 0) if only in (None, path) else usage(1 << 50, 0, 1 << 50)


def wrong_version(case, monkeypatch, tmp_path):
    real = metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "0.0.1" if name == "optax" else real(name))


def no_device(case, monkeypatch, tmp_path):
    def missing():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(doctor.jax, "devices", missing)


def idle_accelerator(case, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "ACCELERATORS", (str(tmp_path),))
    monkeypatch.delenv("JAX_PLATFORMS")


def rows_for_other_devices(case, monkeypatch, tmp_path):
    given(case, rows=9)


def coarse_products(case, monkeypatch, tmp_path):
    short = lambda a, b, precision: (a.astype("bfloat16") @ b.astype("bfloat16")).astype("float32")
    monkeypatch.setattr(doctor, "jnp", SimpleNamespace(matmul=short))


def one_core(case, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    given(case, workers=2)


def images_beyond_memory(case, monkeypatch, tmp_path):
    given(case, memory=1e6)


def few_files(case, monkeypatch, tmp_path):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 64))


def file_in_the_way(case, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    given(case, out=str(tmp_path / "file"))


def no_logger(case, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    given(case, logger=TensorBoard())


def no_images(case, monkeypatch, tmp_path):
    del case.sources, case.shaped, case.config, case.planned
    case.requested = replace(
        case.requested, data=replace(case.requested.data, source=Folder(), root=str(tmp_path / "nowhere"))
    )


def images_that_fit_no_row(case, monkeypatch, tmp_path):
    del case.planned
    given(case, packing=Packing(row_tokens=16, row_images=4))


def undecodable(case, monkeypatch, tmp_path):
    row = case.batch.row
    case.batch = case.batch._replace(row=row._replace(grids=np.zeros_like(row.grids)))


def small_shared_memory(case, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", full("/dev/shm"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    given(case, workers=2)


def full_disk(case, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", full())


def little_memory(case, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "available_memory", lambda: 1.0)


def no_model_to_start_from(case, monkeypatch, tmp_path):
    given(case, start=str(tmp_path / "nowhere"))


def parameters_not_finite(case, monkeypatch, tmp_path):
    spoilt = lambda x: jnp.full_like(x, jnp.nan) if jnp.issubdtype(x.dtype, jnp.inexact) else x
    case.state = jax.tree.map(spoilt, case.state)


def saves_that_fail(case, monkeypatch, tmp_path):
    def fail(*args, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoints.ocp, "save_async", fail)


def no_image_at_the_end(case, monkeypatch, tmp_path):
    given(case, val_resolution=1000.0)


def pictures_that_cannot_be_written(case, monkeypatch, tmp_path):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor, "draw_mask", fail)


SABOTAGE = [
    ("versions", 78, "optax 0.0.1, not ", wrong_version),
    ("devices", 69, "JAX finds no device", no_device),
    ("devices", 69, "JAX finds only CPUs", idle_accelerator),
    ("devices", 78, "rows=9 must be a multiple of the 8", rows_for_other_devices),
    ("arithmetic", 70, "roundings, allowed are 8", coarse_products),
    ("cores", 78, "data.workers=2 are more than the 1 cores", one_core),
    ("memory", 78, "data.memory=1e+06 GiB", images_beyond_memory),
    ("open files", 74, "ulimit -n", few_files),
    ("folder", 74, "Not a directory", file_in_the_way),
    ("logger", 78, "pip install -e '.[tensorboard]'", no_logger),
    ("data", 66, "nowhere is not a folder", no_images),
    ("data", 65, "images fit no row", images_that_fit_no_row),
    ("first batch", 65, "cannot be decoded", undecodable),
    ("shared memory", 74, "/dev/shm has 0 MiB free", small_shared_memory),
    ("disk", 74, "lower --keep", full_disk),
    ("device memory", 78, "fewer --rows", little_memory),
    ("start", 78, "nowhere", no_model_to_start_from),
    ("training step", 70, "refused: loss nan", parameters_not_finite),
    ("save and restore", 74, "No space left on device", saves_that_fail),
    ("evaluation", 65, "none of 10 validation images fits", no_image_at_the_end),
    ("report", 74, "No space left on device", pictures_that_cannot_be_written),
]


def test_all_is_ok_where_it_is(whole):
    case, code, said, _ = whole
    assert code == 0 and len(said) == len(CHECKS) + 1, said
    for name, line in zip(CHECKS, said):
        assert line.startswith(name) and " ok: " in line, line
    assert not list(Path(case.requested.out).iterdir()), "something was left behind"


@pytest.mark.slow
def test_a_run_with_a_teacher_is_tried_with_it(whole, tmp_path, monkeypatch):
    """The step that is compiled and timed is that of the distillation."""
    monkeypatch.setattr(doctor, "CHECKS", {name: CHECKS[name] for name in CHECKS if name in needs_of("training step")})
    case = whole[0]
    save_model(tmp_path / "model", case.program.model(whole[3].model), info_of(case.config, case.sources[0]))
    case, said = Case(replace(case.requested, task=Distill(str(tmp_path))), "digits"), []
    assert examine(case, said.append) == 0, said
    (step,) = [line for line in said if line.startswith("training step")]
    assert " ok: loss " in step
    teacher_logits = case.program.device_batch(case.batch).targets.teacher_logits
    assert teacher_logits.shape == (*case.batch.row.image_ids.shape, 10)
    assert " NOT OK, 78: task.teacher is not set" in refused(replace(case.requested, task=Distill()))


def needs_of(name: str) -> set[str]:
    """A check, and all without which it cannot be tried."""
    return {name}.union(*map(needs_of, CHECKS[name][1]))


def refused(config: Config) -> str:
    """The first line that is not ok."""
    said: list[str] = []
    examine(Case(config, "digits"), said.append)
    return next(line for line in said if "NOT OK" in line)


def test_every_line_has_a_sabotage():
    assert {name for name, *_ in SABOTAGE} == {*CHECKS}


@pytest.mark.parametrize("name, code, words, sabotage", SABOTAGE, ids=lambda x: getattr(x, "__name__", None))
def test_what_is_broken_is_named(case, monkeypatch, tmp_path, name, code, words, sabotage):
    tried = {other: CHECKS[other] for other in CHECKS if name in needs_of(other) or other in needs_of(name)}
    monkeypatch.setattr(doctor, "CHECKS", tried)
    sabotage(case, monkeypatch, tmp_path)
    said: list[str] = []
    assert examine(case, said.append) == code
    (wrong,) = [line for line in said if "NOT OK" in line]
    assert wrong.startswith(name) and words in wrong, wrong
    for other, line in zip(tried, said):
        if "not tried" in line:
            assert any(need in line for need in CHECKS[other][1]), line
    assert said[-1] == f"\nnot ok: {name}"


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["segment-glyphs", "detect-digits"])
def test_outputs_of_tokens_and_of_boxes_are_tried_too(preset, tmp_path):
    """Where outputs belong to tokens, no slot of an image is looked for among them."""
    config = PRESETS[preset]()
    source = replace(config.data.source, train_images=60, val_images=10)
    model = replace(config.model, width=16, depth=1, heads=2, mlp_width=16, unroll=1)
    data = replace(config.data, source=source)
    said = []
    config = replace(config, model=model, data=data, optim=OptimConfig(), rows=8, out=str(tmp_path))
    examine(Case(config, preset), said.append)
    assert not [line for line in said if line.startswith("evaluation") and "NOT OK" in line], said
    assert any(line.startswith("evaluation") for line in said)


@pytest.mark.slow
def test_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "train.py", "doctor", "folder", "--data.root", str(tmp_path / "none"), "--out", str(tmp_path)],
        cwd=ROOT, env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 66, done.stdout + done.stderr
    assert "data              NOT OK, 66" in done.stdout and "folder            ok" in done.stdout
