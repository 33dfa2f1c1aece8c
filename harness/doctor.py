"""Checks before a run: each part of the run is tried once.

    python train.py doctor [PRESET and any options]

One line per check: `ok` with a summary, or what is wrong, where, and how to fix it. The run folder is not changed. The
exit code is 0, or the exit code of training for the first check that is not ok.
"""

import fcntl
import math
import os
import platform
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from packaging.requirements import Requirement

from data.errors import DataError
from navit_eqx import ModelInfo, load_model, save_model
from navit_eqx.errors import ConfigError, Unavailable, check
from navit_eqx.inference import forward, predict
from navit_eqx.layers import compute_dtype
from navit_eqx.rows import row_of
from navit_eqx.training.checkpoints import Checkpointer, check_path
from navit_eqx.training.hosts import replicate_to_host

from .case import Case
from .config import TensorBoard, Wandb
from .evaluation.pictures import draw_mask
from .evaluation.predictions import context_of
from .exit_codes import code_of
from .process import ACCELERATORS
from .run.ahead import fits_at, look_ahead, resolutions_of
from .run.budget import fitting, is_timed
from .run.folder import check_name, write_json
from .run.loading import check_left_out, evaluation_rows
from .run.logger import needed
from .run.warm_start import resume_from, warm_start
from .working import working

OPEN_FILES = (256, 64)  # for the program, and for each data worker
IN_FLIGHT = 5  # batches between a worker and the program
UNIT = 2.0**-24  # rounding unit of float32
MIB, GIB = 2**20, 2**30


# the machine ------------------------------------------------------------------------------------------


def versions(case: Case) -> str:
    """Required packages are installed, in supported versions."""
    needed = [Requirement(line) for line in metadata.requires("navit-eqx") or []]
    needed = [need for need in needed if need.marker is None or need.marker.evaluate({"extra": "train"})]
    try:
        found = {need.name: metadata.version(need.name) for need in needed}
    except metadata.PackageNotFoundError as error:
        raise ConfigError(f"{error.name} is missing: install as the README says, with -c constraints.txt") from None
    wrong = [f"{n.name} {found[n.name]}, not {n.specifier}" for n in needed if not n.specifier.contains(found[n.name])]
    check(not wrong, f"{'; '.join(wrong)}: install as the README says, with -c constraints.txt")
    return ", ".join([f"Python {platform.python_version()}", *(f"{n} {found[n]}" for n in ("jax", "equinox", "grain"))])


def devices(case: Case) -> str:
    """JAX finds the devices, including an accelerator of the machine, and rows can be split over them."""
    try:
        found = jax.devices()
    except RuntimeError as error:
        raise Unavailable(f"JAX finds no device, {error}: install the extra for it, or set JAX_PLATFORMS=cpu") from None
    idle = [path for path in ACCELERATORS if os.path.exists(path)]
    if found[0].platform == "cpu" and idle and "JAX_PLATFORMS" not in os.environ:
        raise Unavailable(f"JAX finds only CPUs, but there is {idle[0]}: pip install -e '.[cuda]' or '.[tpu]'")
    rows = case.requested.rows
    check(rows % len(found) == 0, f"rows={rows} must be a multiple of the {len(found)} devices: change --rows")
    return f"{len(found)} {found[0].device_kind}, activations in {compute_dtype(case.requested.model.dtype)}"


def arithmetic(case: Case) -> str:
    """A matrix product on each device is accurate: |C − A B| ≤ 8u |A| |B| in float32, A B in float64."""
    a, b = np.random.default_rng(0).normal(size=(2, 256, 256)).astype(np.float32)
    exact, size = a.astype(np.float64) @ b.astype(np.float64), np.abs(a) @ np.abs(b)
    errors = {}
    for device in jax.local_devices():
        product = jnp.matmul(*jax.device_put((a, b), device), precision="highest")
        errors[device] = np.max(np.abs(np.asarray(product, np.float64) - exact) / size) / UNIT
        if not errors[device] <= 8:
            raise FloatingPointError(
                f"{device} multiplies matrices with an error of {errors[device]:.3g} roundings, allowed are 8: "
                "leave this device out, or try another driver"
            )
    return f"a product is within {max(errors.values()):.1f} roundings of float64, allowed are 8"


