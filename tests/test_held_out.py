"""Which images are held out: an image's side is its own name's, at least one of a class is held out, never all."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import cache, check
from data.sources import parquet
from data.sources.layout import HELD_OUT, held_out
from data.sources.parquet import Parquet
from data.sources.records import Cached
from tests.support.files import write
from tests.support.laws import caught

NAMES = st.lists(st.text(max_size=4), min_size=1, max_size=40, unique=True)


def sides_stay(held, names: list[str], more: list[str]) -> None:
    """Of a class that grows at most one image changes sides, and none where some hashes are below a tenth, not all."""
    before, after = held(names), held([*names, *more])
    for part, of in ((before, names), (after, [*names, *more])):
        assert part <= set(of) and len(part) == min(max(len(part), 1), len(of) - 1)
    moved = {name for name in names if (name in before) != (name in after)}
    limit = (2**64 // HELD_OUT + 1).to_bytes(8, "big")
    low = [hashlib.sha1(os.fsencode(name)).digest()[:8] < limit for name in names]
    assert len(moved) <= (not any(low) or all(low))
    assert held(names[::-1]) == before


@given(names=NAMES, more=NAMES)
def test_images_stay_on_their_side_when_a_class_grows(names, more):
    sides_stay(held_out, names, [name for name in more if name not in names])


def test_other_rules_are_caught():
    """By rank, as a share of the class, and by place."""
    hashed = lambda name: hashlib.sha1(name.encode()).digest()
    rank = lambda names: set(sorted(names, key=hashed)[: max(1, len(names) // 10)])
    last = lambda names: set(names[-1:])
    names = [str(i) for i in range(50)]
    for rule in (rank, last):
        caught(sides_stay, rule, names, [str(i) for i in range(50, 95)])


def test_about_a_tenth_is_held_out():
    """Within four standard deviations of a binomial."""
    count, p = 20_000, 1 / HELD_OUT
    share = len(held_out([f"cat/{i}.jpg" for i in range(count)])) / count
    assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / count)


@pytest.mark.parametrize("split", ["train", "val"])
def test_each_file_is_read_once_for_its_labels(tmp_path, monkeypatch, split):
    for name in ("train-0", "train-1", "val"):
        write(tmp_path / f"{name}.parquet", ["a", "b"])
    read: list[Path] = []
    inner = parquet.read_labels
    monkeypatch.setattr(parquet, "read_labels", lambda file, column: read.append(file) or inner(file, column))
    Parquet().open(str(tmp_path), split)
    assert len(read) == len(set(read)) == (2 if split == "train" else 3)


def test_images_of_many_bands_are_checked_and_cached(tmp_path, capsys):
    """With their channels; as RGB, such files are not even tried."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 6), np.uint8)
    for split in ("train", "val"):
        for i, image in enumerate(pixels):
            (tmp_path / "in" / split / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "in" / split / "ab"[i % 2] / f"{i}.npy", image)
    root, out = str(tmp_path / "in"), str(tmp_path / "out")
    assert check.main([root]) == 65 and check.main([root, "--channels", "6"]) == 0
    (tmp_path / "in" / "val" / "a" / "odd.npy").write_bytes(b"\x93NUMPY")
    assert check.main([root, "--channels", "6"]) == 65 and "odd.npy" in capsys.readouterr().out
    assert cache.main([root, out, "--longest-side", "9", "--channels", "6"]) == 0
    cached = Cached().open(out, "train", 6)
    assert cached.manifest.channels == 6
    np.testing.assert_array_equal(np.sort(cached.image(0), None), np.sort(pixels[0], None))
    with pytest.raises(SystemExit):
        check.main([root, "--channels", "0"])
