"""Tar shards: read at random from an index, which is cached and checked; damage is named."""

import gzip
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import BadImage, DataError
from data.sources import tar_shards
from data.sources.captions import Captions
from tests.support.files import decoded_or_refused, names
from tests.support.pairs import as_tar, some_pairs, tar_file

PAIRS = some_pairs()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two shards, and a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    as_tar(tmp_path / "set", PAIRS, "train")
    return tmp_path / "set"


def opened(root):
    return Captions().open(str(root), "all")


def never(*arguments):
    raise AssertionError("indexed again")


def test_a_shard_is_indexed_once(root, monkeypatch):
    first = opened(root).manifest
    monkeypatch.setattr(tar_shards, "scan", never)
    again = opened(root)
    assert again.manifest.digest == first.digest and again.manifest.notes == first.notes
    np.testing.assert_array_equal(again.image(5), decoded_or_refused(PAIRS[5].image))


@pytest.mark.parametrize("damage", [b"", b"text", None])
def test_a_damaged_index_is_made_again(root, monkeypatch, damage):
    first = opened(root).manifest.digest
    for file in (root.parent / "cache" / "navit").glob("tar-*"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data if damage is None else damage)
    made = []
    monkeypatch.setattr(tar_shards, "scan", lambda *a, real=tar_shards.scan: made.append(1) or real(*a))
    assert opened(root).manifest.digest == first and len(made) == 2
    monkeypatch.setattr(tar_shards, "scan", never)
    assert opened(root).manifest.digest == first


def test_a_changed_shard_is_indexed_again(root):
    opened(root)
    as_tar(root, [pair._replace(captions=["new"]) for pair in some_pairs(7, 80)], "train")
    for file in root.glob("*.tar"):
        os.utime(file, ns=(1, 1))
    assert opened(root).manifest.classes == ("new",)
    np.testing.assert_array_equal(opened(root).image(5), decoded_or_refused(some_pairs(7, 80)[5].image))


def test_a_shard_changed_after_it_was_indexed_sets_images_aside(root):
    source = opened(root)
    (root / "train-000001.tar").write_bytes(b"")
    with pytest.raises(BadImage, match="train-000001.tar was changed after it was indexed"):
        source.image(5)
    (root / "train-000001.tar").unlink()
    with pytest.raises(BadImage, match="train-000001.tar cannot be read: No such file"):
        source.image(5)
    np.testing.assert_array_equal(source.image(0), decoded_or_refused(PAIRS[0].image))


SHARD = "shard-0.tar"


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """A folder with one shard, its bytes, and its samples."""
    folder = tmp_path_factory.mktemp("shard")
    members = [(f"{'deep/' * 30}{i}.png", p.image) for i, p in enumerate(PAIRS[:3])]
    tar_file(folder / SHARD, [x for name, image in members for x in ((name, image), (name[:-3] + "txt", b"text"))])
    data = (folder / SHARD).read_bytes()
    return folder / SHARD, data, tar_shards.scan(folder / SHARD, {".png"}, "")


def scanned_or_named(shard, data: bytes):
    """The samples of a shard with other bytes; None where it is refused by name."""
    shard.write_bytes(data)
    try:
        return tar_shards.scan(shard, {".png"}, "")
    except DataError as error:
        assert SHARD in str(error) and "write or download it again" in str(error)
        return None


@given(st.data())
def test_a_shard_cut_anywhere_is_named(shard, data):
    path, whole, samples = shard
    content = len(whole.rstrip(b"\0"))
    for cut in (data.draw(st.integers(0, content)), 512 * data.draw(st.integers(0, content // 512))):
        assert scanned_or_named(path, whole[:cut]) is None
    assert scanned_or_named(path, whole) == samples


@given(st.data())
def test_a_flipped_bit_of_a_header_is_named(shard, data):
    path, whole, samples = shard
    starts = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"]
    assert len(starts) >= 6 and max(s.offset for s in samples) - 512 in starts
    at = data.draw(st.sampled_from(starts)) + data.draw(st.integers(0, 499))
    spoiled = bytearray(whole)
    spoiled[at] ^= 1 << data.draw(st.integers(0, 7))
    assert scanned_or_named(path, bytes(spoiled)) is None


def test_joined_and_compressed_shards_are_named(shard):
    path, whole, _ = shard
    for data in (whole + whole, gzip.compress(whole), b"", b"<html>not found</html>" * 100):
        assert scanned_or_named(path, data) is None


def test_names_of_any_bytes_and_equal_names_in_shards(root):
    """Names tell images apart: with the name of the shard where they are not unique."""
    odd = os.fsdecode(b"\xff odd.png")
    tar_file(root / "train-000002.tar", [(odd, some_pairs(8)[7].image), (odd[:-3] + "txt", b"odd"), ("000.png", b"")])
    source = opened(root)
    assert names(source)[0] == "train-000000.tar:000.png" and len({*names(source)}) == len(PAIRS) + 1
    last = [source.manifest.classes[k] for k in source.manifest.labels[-1] if k >= 0]
    assert last == ["odd"] and names(source)[-1] == "train-000002.tar:\\xff odd.png"
    assert dict(source.manifest.set_aside) == {"train-000002.tar:000.png": "has no caption"}


def test_only_images_are_read(root):
    """A shard is not unpacked: an image costs as many bytes as it has."""
    source = opened(root)
    data = [source.reader.read(i) for i in (6, 0, 3)]  # pyright: ignore[reportAttributeAccessIssue]
    assert data == [PAIRS[i].image for i in (6, 0, 3)]
    assert sorted(path.name for path in root.iterdir()) == ["train-000000.tar", "train-000001.tar"]


def test_a_text_is_taken_before_the_json_beside_it(root):
    members = [("a.png", PAIRS[0].image), ("a.json", b'{"caption": "of a crawler"}'), ("a.txt", b"of a person")]
    tar_file(root / "alone.tar", members)
    (sample,) = tar_shards.scan(root / "alone.tar", {".png"}, "")
    assert sample.captions == ["of a person"] and not sample.problem
