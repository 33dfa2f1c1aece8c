"""What a run says while it goes on: loggers that go on after an interruption, and how long it waited for data."""

import json
import struct
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data.sources.digits import Digits
from harness.cli import parse
from harness.config import Config, DataConfig, TensorBoard, Wandb
from harness.run import progress as run_progress
from harness.run.logger import numbers, open_logger
from harness.run.progress import Progress
from navit_eqx.errors import ConfigError
from navit_eqx.serialize import decode, encode
from navit_eqx.training.step import Metrics
from reference.rows import Batch, Row

CONFIG = Config(data=DataConfig(source=Digits(20, 10)), steps=8)
MANIFEST = CONFIG.data.source.open("", "train").manifest


def metrics(loss: float) -> Metrics:
    """Of 4 images, 2 of them right."""
    numbers = {
        "loss_sum": loss,
        "count": 4,
        "images": 4,
        "tokens": 90,
        "places": 100,
        "pairs": 2100.0,
        "grad_norm": 1.0,
    }
    extras = {"accuracy": np.asarray(2)}
    return Metrics(**{name: np.asarray(n) for name, n in numbers.items()}, extras=extras, refused=np.asarray(False))


def logged(config: Config, folder: Path, breaks: tuple[int, ...] = ()) -> None:
    """Eight steps, a line for each, saved after every third, to which an interruption goes back."""
    folder.mkdir()
    step, progress, saved = 0, Progress(folder, config, MANIFEST, 0, None), (0, None)
    left = list(breaks)
    while step < 8:
        step += 1
        progress.add(step, metrics(0.5 * step), np.array([[1]]))
        progress.line(step, float, 0)
        if step % 3 == 0:
            saved = (step, json.dumps(progress.position()))
        if step in left:
            left.remove(step)
            step, text = saved
            progress = Progress(folder, config, MANIFEST, step, text and json.loads(text))
    progress.close()


class FakeWriter:
    """An event file: what a start after `purge_step` hides, and what is written then."""

    files: dict[str, list] = {}

    def __init__(self, folder: str, purge_step: int, filename_suffix: str):
        self.file = self.files.setdefault(folder, [])
        self.file[:] = [entry for entry in self.file if entry[0] < purge_step]

    def add_scalar(self, name, value, step):
        self.file.append((step, name, value))

    def flush(self):
        pass

    close = flush


class FakeWandb:
    """Takes a step once, as theirs does; a run is known by its id."""

    def __init__(self):
        self.runs: dict[str, dict[int, dict]] = {}

    def init(self, *, id, resume, **about):
        assert resume == "allow" and about["config"]["kind"] == "Config" and about["project"] == "mine"
        run = self.runs.setdefault(id, {})

        def log(row, step):
            if step > max(run, default=0):
                run[step] = row

        return SimpleNamespace(log=log, finish=lambda: None)


def without_clock(name: str) -> bool:
    return "second" not in name and name != "waiting"


def test_event_files_hold_each_step_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=FakeWriter))
    config = replace(CONFIG, logger=TensorBoard())
    found = []
    for name, breaks in (("whole", ()), ("pieces", (1, 5, 7))):
        logged(config, tmp_path / name, breaks)
        file = FakeWriter.files[str(tmp_path / name / "tensorboard")]
        found.append([entry for entry in file if without_clock(entry[1])])
    assert found[0] == found[1] and [s for s, name, _ in found[1] if name == "loss"] == list(range(1, 9))
    assert {value for _, name, value in found[1] if name == "accuracy"} == {2 / 4}, (
        "measures of the task, by their names"
    )


