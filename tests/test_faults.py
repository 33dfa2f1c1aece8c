"""Full disks, odd paths, folders of others, deleted locks: what is written is whole, and errors name a remedy."""

import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import jax.numpy as jnp
import pytest
from matplotlib.figure import Figure

from harness.evaluation import pictures
from harness.evaluation.tables import write_csv
from harness.exit_codes import Locked
from harness.run.folder import is_taken, lock, open_run_dir, write_json
from navit_eqx.errors import ConfigError
from navit_eqx.files import NotWritten
from navit_eqx.training import checkpoints
from navit_eqx.training.checkpoints import Checkpointer
from tests.support.runs import like, same_bits

STATE = {"n": jnp.arange(3), "w": jnp.ones((2, 2))}
ODD = ["a b", "naïve", "名前", "#%@!", "a\nb", "-x", "x:y", "{a}", "]a", "~"]
PATTERNS = ["try[1]", "[!a]", "a*b", "a?b", "a\\b", "gs:", "s3:", os.fsdecode(b"\xff")]


@contextmanager
def full_disk(free: int):
    """No file can be longer than `free` bytes: a write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# paths --------------------------------------------------------------------------------------------------


def saved_or_refused(folder: Path) -> bool:
    """Whether a save is refused beforehand; what is not refused comes back."""
    said: list[str] = []
    try:
        with Checkpointer(folder, 2, said.append) as saver:
            saver.save(1, STATE, {})
    except ConfigError:
        return True
    found = Checkpointer(folder, 2, said.append).restore(like(STATE))
    assert found is not None and not said
    same_bits(found[0], STATE)
    return False


@pytest.mark.parametrize("name", ODD + PATTERNS, ids=ascii)
def test_a_save_at_an_odd_path_comes_back_or_is_refused_before(tmp_path, name):
    assert saved_or_refused(tmp_path / name / "checkpoints") == (name in PATTERNS)
    assert saved_or_refused(tmp_path / "x" / ".." / "y") is False


def test_a_save_that_cannot_be_read_is_no_save(tmp_path, monkeypatch):
    """Were odd paths not refused, the leaf that is read back would tell; were nothing read back, nobody would."""
    monkeypatch.setattr(checkpoints, "check_path", lambda folder: None)
    said: list[str] = []
    with Checkpointer(tmp_path / "try[1]", 2, said.append) as saver:
        saver.save(1, STATE, {})
        saver.finish()
        assert saver.steps == [] and "step 1 was not saved" in said[0] and "cannot be read back" in said[0]
        monkeypatch.setattr(checkpoints, "read_back", lambda path, marks: None)
        saver.save(2, STATE, {})
        saver.finish()
        assert saver.steps == [2]
    with pytest.raises(ValueError, match="does not exist"):
        saved_or_refused(tmp_path / "try[2]")


def test_the_leaf_that_is_read_back_is_compared(tmp_path):
    with Checkpointer(tmp_path, 2) as saver:
        saver.save(1, STATE, {})
    marks = checkpoints.fingerprint(STATE)
    checkpoints.read_back(tmp_path / "1", marks)
    with pytest.raises(checkpoints.CorruptCheckpoint, match="n is not what was saved"):
        checkpoints.read_back(tmp_path / "1", marks | {"n": checkpoints.fingerprint({"n": STATE["n"] + 1})["n"]})


@pytest.mark.parametrize("name", ["../x", "../../x", "a/b", "/x", "..", ".", "", "a/"])
def test_a_name_stays_inside(tmp_path, name):
    with pytest.raises(ConfigError, match="is not the name of a folder inside --out"):
        open_run_dir(str(tmp_path / "runs"), name)
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_saves_could_not_be_restored_leaves_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="could be restored"):
        open_run_dir(str(tmp_path / "runs"), "try[1]")
    assert list(tmp_path.iterdir()) == []


# folders of others, locks -------------------------------------------------------------------------------


def test_what_is_not_ours_is_not_removed(tmp_path):
    with Checkpointer(tmp_path, 1) as saver:
        saver.save(1, STATE, {})
    others = ["1-backup", "best", "2024", "x.orbax-checkpoint-tmp", "saved.json"]
    for name in others[:4]:
        shutil.copytree(tmp_path / "1", tmp_path / name)
        (tmp_path / name / "saved.json").rename(tmp_path / name / "mine.json")
    (tmp_path / "saved.json").write_text("{}")
    (tmp_path / "8" / "state").mkdir(parents=True)
    (tmp_path / "9.orbax-checkpoint-tmp").mkdir()
    said: list[str] = []
    with Checkpointer(tmp_path, 1, said.append) as saver:
        saver.save(3, STATE, {})
    assert {path.name for path in tmp_path.iterdir()} == {*others, "3"} and said == [
        "step 8 was not wholly saved: it is removed"
    ]


def test_a_deleted_lock_does_not_let_a_second_trainer_in(tmp_path):
    folder, held = open_run_dir(str(tmp_path), "run")
    held.check()
    (folder / "lock").unlink()
    with pytest.raises(Locked, match="is in use by"):
        lock(folder)
    with pytest.raises(Locked, match="lock was removed or replaced"):
        held.check()
    shutil.rmtree(folder)
    again, other = open_run_dir(str(tmp_path), "run")
    assert again == folder
    other.check()
    with pytest.raises(Locked, match="removed or replaced"):
        held.check()
    held.close()
    other.close()
    lock(folder).close()


# full disks ---------------------------------------------------------------------------------------------

WRITERS = {
    "a.json": lambda path, n: write_json(path, ["x" * 99] * n),
    "a.csv": lambda path, n: write_csv(path, [{"a": "x" * 99}] * n),
    "a.png": lambda path, n: pictures.save(Figure(figsize=(n, n)), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_written_wholly_or_not_at_all(tmp_path, name):
    """An error names the file and the remedy, and leaves neither half a file nor a draft."""
    path, write = tmp_path / name, WRITERS[name]
    with full_disk(200), pytest.raises(NotWritten, match=f"{name} cannot be written, File too large: raise the limit"):
        write(path, 10)
    assert list(tmp_path.iterdir()) == []
    write(path, 2)
    before = path.read_bytes()
    with full_disk(200), pytest.raises(NotWritten):
        write(path, 10)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_draft_does_not_take_a_name(tmp_path):
    """As a killed process may leave it."""
    for file in ("config.json.draft", "lock", "blocks.jsonl"):
        (tmp_path / file).touch()
    assert not is_taken(tmp_path)
    (tmp_path / "mine.txt").touch()
    assert is_taken(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("program", ["train.py", "evaluate.py", "predict.py"])
def test_help_works_without_docstrings(program):
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, program, "--help"], cwd=root, env=os.environ | {"PYTHONOPTIMIZE": "2"}, capture_output=True
    )
    assert done.returncode == 0 and len(done.stdout) > 20 and b"None\n" not in done.stdout
