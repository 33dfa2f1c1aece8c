"""Killed, stopped or broken at any moment, the same command goes on: whole runs in processes of their own.

Minutes: pytest -m slow tests/test_kill.py
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


RUN = [
    *("train.py", "digits", "--data.source.train-images", "400", "--data.source.val-images", "40"),
    *("--model.width", "16", "--model.depth", "1", "--model.mlp-width", "16", "--model.unroll", "1"),
    *("--rows", "2", "--steps", "300", "--log-every", "1", "--save-every", "5", "--optim.ema", "0.9"),
]  # fmt: skip


def begun(out: Path, cache: Path, workers: int = 0, *more: str) -> subprocess.Popen:
    """A run of 300 steps under way. Programs are compiled once for all runs."""
    cached = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, *RUN, "--out", str(out), "--name", "run", "--data.workers", str(workers), *more]
    with (out / "said").open("a") as said:
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ | cached | {"JAX_NUM_CPU_DEVICES": "1"}, stdout=said, stderr=said
        )


def reached(out: Path) -> int:
    """The last step logged."""
    path = out / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines()[-2:] if path.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def wait_for(out: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 600
    while reached(out) < step and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert reached(out) >= step, (out / "said").read_text()


def ended(process: subprocess.Popen, out: Path, code: int = 0) -> None:
    assert process.wait(600) == code, (out / "said").read_text()


def result(out: Path) -> tuple[list[tuple], bytes]:
    """Step, loss and counts of every line, to the bit; and the parameters."""
    lines = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    rows = [(x["step"], x["loss"].hex(), x["grad_norm"].hex(), x["images_seen"], x["tokens_seen"]) for x in lines]
    return rows, (out / "run" / "model" / "model.safetensors").read_bytes()


def children(pid: int) -> list[int]:
    """Processes started by one process, at any depth."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found += [int(path.name), *children(int(path.name))]
    return found


def alive(pids: list[int]) -> list[int]:
    """Those that are there and no zombies."""
    return [p for p in pids if (s := Path(f"/proc/{p}/stat")).exists() and s.read_text().rpartition(")")[2][1] != "Z"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out, cache = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("cache")
    ended(begun(out, cache), out)
    rows, parameters = result(out)
    assert [row[0] for row in rows] == list(range(1, 301))
    return rows, parameters, cache


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_anywhere_it_ends_with_the_same_bits(uninterrupted, tmp_path, workers):
    """Six SIGKILLs at random moments, most of them while a state is being written."""
    rng = random.Random(workers)
    for kill in range(6):
        process = begun(tmp_path, uninterrupted[2], workers)
        if kill:
            said = (tmp_path / "said").read_text().count("continuing")
            while (tmp_path / "said").read_text().count("continuing") == said and process.poll() is None:
                time.sleep(0.01)
        wait_for(tmp_path, 30 + 40 * kill + rng.randrange(10), process)
        time.sleep(rng.random() * 0.1)
        workers_of = children(process.pid)
        process.kill()
        process.wait()
        time.sleep(3)
        assert not alive(workers_of), "workers outlive the trainer"
    ended(begun(tmp_path, uninterrupted[2], workers), tmp_path)
    said = (tmp_path / "said").read_text()
    assert said.count("continuing") == 6 and "damaged" not in said
    assert result(tmp_path) == uninterrupted[:2]


@pytest.mark.slow
def test_sigterm_saves_and_leaves_and_a_second_trainer_is_refused(uninterrupted, tmp_path):
    process = begun(tmp_path, uninterrupted[2], 1, "--save-every", "0")
    wait_for(tmp_path, 40, process)
    process.send_signal(signal.SIGSTOP)
    ended(begun(tmp_path, uninterrupted[2]), tmp_path, 73)
    (worker,) = [pid for pid in children(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(worker, signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    wait_for(tmp_path, reached(tmp_path) + 30, process)
    process.send_signal(signal.SIGTERM)
    ended(process, tmp_path, 75)
    ended(begun(tmp_path, uninterrupted[2], 0), tmp_path)
    said = (tmp_path / "said").read_text()
    for words in ("is in use by process", "a data worker died", "is saved; the same command continues", "continuing"):
        assert words in said, said
    assert result(tmp_path) == uninterrupted[:2]


@pytest.mark.slow
def test_numbers_that_stay_wrong_end_the_run(uninterrupted, tmp_path):
    process = begun(tmp_path, uninterrupted[2], 0, "--optim.lr", "1e38", "--max-refused", "5")
    ended(process, tmp_path, 70)
    assert "5 steps in a row" in (tmp_path / "said").read_text()
    assert len((tmp_path / "run" / "refused.jsonl").read_text().splitlines()) == 5


MOVING = {
    "hierarchy": ("--model.depth", "2", "--model.stages", "stages", "--model.stages.depths", "1", "1"),
    "fuzzy": ("--model.fuzzy", "fuzzy"),
    "by content": ("--data.merge", "merge-by-content", "--data.dropping", "by-content"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MOVING)
def test_what_merges_or_moves_tokens_goes_on_with_the_same_bits(tmp_path, name):
    """Killed twice: stages, random moves of coordinates, and rates that follow the content."""
    options = ("--steps", "60", "--log-every", "1", "--save-every", "5", *MOVING[name])
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    ended(begun(whole, tmp_path / "cache", 0, *options), whole)
    for step in (13, 37):
        process = begun(killed, tmp_path / "cache", 0, *options)
        wait_for(killed, step, process)
        process.kill()
        process.wait()
    ended(begun(killed, tmp_path / "cache", 0, *options), killed)
    assert (killed / "said").read_text().count("continuing") == 2
    assert result(killed) == result(whole) and len(result(whole)[0]) == 60
