"""Who may continue a run, with which changes; signals, and data workers that die."""

import dataclasses
import os
import signal
import subprocess
import sys
import typing
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from data.sampling.resolution import Native
from harness.config import Config, TensorBoard
from harness.digit_presets import large_digits
from harness.exit_codes import Locked, Stopped
from harness.process import StopSignal
from harness.run import resume
from harness.run.folder import BLOCKS, acquire_run_dir, write_config
from harness.run.progress import append
from harness.run.resume import FREELY, NEVER, ON_REQUEST
from harness.run.stream import Stream
from navit_eqx.errors import ConfigError
from navit_eqx.tasks.config import Contrast, Distill
from navit_eqx.training.checkpoints import Checkpointer
from navit_eqx.training.config import FSDP, Adafactor
from reference.rows import Batch, Row

ROOT = Path(__file__).parent.parent


def leaves_of(kind: type, prefix: str = "") -> list[str]:
    """Keys of all fields; those that are one dataclass by the keys in it, down to the second level."""
    found = []
    for name, annotation in typing.get_type_hints(kind).items():
        deeper = dataclasses.is_dataclass(annotation) and not prefix
        found += leaves_of(annotation, f"{name}.") if deeper else [f"{prefix}{name}"]
    return found


def test_every_field_has_one_rule():
    """New fields of the model never change; others must be named in FREELY, ON_REQUEST or NEVER."""
    keys = leaves_of(Config)
    rules = [*FREELY, *ON_REQUEST, *NEVER]
    assert len(rules) == len(set(rules)), "a key stands in two rules"
    of_a_class = {f"task.{field.name}" for task in (Distill, Contrast) for field in dataclasses.fields(task)}
    of_a_class.add("task.tokenizer.file")
    assert set(rules) <= {*keys, "model", *of_a_class}, "a rule for a field that does not exist"
    unruled = [key for key in keys if key not in rules and not key.startswith("model.")]
    assert not unruled, f"say in harness/run/resume.py whether a continued run may change {unruled}"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: c, None),
        (lambda c: replace(c, log_every=7, out="elsewhere", data=replace(c.data, workers=2, root="moved")), None),
        (lambda c: replace(c, model=replace(c.model, width=32)), "model.width .64 there, 32 here."),
        (lambda c: replace(c, data=replace(c.data, resolution=Native(0.5, 1.4))), "data.resolution.lo"),
        (lambda c: replace(c, seed=1, rows=8), "rows .16 there, 8 here., seed .0 there, 1 here."),
        (lambda c: replace(c, optim=replace(c.optim, rule=Adafactor()), override=True), "optim.rule.kind"),
        (lambda c: replace(c, optim=replace(c.optim, lr=1e-4)), "optim.lr .0.01 there, 0.0001 here.: --override"),
        (lambda c: replace(c, optim=replace(c.optim, lr=1e-4), steps=9000, override=True), None),
        (lambda c: replace(c, optim=replace(c.optim, head_decay=0.1)), "optim.head_decay .auto there, 0.1 here."),
        (lambda c: replace(c, task=Distill("runs/a")), "task.digest .nothing there, '' here."),
        (lambda c: replace(c, logger=TensorBoard(), parallelism=FSDP()), None),
    ],
)
def test_what_a_continued_run_may_change(tmp_path, change, words):
    config = large_digits()
    write_config(tmp_path, config, "digits")
    changed = change(config)
    if words is None:
        assert len(resume.reconcile(tmp_path, changed)) == len(resume.differences(config, changed))
    else:
        with pytest.raises(ConfigError, match=words):
            resume.reconcile(tmp_path, changed)


