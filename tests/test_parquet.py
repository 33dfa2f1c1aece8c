"""Images in parquet files."""

import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError, DataMissing
from data.sources.parquet import Parquet
from tests.support.files import encoded, names, picture, write


@pytest.mark.parametrize("struct", [True, False], ids=["struct", "bytes"])
@pytest.mark.parametrize("labels, classes", [([0, 2, 1], "012"), (["c", "a", "b"], "abc")], ids=["int", "str"])
def test_parquet_of_images_and_labels(tmp_path, struct, labels, classes):
    write(tmp_path / "train-00.parquet", labels, 0, struct)
    write(tmp_path / "train-01.parquet", labels[:2], 3, struct)
    write(tmp_path / "validation.parquet", labels[1:2], 50, struct)
    train, val = (Parquet().open(str(tmp_path), split) for split in ("train", "val"))
    assert train.manifest.classes == val.manifest.classes == tuple(classes)
    expected = [classes.index(str(label)) for label in labels]
    assert train.manifest.labels.tolist() == expected + expected[:2]
    assert val.manifest.labels.tolist() == expected[1:2]
    for i in range(5):
        np.testing.assert_array_equal(train.image(i), picture(i))
        np.testing.assert_array_equal(train.manifest.sizes[i], picture(i).shape[:2])
    np.testing.assert_array_equal(val.image(0), picture(50))


def test_parquet_takes_the_names_that_were_stored(tmp_path):
    write(tmp_path / "train.parquet", [0, 1], stored_names=["cat", "dog", "emu"])
    assert Parquet().open(str(tmp_path), "train").manifest.classes == ("cat", "dog", "emu")


def test_parquet_sets_aside_what_it_cannot_read(tmp_path):
    images = [encoded(picture(0)), b"not an image", None, encoded(picture(3))]
    pq.write_table(pa.table({"image": images, "label": [0, 1, 1, 2]}), tmp_path / "train.parquet")
    write(tmp_path / "val.parquet", [0])
    source = Parquet().open(str(tmp_path), "train")
    assert dict(source.manifest.set_aside) == {
        "train.parquet:1": "not an image of a known format, or its header is damaged: it begins with b'not an image'",
        "train.parquet:2": "empty file",
    }
    assert source.manifest.labels.tolist() == [0, 2]
    np.testing.assert_array_equal(source.image(1), picture(3))


def test_parquet_names_what_is_wrong(tmp_path):
    write(tmp_path / "train.parquet", ["a", "b"])
    write(tmp_path / "val.parquet", ["a", "c"])
    with pytest.raises(DataError, match="val.parquet:1: label 'c' does not occur in the training files"):
        Parquet().open(str(tmp_path), "val")
    with pytest.raises(DataError, match="no column 'kind'; it has image, label"):
        Parquet(label="kind").open(str(tmp_path), "train")
    with pytest.raises(DataMissing, match="no test.*parquet in .*; found are train, val"):
        Parquet().open(str(tmp_path), "test")
    write(tmp_path / "train.parquet", [0, 1])
    write(tmp_path / "val.parquet", [0, 2])
    with pytest.raises(DataError, match="val.parquet:1: label '2' does not occur in the training files"):
        Parquet().open(str(tmp_path), "val")


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes are a matter of Linux")
def test_shards_may_have_any_name(tmp_path):
    write(tmp_path / "train.parquet", [0, 1])
    (tmp_path / "train.parquet").rename(tmp_path / os.fsdecode(b"train-\xff.parquet"))
    source = Parquet().open(str(tmp_path), "train")
    np.testing.assert_array_equal(source.image(1), picture(1))
    assert names(source) == [r"train-\xff.parquet:0", r"train-\xff.parquet:1"]


def test_of_a_training_split_alone_a_tenth_of_each_class_is_held_out(tmp_path):
    """Every image is in one of both parts, one of each class at least in the second; the same whenever it is opened."""
    write(tmp_path / "train.parquet", ["a"] * 20 + ["b"] * 3)
    parts = [Parquet().open(str(tmp_path), split) for split in ("train", "val")]
    train, val = (set(names(source)) for source in parts)
    assert not train & val and len(train | val) == 23
    assert parts[1].manifest.labels.tolist() == [0, 0, 1]
    assert set(names(Parquet().open(str(tmp_path), "val"))) == val


@pytest.mark.parametrize("labels", [[[2, 0], [], [1, 1]], [["c", "a"], [], ["b", "b"]]], ids=["int", "str"])
def test_label_sets_are_filled_up(tmp_path, labels):
    """One line for each image, its classes in order, each once, then −1."""
    write(tmp_path / "train.parquet", labels)
    write(tmp_path / "val.parquet", labels[2:])
    train, val = (Parquet().open(str(tmp_path), split).manifest for split in ("train", "val"))
    assert train.labels.tolist() == [[0, 2], [-1, -1], [1, -1]] and len(train.classes) == 3
    assert val.labels.tolist() == [[1]]