def cores(case: Case) -> str:
    """There are as many cores as data workers."""
    quota, period = (re.findall(r"\d+|max", text(Path("/sys/fs/cgroup/cpu.max"))) + ["max", "1"])[:2]
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = mine if quota == "max" else min(mine, math.ceil(int(quota) / int(period)))
    workers = case.requested.data.workers
    check(workers <= count, f"data.workers={workers} are more than the {count} cores of this process: lower them")
    return f"{count}, {workers} data workers"


def memory(case: Case) -> str:
    """The cache of decoded images fits into memory."""
    free, data = available_memory(), case.requested.data
    kept = data.memory * max(1, data.workers) * GIB
    check(
        kept < free,
        f"data.memory={data.memory:g} GiB in {max(1, data.workers)} processes, but {free / GIB:.1f} GiB are free "
        "(of the machine, or of this control group): lower it",
    )
    return f"{free / GIB:.1f} GiB free, images take up to {kept / GIB:g}"


def open_files(case: Case) -> str:
    """The limit of open files is high enough for pipes and checkpoints."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    need = OPEN_FILES[0] + OPEN_FILES[1] * case.requested.data.workers
    if 0 <= limit < need:
        raise OSError(f"{limit} open files are allowed, a run may need {need}: ulimit -n 4096")
    return f"{limit} allowed"


def folder(case: Case) -> str:
    """Files can be created, locked, synced, renamed and removed at the place of the run folder, and saves restored."""
    check_name(case.requested.name or case.preset)
    check_path(case.folder.resolve())
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=case.place) as inside:
        with (Path(inside) / "draft").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write("probe")
            file.flush()
            os.fsync(file.fileno())
        (Path(inside) / "draft").rename(Path(inside) / "whole")
    return f"{case.folder}/, {'made' if case.folder.is_dir() else 'to be made'}; it can be written and locked"


def logger(case: Case) -> str:
    """The package of the logger is installed."""
    match case.requested.logger:
        case None:
            return "metrics.jsonl alone"
        case TensorBoard():
            return f"tensorboardX {needed('tensorboardX', 'tensorboard').__version__}"
        case Wandb():
            return f"wandb {needed('wandb', 'wandb').__version__}"


# the run ----------------------------------------------------------------------------------------------


def data(case: Case) -> str:
    """The data can be opened, enough images are readable, and the images fit into rows."""
    train, val = (source.manifest for source in case.sources)
    plan = case.planned.epochs.locate(0)[1]
    check_left_out(case.config, train, plan)
    aside = len(train.set_aside) + len(val.set_aside)
    return (
        f"{len(train)} images to train on, {len(val)} to test on, {len(train.classes)} classes, {aside} set aside; "
        f"rows of {case.config.data.packing.shape[0]} tokens, "
        f"padding {plan.padding(case.config.data.packing.shape[0]):.2%}"
    )


def first_batch(case: Case) -> str:
    """The first batch can be read and decoded."""
    start, row = time.perf_counter(), case.batch.row
    seconds, planned = time.perf_counter() - start, row.image_ids >= 0
    bad = int((planned & (row.grids[..., 0] == 0)).sum())
    if not planned.any() or bad > case.config.data.max_unreadable * planned.sum() + 1:
        raise DataError(f"{bad} of the first {planned.sum()} images cannot be decoded: see python -m data.check DIR")
    return f"{planned.sum()} images, {(row.segment_ids > 0).sum()} tokens in {seconds:.2f} s"


def shared_memory(case: Case) -> str:
    """Shared memory is large enough for the batches of data workers."""
    workers = case.config.data.workers
    need, free = (
        workers * IN_FLIGHT * sum(x.nbytes for x in jax.tree.leaves(case.batch)),
        shutil.disk_usage("/dev/shm").free,
    )
    if need > free:
        raise OSError(
            f"/dev/shm has {free / MIB:.0f} MiB free, {workers} data workers may need {need / MIB:.0f}: enlarge it "
            "(docker run --shm-size), or lower --data.workers"
        )
    return f"{free / MIB:.0f} MiB free, {need / MIB:.0f} needed"


def disk(case: Case) -> str:
    """The disk has space for all checkpoints, with one being written and one spare."""
    need, free = (case.config.keep + 2) * case.state_bytes, shutil.disk_usage(case.place).free
    if need > free:
        raise OSError(
            f"{case.place} has {free / GIB:.1f} GiB free, keep={case.config.keep} saves and two more of "
            f"{case.state_bytes / GIB:.1f} GiB need {need / GIB:.1f}: free some, lower --keep, or change --out"
        )
    return f"{free / GIB:.1f} GiB free, saves take {need / GIB:.2g}"


def device_memory(case: Case) -> str:
    """Device memory is large enough for the compiled step."""
    start, plan = time.perf_counter(), case.step.memory_analysis()
    seconds, device = time.perf_counter() - start, jax.local_devices()[0]
    need = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes - plan.alias_size_in_bytes
    limit = (device.memory_stats() or {}).get("bytes_limit") or available_memory() / jax.local_device_count()
    check(
        need < limit,
        f"a step needs {need / GIB:.1f} GiB per device, available are {limit / GIB:.1f}: use fewer --rows, "
        "--optim.accumulate 2, --model.remat True, or more devices",
    )
    return f"a step needs {need / GIB:.2g} of {limit / GIB:.1f} GiB; compiled in {seconds:.0f} s"


def start(case: Case) -> str:
    """The saved model to start from fits the configuration."""
    if not case.config.start:
        return "from scratch"
    if resume_from(case.config, case.program.abstract_state):
        return f"from {case.config.start}"
    warm_start(case.program.model(case.state.model), case.config, case.sources[0].manifest.classes)
    return f"from {case.config.start}"


def training_step(case: Case) -> str:
    """A training step on the first batch is finite; a second step is timed."""
    batch = case.program.device_batch(case.batch)
    case.state, metrics = case.step(case.state, batch)
    first = jax.device_get(metrics)
    if first.refused:
        raise FloatingPointError(f"refused: loss {first.loss_sum}, gradient norm {first.grad_norm}; lower --optim.lr")
    start = time.perf_counter()
    case.state, _ = jax.block_until_ready(case.step(case.state, batch))
    seconds = time.perf_counter() - start
    steps, minutes = case.config.total_steps, case.config.minutes
    steps = fitting(steps, minutes, seconds) if minutes and is_timed(case.requested) else steps
    return (
        f"loss {first.loss_sum / first.count:.3f}, {seconds:.3f} s, {first.tokens / seconds / 1e3:.1f}k tokens/s "
        f"without reading; {steps} steps are {steps * seconds / 3600:.2g} hours"
    )


def save_and_restore(case: Case) -> str:
    """A checkpoint restores bit by bit; `Checkpointer` compares digests of files and leaves."""
    problems: list[str] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=case.place) as inside:
        with Checkpointer(inside, 1, problems.append) as checkpointer:
            checkpointer.save(1, case.state, {})
        if problems or Checkpointer(inside, 1, problems.append).restore(case.program.abstract_state) is None:
            raise OSError(f"{case.place}: {'; '.join(problems)}")
    return f"{case.state_bytes / MIB:.1f} MiB restored bit by bit in {time.perf_counter() - start:.1f} s"


def evaluation(case: Case) -> str:
    """The evaluation at the end of the run is planned, and its first batch tried at the largest resolution."""
    val = case.sources[1]
    notes = look_ahead(case.config, val)
    top = max(r for r in resolutions_of(case.config) if fits_at(case.config, val, r).any())
    model = case.program.model(jax.device_get(replicate_to_host(case.state.model))).for_inference()
    context = context_of(model, case.config, val, case.task[1])
    rows, _ = evaluation_rows(case.config, val, context.sampling_at(top))
    outputs = predict(context.model, [row_of(next(rows))], forward, case.task[1].image_outputs(val))[1]
    if not np.isfinite(outputs).all():
        raise FloatingPointError(f"the outputs at resolution {top:g} are not finite")
    return "; ".join([f"{len(resolutions_of(case.config))} resolutions, up to {top:g}", *notes])


def report(case: Case) -> str:
    """Pictures, tables and the model can be written at the place of the run folder, and the model read."""
    model = case.program.model(jax.device_get(replicate_to_host(case.state.model))).for_inference()
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=case.place) as inside:
        draw_mask(jax.tree.map(lambda leaf: leaf[0], case.batch.row), Path(inside) / "mask.png")
        write_json(Path(inside) / "table.json", [])
        save_model(Path(inside) / "model", model, ModelInfo(case.sources[0].manifest.classes))
        load_model(Path(inside) / "model")
        size = sum(file.stat().st_size for file in Path(inside).rglob("*") if file.is_file())
    return f"a picture, a table and the model, {size / MIB:.1f} MiB"


# all of it --------------------------------------------------------------------------------------------


def text(path: Path) -> str:
    """Text of a kernel file; empty where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


