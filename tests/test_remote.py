"""Shards behind a URL: the same images as on disk, one range of bytes for each, and an error for what goes wrong."""

import pickle
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import BadImage, DataError, DataMissing
from data.sources import remote, tar_shards
from data.sources.captions import Captions
from data.sources.folder import Folder
from data.sources.parquet import Parquet
from data.sources.parquet_columns import read_images
from data.sources.remote import RemotePath, located
from data.sources.row_groups import RowGroups
from tests.support.pairs import as_parquet, as_tar, some_pairs

PAIRS = some_pairs()
LAYOUTS = {"tar": as_tar, "parquet": as_parquet}
MEMORY = fsspec.filesystem("memory")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSE", 0)
    yield
    MEMORY.store.clear()
    MEMORY.pseudo_dirs[:] = [""]


@pytest.fixture(params=LAYOUTS)
def places(request, tmp_path, cache):
    """The same shards in a folder, behind file:// and behind memory://."""
    folder = tmp_path / "set"
    folder.mkdir()
    LAYOUTS[request.param](folder, PAIRS, "train")
    put(folder, "/set")
    return {"disk": str(folder), "file": f"file://{folder}", "memory": "memory://set"}


@pytest.fixture
def shards(tmp_path, cache):
    """Tar shards behind memory://set."""
    as_tar(tmp_path, PAIRS, "train")
    put(tmp_path, "/set")
    return "memory://set"


def put(folder, root):
    for file in filter(Path.is_file, folder.iterdir()):
        MEMORY.pipe_file(f"{root}/{file.name}", file.read_bytes())


def test_images_behind_a_url_are_those_on_disk(places):
    want, *others = (Captions().open(root, "all") for root in places.values())
    for got in others:
        assert got.manifest.names.tolist() == want.manifest.names.tolist()
        assert got.manifest.classes == want.manifest.classes
        np.testing.assert_array_equal(got.manifest.labels, want.manifest.labels)
        np.testing.assert_array_equal(got.manifest.sizes, want.manifest.sizes)
        for i in reversed(range(len(PAIRS))):
            np.testing.assert_array_equal(got.image(i), want.image(i))


def test_an_image_of_a_shard_is_one_request_for_its_bytes(shards, monkeypatch):
    source, asked, read = Captions().open(shards, "all"), [], type(MEMORY).cat_file

    def counted(self, path, start, end):
        asked.append(end - start)
        return read(self, path, start, end)

    monkeypatch.setattr(type(MEMORY), "open", None)
    monkeypatch.setattr(type(MEMORY), "cat_file", counted)
    source.image(3)
    assert asked == [len(PAIRS[3].image)]


def test_an_index_of_a_remote_shard_is_kept_on_disk_until_the_object_changes(shards, monkeypatch):
    made, real = [], tar_shards.scan
    monkeypatch.setattr(tar_shards, "scan", lambda shard, *more: made.append(str(shard)) or real(shard, *more))
    first = Captions().open("memory://set", "all").manifest.digest
    assert len(made) == 2 and Captions().open("memory://set", "all").manifest.digest == first and len(made) == 2
    changed = sorted(MEMORY.store)[0]
    MEMORY.pipe_file(changed, MEMORY.cat_file(changed))  # the same bytes, written later
    assert Captions().open("memory://set", "all").manifest.digest == first and made[2:] == made[:1]


def test_a_labeled_set_in_parquet(tmp_path, cache):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"image": [{"bytes": p.image} for p in PAIRS], "label": ["a", "b", "a", "b", "a", "b", "a"]}
    for part in ("train", "val"):
        pq.write_table(pa.table(columns), tmp_path / f"{part}.parquet", row_group_size=3)
    put(tmp_path, "/labeled/data")
    want, got = (Parquet().open(root, "train") for root in (str(tmp_path), "memory://labeled"))
    np.testing.assert_array_equal(got.manifest.labels, want.manifest.labels)
    for i in (6, 0, 4):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(got)).image(i), want.image(i))


