"""The contest of speed: the same images for all, every one once, absent peers by name, bars as they are."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.contest import protocol, stream
from benchmarks.contest.rows import steady
from benchmarks.contest.run import Contestant
from benchmarks.contest.stream import CASES, PATCH, bucketed, consecutive
from benchmarks.contest.verdict import bars, draw, summary
from benchmarks.settings import packed

ROOT = Path(__file__).parent.parent
LENGTHS = st.lists(st.integers(1, 1024), min_size=1, max_size=60)


# the images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_the_list_of_a_case(name):
    images, again, case = steady(name, 4), steady(name, 4), CASES[name]
    assert images.rows == again.rows and images.labels.tolist() == again.labels.tolist()
    assert sorted(i for row in images.rows for i in row) == list(range(len(images.pixels)))
    assert len(images.pixels) == case.images or len(images.rows) == 4
    for image, n in zip(images.pixels, images.lengths):
        h, w = image.shape[:2]
        assert h % PATCH == w % PATCH == 0 and h * w == n * PATCH**2
    for row in images.rows:
        assert len(row) <= case.row_images and sum(images.lengths[i] for i in row) <= case.row_tokens


def test_rows_hold_every_image_and_its_label():
    images, case = steady("tiny", 1), CASES["tiny"]
    row, targets = packed(images.pixels, images.labels, images.rows, case.row_tokens, case.row_images, (PATCH, PATCH))
    used = row.image_ids >= 0
    assert sorted(row.image_ids[used].tolist()) == list(range(len(images.pixels)))
    assert (targets.labels[used] == images.labels[row.image_ids[used]]).all()
    assert (targets.labels[~used] == -1).all() and (row.segment_ids > 0).sum() == sum(images.lengths)
    assert (targets.partners == -1).all() and (targets.weights == 0).all()


def test_images_are_saved_and_loaded(tmp_path):
    images = steady("mixed", 2)
    stream.save(tmp_path / "images.npz", images.pixels, images.labels)
    pixels, labels = stream.load(tmp_path / "images.npz")
    assert all(np.array_equal(a, b) for a, b in zip(pixels, images.pixels, strict=True))
    assert np.array_equal(labels, images.labels)


@given(LENGTHS, st.integers(1, 6))
def test_consecutive_steps_hold_every_image_once_and_in_order(lengths, steps):
    cut = consecutive(lengths, steps)
    assert len(cut) == steps and [i for step in cut for i in step] == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 4096))
def test_a_batch_of_a_bucket_has_one_length_and_not_too_many_places(lengths, step_tokens):
    batches = bucketed(lengths, step_tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        sizes = [lengths[i] for i in batch]
        assert np.unique(np.searchsorted(stream.BUCKETS, sizes)).size == 1
        assert len(batch) == 1 or len(batch) * max(sizes) <= step_tokens


# who takes part -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "python, why",
    [("", "--peers is not set"), ("/no/such/python", "No such file"), (sys.executable, "ended with code")],
)
def test_a_peer_that_cannot_run_is_absent_with_the_reason(tmp_path, python, why):
    peer = Contestant("flat", argparse.Namespace(peers=python, threads=1, gpu=False), tmp_path)
    peer.end()
    assert why in peer.absent and not peer.rounds


WORKER = """
import sys
from benchmarks.contest.protocol import Ready, serve
def prepare(name, task, folder):
    print("libraries may print")
    if name == "bad":
        raise ValueError("no such layer")
    return Ready(lambda: sum(range(task["work"])), {"places": 3})
serve(prepare)
"""


@pytest.mark.parametrize("name", ["good", "bad"])
def test_a_worker_speaks_lines_of_json(tmp_path, name):
    (tmp_path / "task.json").write_text(json.dumps({"work": 100}))
    command = [sys.executable, "-c", WORKER, name, str(tmp_path)]
    done = subprocess.run(command, input="round\nround\n", capture_output=True, text=True, cwd=ROOT)
    first, *rounds = map(json.loads, done.stdout.splitlines())
    if name == "bad":
        assert first == {"absent": "ValueError: no such layer"} and not rounds
    else:
        assert first["places"] == 3 and len(rounds) == 2
        assert all(set(r) == {"cpu_seconds", "wall_seconds", "peak_bytes"} for r in rounds)


def test_memory_is_read():
    if Path("/proc/self/status").exists():
        assert (protocol.memory("VmHWM") or 0) >= (protocol.memory("VmRSS") or 0) > 1 << 20


# the verdict --------------------------------------------------------------------------------------


def line(contestant, seconds, case="mixed", **more):
    """A contestant that needed so many seconds in each of its rounds."""
    rounds = [{"cpu_seconds": s, "wall_seconds": 2 * s, "peak_bytes": 1} for s in seconds]
    task = {"flops": 60e9, "lengths": [10, 30]}
    about = {"preset": "ti16", "case": case, "contestant": contestant, "places": 50}
    return summary(rounds, about | more, task, "cpu_seconds")


def test_a_line_says_what_was_measured():
    got = line("ours", [1.0, 3.0, 2.0])
    assert (got["seconds"], got["seconds_min"], got["seconds_max"], got["median_wall_seconds"]) == (2, 1, 3, 4)
    assert got["useful_gflops_per_second"] == 30 and got["padding"] == pytest.approx(0.2)
    assert got["microseconds_per_token"] == 5e4 and got["milliseconds_per_image"] == 1e3


def test_bars_are_judged_by_ratios_of_the_same_round():
    lines = [line("gemm", [1.0, 1.0], flops=80e9), line("ours", [1.0, 2.0]), line("timm-buckets", [1.3, 2.4])]
    lines += [line("flat", [0.9, 1.8]), {"preset": "ti16", "case": "mixed", "contestant": "monai", "absent": "why"}]
    got = {bar["bar"]: bar for bar in bars(lines, threads=1)}
    assert set(got) == {"useful GFLOP/s", "times timm-buckets", "times flat"}
    assert got["useful GFLOP/s"]["limit"] == 56 and not got["useful GFLOP/s"]["met"]
    assert got["times timm-buckets"]["value"] == pytest.approx(1.25) and got["times timm-buckets"]["met"]
    assert got["times timm-buckets"]["value_min"] == pytest.approx(1.2)
    assert not got["times flat"]["met"]
    assert not bars(lines[2:], threads=1)


def test_the_picture(tmp_path):
    draw([line("ours", [1.0]), line("flat", [1.5]), line("flat", [1.5], case="tiny")], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size


# all of it ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [("contest/run.py", "--cases", "mixed", "equal"), ("accelerator.py",), ("linear.py",), ("xla_limits.py",)],
)
def test_a_quick_run(script):
    name, *options = script
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), "--quick", *options], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    assert all(x["relative_error"] <= 1e-5 for x in lines if x.get("contestant") in ("ours", "unpacked"))
    assert all("--peers is not set" in x["absent"] for x in lines if x.get("contestant") == "monai")