def available_memory() -> float:
    """Bytes that this process can still allocate, on the machine and in its control group; infinite where unknown."""

    def number(path: str, key: str = "") -> float:
        found = re.search(rf"^{key}\s*(\d+)", text(Path(path)), re.MULTILINE)
        return float(found[1]) if found else math.nan

    group = "/sys/fs/cgroup/memory"
    used = number(f"{group}.current") - number(f"{group}.stat", "inactive_file")
    free = [number("/proc/meminfo", "MemAvailable:") * 1024, number(f"{group}.max") - used]
    return min((n for n in free if not math.isnan(n)), default=math.inf)


# By name: the check, and the checks that it depends on.
CHECKS: dict[str, tuple[Callable[[Case], str], tuple[str, ...]]] = {
    "versions": (versions, ()),
    "devices": (devices, ()),
    "arithmetic": (arithmetic, ("devices",)),
    "cores": (cores, ()),
    "memory": (memory, ()),
    "open files": (open_files, ()),
    "folder": (folder, ()),
    "logger": (logger, ()),
    "data": (data, ()),
    "first batch": (first_batch, ("data",)),
    "shared memory": (shared_memory, ("first batch",)),
    "disk": (disk, ("data", "devices")),
    "device memory": (device_memory, ("first batch", "devices")),
    "start": (start, ("data", "devices")),
    "training step": (training_step, ("device memory",)),
    "save and restore": (save_and_restore, ("training step", "folder", "disk")),
    "evaluation": (evaluation, ("data", "devices")),
    "report": (report, ("first batch", "devices", "folder")),
}


def examine(case: Case, say: Callable[[str], None] = print) -> int:
    """Run all checks with one line for each; the exit code."""
    codes: dict[str, int] = {}  # exit codes of checks that are not ok; 0 where a check could not be tried
    for name, (try_it, needs) in CHECKS.items():
        missing = next((need for need in needs if need in codes), None)
        if missing:
            codes[name] = 0
            say(f"{name:17} not tried: {missing} is not ok")
            continue
        try:
            with working(name):
                found = try_it(case)
            say(f"{name:17} ok: {found}")
        except Exception as error:  # errors of any kind are reported
            if os.environ.get("NAVIT_DEBUG"):
                raise
            codes[name] = code_of(error)
            say(f"{name:17} NOT OK, {codes[name]}: {error or repr(error)}")
    failed = [name for name, code in codes.items() if code]
    say(f"\nnot ok: {', '.join(failed)}" if failed else f"\nall {len(CHECKS)} are ok")
    return codes[failed[0]] if failed else 0
