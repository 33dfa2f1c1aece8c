"""What libraries raise: a sentence, and the rest of the work goes on."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.errors import DataError
from data.sources.measured import cache_folder
from harness import process
from harness.config import Config, TensorBoard, Wandb
from harness.evaluation import studies
from harness.evaluation.predictions import Context
from harness.evaluation.studies import Findings, publish_all
from harness.exit_codes import run
from harness.run.logger import open_logger
from navit_eqx import sentencepiece
from navit_eqx.errors import ConfigError

# studies ----------------------------------------------------------------------------------------------


def fails(error: Exception):
    def study(context):
        raise error

    return study


def works(context) -> Findings:
    def draw(path: Path) -> None:
        path.write_bytes(b"picture")

    return Findings("works", [{"score": 1.0}], "well", "works.png", draw)


CONTEXT = object.__new__(Context)
object.__setattr__(CONTEXT, "task", SimpleNamespace(metric="accuracy"))


def published(monkeypatch, folder: Path, **given):
    monkeypatch.setattr(studies, "STUDIES", {"sweep": works, **given})
    return publish_all(list(given), CONTEXT, folder)


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), MemoryError(), OSError(5, "Input/output error")])
def test_a_study_that_fails_ends_no_other_and_is_raised_last(tmp_path, monkeypatch, capsys, error):
    found = published(monkeypatch, tmp_path, one=works, other=fails(error), third=works)
    assert list(found.rows) == ["one", "third"] and (tmp_path / "third.json").is_file()
    assert f"other: failed, {type(error).__name__}" in capsys.readouterr().out
    report = (tmp_path / "other-error.txt").read_text()
    assert report.startswith("Traceback") and "in study" in report
    with pytest.raises(type(error)):
        found.check()


def test_a_study_that_is_not_possible_is_no_failure(tmp_path, monkeypatch, capsys):
    for error in (ConfigError("needs classes"), DataError("too few images")):
        found = published(monkeypatch, tmp_path, one=fails(error), other=works)
        assert list(found.rows) == ["other"] and not found.failed
        assert f"one: not possible, {error}" in capsys.readouterr().out
        found.check()
    assert not (tmp_path / "one-error.txt").exists()


def test_a_report_of_an_earlier_failure_goes(tmp_path, monkeypatch):
    published(monkeypatch, tmp_path, one=fails(ValueError()))
    assert (tmp_path / "one-error.txt").is_file()
    published(monkeypatch, tmp_path, one=works)
    assert not (tmp_path / "one-error.txt").exists()


def test_nothing_goes_on_without_the_sweep(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="a fault"):
        published(monkeypatch, tmp_path, sweep=fails(ValueError("a fault")), other=works)


# loggers ----------------------------------------------------------------------------------------------


def refuses(*given, **named):
    raise RuntimeError("No API key configured. Use `wandb login` to log in.")


def test_a_logger_that_does_not_start_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=refuses))
    with pytest.raises(
        ConfigError, match="does not start, No API key configured.*WANDB_MODE=offline, or --logger none"
    ):
        open_logger(replace(Config(), logger=Wandb()), tmp_path, 0)


@pytest.mark.parametrize("method", ["log", "close"])
def test_a_logger_that_fails_is_told_once_and_left_alone(tmp_path, monkeypatch, capsys, method):
    calls = []

    class Writer:
        def __init__(self, *given, **named): ...

        def add_scalar(self, *given):
            calls.append(given)
            raise OSError(28, "No space left on device")

        flush = close = add_scalar

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    logger = open_logger(replace(Config(), logger=TensorBoard()), tmp_path, 0)
    for step in (1, 2):
        logger.log(step, {"loss": 1.0}) if method == "log" else logger.close()
    logger.close()
    said = capsys.readouterr().out
    assert said.count("logger=tensorboard stops") == 1 == len(calls) and "No space left" in said


# folders and memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize("writable", ["/dev/shm", "the runs", None])
def test_temporary_files_find_a_folder(tmp_path, monkeypatch, capsys, writable):
    """No usual place can be written, as on a read-only system: memory, else the folder of the runs."""
    place = str(tmp_path) if writable == "the runs" else writable

    def nowhere():
        raise FileNotFoundError("No usable temporary directory found")

    def only_there():
        if tempfile.tempdir != place:
            raise OSError(30, "Read-only file system")
        return (tmp_path / "probe").open("w")

    monkeypatch.setattr(sys, "argv", ["train.py", f"--out={tmp_path / 'runs' / 'deep'}"])
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "/proc")
    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.setattr(tempfile, "TemporaryFile", only_there)
    if place:
        process.find_temporary_folder()
        assert process.os.environ["TMPDIR"] == place
    else:
        with pytest.raises(SystemExit) as end:
            process.find_temporary_folder()
        assert end.value.code == 74 and "set TMPDIR" in capsys.readouterr().err


def test_a_user_without_a_home_has_caches(tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache_folder() == tmp_path / "navit"
    assert sentencepiece._trained("abc") == tmp_path / "navit" / "tokenizer-abc.model"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying …")])
def test_too_little_memory_is_a_sentence(capsys, error):
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        run(main)
    said = capsys.readouterr().err
    assert end.value.code == 78 and "out of memory" in said and "--rows" in said and "Traceback" not in said