@settings(max_examples=20)
@given(
    st.lists(st.lists(st.binary(max_size=6), min_size=1, max_size=9), min_size=1, max_size=3),
    st.integers(1, 4), st.integers(1, 30), st.randoms(use_true_random=False),
)  # fmt: skip
def test_row_groups_are_the_rows_of_all_files_in_any_order(files, size, limit, random):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, images in enumerate(files):
        with MEMORY.open(f"/groups/{number}.parquet", "wb") as file:
            pq.write_table(pa.table({"image": images}), file, row_group_size=size)
    paths = [RemotePath(f"memory://groups/{number}.parquet") for number in range(len(files))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.sources.row_groups.KEPT_BYTES", limit)
        groups = RowGroups(paths, "image")
        want = [image for images in files for image in images]
        assert [*groups] == want == [image for path in paths for image in read_images(path, "image")]
        for i in random.sample(range(len(want)), len(want)):
            assert groups[i] == want[i]
        assert len(groups.kept) == 1 or sum(len(x) for images in groups.kept.values() for x in images) <= limit


# bad inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "root, error, why",
    [
        ("memory://nothing", DataMissing, "data.root=memory://nothing is no folder with files"),
        ("nosuch://bucket", DataError, "nosuch://bucket cannot be read: .*[Pp]rotocol"),
        ("s3://user:secret@bucket", DataError, r"s3://bucket cannot be read: ImportError: Install s3fs"),
        ("file:///no/such/folder", DataMissing, "is no folder with files"),
    ],
)
def test_a_root_that_is_none(root, error, why, cache):
    with pytest.raises(error, match=why) as raised:
        located(root)
    assert "secret" not in str(raised.value)


def test_a_source_of_files_refuses_a_url(cache):
    with pytest.raises(DataMissing, match="is a URL, and this source reads files on disk.*captions and parquet"):
        Folder().open("memory://set", "train")


def test_a_folder_without_shards(cache):
    MEMORY.pipe_file("/set/photo.jpg", b"")
    with pytest.raises(DataMissing, match="no captions in memory://set: it has photo.jpg"):
        Captions().open("memory://set", "train")
    with pytest.raises(DataMissing, match="no train.*parquet in memory://set"):
        Parquet().open("memory://set", "train")


@pytest.mark.parametrize(
    "error, why, tries",
    [
        (FileNotFoundError("x"), "cannot be read: No such object", 1),
        (PermissionError("403"), "cannot be read: Permission denied: check the credentials", 1),
        (TimeoutError(), "cannot be read: TimeoutError: ", 3),
        (RuntimeError("no route\nto host"), "cannot be read: RuntimeError: no route$", 3),
    ],
)
def test_what_a_file_system_raises_sets_the_image_aside_by_name(shards, monkeypatch, error, why, tries):
    source, asked = Captions().open(shards, "all"), []

    def fails(self, *arguments, **options):
        asked.append(arguments)
        raise error

    monkeypatch.setattr(type(MEMORY), "cat_file", fails)
    with pytest.raises(BadImage, match=why):
        source.image(0)
    assert len(asked) == tries


@pytest.mark.parametrize("error", [PermissionError("403"), RuntimeError("no route")])
def test_a_bucket_that_cannot_be_asked(error, monkeypatch, cache):
    def fails(self, path):
        raise error

    monkeypatch.setattr(type(MEMORY), "isdir", fails)
    with pytest.raises(DataError, match="data.root=memory://set cannot be read: (Permission|RuntimeError)"):
        located("memory://set")


@pytest.mark.parametrize("cut", [0.4, 0.9])
def test_a_damaged_shard_is_refused_by_its_url(places, cut):
    path = next(iter(MEMORY.store))
    data = MEMORY.cat_file(path)
    MEMORY.pipe_file(path, data[: int(cut * len(data))])
    with pytest.raises(DataError, match=r"memory://set/train.*(no complete tar file|cannot be read as parquet)"):
        Captions().open(places["memory"], "all")


def test_a_shard_that_shrank_is_named(shards):
    source = Captions().open(shards, "all")
    for path in [*MEMORY.store]:
        MEMORY.pipe_file(path, b"")
    with pytest.raises(BadImage, match="was changed after it was indexed"):
        source.image(0)


def test_without_fsspec_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(DataError, match=r'pip install -e "\.\[remote\]"'):
        located("s3://bucket")