def test_wandb_goes_on_in_the_same_run(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = replace(CONFIG, logger=Wandb("mine"))
    for name, breaks in (("whole", ()), ("pieces", (1, 5, 7))):
        logged(config, tmp_path / name, breaks)
    runs = [{s: {k: v for k, v in row.items() if without_clock(k)} for s, row in r.items()} for r in fake.runs.values()]
    assert len(runs) == 2 and runs[0] == runs[1] and list(runs[0]) == list(range(1, 9))


def test_real_event_files(tmp_path):
    """What tensorboardX writes: the numbers, and after an interruption the step from which older ones are hidden."""
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    from tensorboardX.proto.event_pb2 import Event

    logged(replace(CONFIG, logger=TensorBoard()), tmp_path / "run", (5,))
    purged, losses = [], []
    for file in sorted((tmp_path / "run" / "tensorboard").iterdir()):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
            if event.HasField("session_log"):
                purged.append(event.step)
            losses += [(event.step, v.simple_value) for v in event.summary.value if v.tag == "loss"]
    assert purged == [1, 4]
    assert losses == [(n, n / 8) for n in (1, 2, 3, 4, 5, 4, 5, 6, 7, 8)]


@pytest.mark.parametrize("choice, package", [(TensorBoard(), "tensorboardX"), (Wandb(), "wandb")])
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, choice, package):
    monkeypatch.setitem(sys.modules, package, None)
    extra = type(choice).__name__.lower()
    with pytest.raises(ConfigError, match=rf"{package} .*pip install -e '.\[{extra}\]', or --logger none"):
        open_logger(replace(CONFIG, logger=choice), tmp_path, 0)
    assert extra in (Path(__file__).parent.parent / "pyproject.toml").read_text()


def test_the_choice_is_made_by_name():
    assert parse(Config, default=CONFIG, args=["--logger", "tensorboard"]).logger == TensorBoard()
    chosen = parse(Config, default=CONFIG, args=["--logger", "wandb", "--logger.project", "strips"])
    assert chosen.logger == Wandb("strips") == decode(Config, encode(chosen)).logger
    assert CONFIG.logger is None


def test_only_finite_numbers_are_logged():
    assert numbers({"step": 3, "loss": 1.5, "accuracy": np.nan, "name": "x", "refused": 2}) == {
        "loss": 1.5,
        "refused": 2,
    }


# the clock --------------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass when told."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def stream(self, seconds):
        """Batches that take their time."""
        for n in seconds:
            self.now += n
            yield Batch(Row(*[np.zeros(1)] * len(Row._fields)), None)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(run_progress, "time", clock)
    return clock


def under_way(ready: bool) -> Metrics:
    """Metrics of a step that is over, or not."""
    loss = np.asarray(1.0).view(type("Pending", (np.ndarray,), {"is_ready": lambda self: ready}))
    return metrics(1.0)._replace(loss_sum=loss)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_waiting_is_what_no_step_hides(tmp_path, clock):
    progress = Progress(tmp_path, CONFIG, MANIFEST, 0, None)
    stream = clock.stream([3.0, 2.0, 1.0, 0.0])
    for n, ready in enumerate((True, False, True, True), 1):
        progress.next(stream)
        progress.add(n, under_way(ready), np.array([[1]]))
        clock.now += 1
    progress.line(4, float, 0)
    (line,) = lines(tmp_path)
    # The third batch came while the second step was under way.
    assert line["waiting"] == (3 + 2) / 10 and line["seconds"] == 10


def test_an_interruption_is_no_waiting(tmp_path, clock):
    """Nor is it training: the clock and the window go on where they were."""
    progress = Progress(tmp_path, CONFIG, MANIFEST, 0, None)
    progress.next(clock.stream([3.0]))
    progress.add(1, under_way(True), np.array([[1]]))
    clock.now += 1
    before = json.loads(json.dumps(progress.position()))
    clock.now += 1000
    progress = Progress(tmp_path, CONFIG, MANIFEST, 1, before)
    progress.next(clock.stream([2.0]))
    progress.add(2, under_way(True), np.array([[1]]))
    clock.now += 4
    progress.line(2, float, 0)
    (line,) = lines(tmp_path)
    assert line["waiting"] == 5 / 10 and line["seconds"] == 10 and line["images_per_second"] == 8 / 10


def test_evaluation_is_no_training(tmp_path, clock):
    progress = Progress(tmp_path, CONFIG, MANIFEST, 0, None)
    progress.add(1, metrics(1.0), np.array([[1]]))
    clock.now += 2
    with progress.paused():
        clock.now += 500
    progress.line(1, float, 0)
    assert lines(tmp_path)[0]["seconds"] == 2 and lines(tmp_path)[0]["tokens_per_second"] == 45