def test_a_folder_has_one_trainer_at_a_time(tmp_path):
    folder, held = acquire_run_dir(str(tmp_path), "", "run")
    assert folder == tmp_path / "run"
    with pytest.raises(Locked, match=f"in use by process {os.getpid()}"):
        acquire_run_dir(str(tmp_path), "", "run")
    held.close()
    (folder / BLOCKS).write_text("")  # it ended before it wrote its configuration
    again, held = acquire_run_dir(str(tmp_path), "", "run")
    held.close()
    assert again == folder, "new"
    (folder / "config.json").write_text("{}")
    again, held = acquire_run_dir(str(tmp_path), "", "run")
    held.close()
    assert again == folder, "unfinished"
    (folder / "summary.json").write_text("{}")
    (tmp_path / "run-2").mkdir()
    (tmp_path / "run-2" / "notes.txt").write_text("not a run")
    third, held = acquire_run_dir(str(tmp_path), "", "run")
    held.close()
    assert third == tmp_path / "run-3"


def test_lines_after_the_saved_step_are_dropped(tmp_path, capsys):
    """And those that are not whole, or not what was written."""
    path = tmp_path / "metrics.jsonl"
    for step in (2, 3, 4, 6):
        append(path, {"step": step, "loss": step / 7})
    first, spoilt, last, _ = lines = path.read_text().splitlines(True)
    resume.truncate_log(path, 6)
    assert path.read_text() == "".join(lines) and capsys.readouterr().out == ""
    path.write_text(first + spoilt.replace("3", "2", 1) + last + '{"st')
    resume.truncate_log(path, 4)
    assert path.read_text() == first + last
    assert "2 lines are damaged" in capsys.readouterr().out
    resume.truncate_log(path, 3)
    assert path.read_text() == first


ASKED = """
import signal, sys, time
from harness.process import StopSignal

for n in StopSignal.SIGNALS:  # SIGINT is ignored below a shell in the background
    signal.signal(n, signal.default_int_handler if n == signal.SIGINT else signal.SIG_DFL)
before = {n: signal.getsignal(n) for n in StopSignal.SIGNALS}
with StopSignal() as stop:
    print(bool(stop), flush=True)
    while not stop:
        time.sleep(0.01)
    print("asked", flush=True)
    if "twice" in sys.argv:
        time.sleep(60)
print({n: signal.getsignal(n) for n in StopSignal.SIGNALS} == before)
"""


@pytest.fixture
def child():
    """A process that waits for a signal; each test sends its own."""
    running: list[subprocess.Popen] = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-c", ASKED, *arguments]
        running.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        assert running[-1].stdout.readline() == "False\n"
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", StopSignal.SIGNALS, ids=lambda n: n.name)
def test_a_signal_asks(child, number):
    """The process hears it, goes on to its own end, and leaves the handlers as they were."""
    process = child()
    process.send_signal(number)
    said, complained = process.communicate(timeout=60)
    assert said == "asked\nTrue\n" and "stopping" in complained and process.returncode == 0


def test_a_second_signal_ends_the_process(child):
    process = child("twice")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert said == "" and process.returncode == 128 + signal.SIGINT


def test_who_leaves_has_saved(tmp_path):
    with Checkpointer(tmp_path, 2) as saver:
        with pytest.raises(OSError, match="not saved; the same command continues from step 0"):
            resume.exit_saved(saver, 5)
        saver.save(5, {"n": jnp.arange(2)}, {})
        with pytest.raises(Stopped, match="step 5 is saved"):
            resume.exit_saved(saver, 5)


class Dying:
    """Batches 0, 1, 2, …; some end with their worker, once each or always."""

    def __init__(self, deaths: list[int], start: int):
        self.deaths, self.n = deaths, start

    def __next__(self) -> Batch:
        if self.n in self.deaths:
            self.deaths.remove(self.n)
            raise RuntimeError("Worker process was terminated unexpectedly with exit code -9. …")
        self.n += 1
        return Batch(Row(*[np.array([self.n - 1])] * len(Row._fields)), None)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("deaths", [[], [2], [4, 4, 9]])
def test_a_dead_worker_costs_no_batch(deaths):
    left = list(deaths)
    stream = Stream(lambda start: Dying(left, start), 2)
    assert [int(next(stream).row.image_ids[0]) for _ in range(8)] == list(range(2, 10))


def test_workers_that_go_on_dying_end_the_run():
    stream = Stream(lambda start: Dying([3] * 9, start), 2)
    with pytest.raises(OSError, match="data workers died 4 times, the last at batch 3"):
        [next(stream) for _ in range(8)]
