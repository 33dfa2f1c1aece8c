"""Sources and manifests: what is there is found, what cannot be used is named with its reason."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.errors import BadImage, DataError, DataMissing
from data.manifest import Manifest
from data.sources import measured
from data.sources.digits import DigitStrips
from data.sources.folder import Folder, ImageFolder
from data.sources.layout import held_out
from data.sources.parquet import Parquet, ParquetImages
from data.sources.source import Arrays
from tests.support.files import names, picture, put, write

ROOT = Path(__file__).parent.parent
STRIPS = DigitStrips("train", 200, 0)


@pytest.fixture
def split_root(tmp_path):
    """Two classes, three images each for training and two for validation."""
    for k, name in enumerate(["cat", "dog"]):
        for i in range(3):
            put(tmp_path / "train" / name / f"{i}.png", 10 * k + i)
        for i in range(2):
            put(tmp_path / "val" / name / f"{i}.png", 100 + 10 * k + i)
    return tmp_path


# ---- folders


@pytest.mark.parametrize("split, count, first", [("train", 3, 0), ("val", 2, 100)])
def test_folders_of_classes(split_root, split, count, first):
    source = Folder().open(str(split_root), split)
    manifest = source.manifest
    assert manifest.classes == ("cat", "dog")
    assert names(source) == [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(count)]
    assert manifest.labels.tolist() == [0] * count + [1] * count
    for k in range(2 * count):
        expected = picture(first + 10 * (k // count) + k % count)
        np.testing.assert_array_equal(source.image(k), expected)
        np.testing.assert_array_equal(manifest.sizes[k], expected.shape[:2])


@pytest.mark.parametrize("name", ["validation", "valid", "test"])
def test_validation_goes_by_several_names(split_root, name):
    (split_root / "val").rename(split_root / name)
    assert len(ImageFolder(split_root, "val").manifest) == 4


def test_without_validation_a_tenth_of_each_class_is_held_out_by_its_names(tmp_path):
    for i in range(200):
        put(tmp_path / f"class{i % 3}" / f"{i}.png", i % 7)
    train, val = (set(names(ImageFolder(tmp_path, split))) for split in ("train", "val"))
    assert not train & val and len(train | val) == 200
    assert all(1 <= sum(name.startswith(f"class{k}/") for name in val) <= 15 for k in range(3))
    for i in range(200, 220):
        put(tmp_path / f"class{i % 3}" / f"{i}.png", i % 7)
    grown_train, grown_val = (set(names(ImageFolder(tmp_path, split))) for split in ("train", "val"))
    assert train <= grown_train and val <= grown_val and len(grown_train | grown_val) == 220


def test_the_same_images_are_held_out_in_every_process():
    """Whatever salt Python hashes texts with, and in whatever order the names come."""
    names = [f"cat/{i}.png" for i in range(100)]
    code = f"from data.sources.layout import held_out; print(sorted(held_out({names})))"
    env = os.environ | {"PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    here = sorted(held_out(names[::-1]))
    assert done.stdout.strip() == str(here) and 1 <= len(here) <= 25


def test_hidden_files_and_other_suffixes_are_no_images(split_root):
    for name in ["cat/.hidden.png", ".cache/1.png", "cat/.thumbs/1.png", "cat/notes.txt", "@eaDir/1.png"]:
        put(split_root / "train" / name)
    put(split_root / "loose.png")
    source = ImageFolder(split_root, "train")
    assert len(source.manifest) == 6 and source.manifest.classes == ("cat", "dog")


def test_a_folder_with_images_in_it_is_a_class_whatever_its_name(tmp_path):
    """Classes may be called train and test; beside a folder of classes such a folder is no split either."""
    for name in ("train", "test", "bus"):
        for i in range(2):
            put(tmp_path / name / f"{i}.png", i)
    assert ImageFolder(tmp_path, "train").manifest.classes == ("bus", "test", "train")


def test_a_loose_image_does_not_make_a_class_of_a_split(split_root):
    before = ImageFolder(split_root, "train").manifest
    put(split_root / "train" / "loose.png")
    after = ImageFolder(split_root, "train").manifest
    assert after.classes == before.classes and len(after) == len(before)


def test_a_class_called_train_is_a_class(tmp_path):
    for name in ("bus", "car", "train"):
        for i in range(3):
            put(tmp_path / name / f"{i}.png", i)
    assert ImageFolder(tmp_path, "train").manifest.classes == ("bus", "car", "train")


def test_one_class_alone_is_refused(tmp_path):
    put(tmp_path / "cat" / "0.png")
    with pytest.raises(DataError, match="has 1 class, cat: name the folder that holds the folders of the classes"):
        ImageFolder(tmp_path, "train")


def test_images_lie_at_any_depth_and_suffixes_in_any_case(split_root):
    put(split_root / "train" / "dog" / "deep" / "er" / "x.PNG", 5)
    source = ImageFolder(split_root, "train")
    assert names(source)[-1] == "dog/deep/er/x.PNG" and source.manifest.labels[-1] == 1


def test_file_names_may_be_odd(split_root):
    odd = [b"a b", "é-猫-🐈".encode(), b'it\'s "quoted"', b"new\nline", b"%s{}"]
    odd += [b"\xff\xfe latin \xe9"] if sys.platform == "linux" else []
    for i, name in enumerate(odd):
        put(split_root / "train" / "cat" / os.fsdecode(name + b".png"), i)
    source = ImageFolder(split_root, "train")
    found = {bytes(name): i for i, name in enumerate(source.manifest.names)}
    for i, name in enumerate(odd):
        np.testing.assert_array_equal(source.image(found[b"cat/" + name + b".png"]), picture(i))
    assert all(name.isprintable() for name in names(source))


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes are a matter of Linux")
def test_what_is_set_aside_is_printable_whatever_its_name(split_root):
    (split_root / "train" / "cat" / os.fsdecode(b"\x1b[2J\xff\n.png")).write_bytes(b"")
    assert ImageFolder(split_root, "train").manifest.set_aside == ((r"cat/\x1b[2J\xff\n.png", "empty file"),)


def test_links_are_followed_and_loops_end(split_root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    put(elsewhere / "emu" / "0.png", 7)
    train = split_root / "train"
    (train / "emu").symlink_to(elsewhere / "emu")
    (train / "cat" / "up").symlink_to(train)
    (elsewhere / "emu" / "self").symlink_to(elsewhere / "emu")
    source = ImageFolder(split_root, "train")
    assert source.manifest.classes == ("cat", "dog", "emu") and "emu/0.png" in names(source)
    np.testing.assert_array_equal(source.image(names(source).index("emu/0.png")), picture(7))
    assert sum(name.startswith("cat/") for name in names(source)) == 3 + 3 + 1
    assert not any("/self/" in name for name in names(source))


def test_a_folder_that_cannot_be_listed_is_not_empty(split_root, monkeypatch):
    def scandir(path, real=os.scandir):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="dog"):
        ImageFolder(split_root, "train")


def test_a_file_changed_after_it_was_measured_is_set_aside(split_root):
    source = ImageFolder(split_root, "train")
    Image.new("RGB", (50, 60)).save(split_root / "train" / "cat" / "0.png")
    with pytest.raises(BadImage, match="60 x 50 pixels, but .* when it was measured"):
        source.image(0)
    (split_root / "train" / "cat" / "0.png").unlink()
    with pytest.raises(BadImage, match="cannot be read: No such file"):
        source.image(0)


@pytest.mark.parametrize("rule", range(len(measured.LIMITS)))
def test_other_rules_measure_again(split_root, monkeypatch, rule):
    before = ImageFolder(split_root, "train").manifest
    rules = [*measured.LIMITS]
    rules[rule] = "other"
    monkeypatch.setattr(measured, "LIMITS", rules)
    again = []
    monkeypatch.setattr(measured, "measure", lambda *a, real=measured.measure: again.append(1) or real(*a))
    assert ImageFolder(split_root, "train").manifest.digest == before.digest and again


def test_unreadable_files_are_set_aside_by_name_with_a_reason(split_root):
    train = split_root / "train" / "cat"
    (train / "0.png").write_bytes(b"")
    (train / "page.jpg").write_bytes(b"<html>404</html>")
    (train / "link.png").symlink_to("nowhere")
    source = ImageFolder(split_root, "train")
    assert dict(source.manifest.set_aside) == {
        "cat/0.png": "empty file",
        "cat/link.png": "cannot be read: No such file or directory",
        "cat/page.jpg": "not an image of a known format, or its header is damaged: it begins with b'<html>404</html>'",
    }
    assert names(source) == ["cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/2.png"]
    np.testing.assert_array_equal(source.image(2), picture(10))
    assert source.manifest.labels.tolist() == [0, 0, 1, 1, 1]


def test_the_budget_for_unreadable_files(split_root):
    (split_root / "train" / "cat" / "0.png").write_bytes(b"")
    manifest = ImageFolder(split_root, "train").manifest
    manifest.check_unreadable(1 / 6)
    with pytest.raises(DataError, match="1 of 6 images.*max_unreadable=0.1;.*cat/0.png.*empty file"):
        manifest.check_unreadable(0.1)


@pytest.mark.parametrize("source", [Folder(), Parquet()])
def test_a_missing_root_is_named(tmp_path, source):
    with pytest.raises(DataMissing, match="data.root is not set"):
        source.open("", "train")
    with pytest.raises(DataMissing, match="data.root=.*nowhere is not a folder"):
        source.open(str(tmp_path / "nowhere"), "train")
    with pytest.raises(DataMissing):
        source.open(str(tmp_path), "train")


def test_where_all_is_unreadable_the_first_says_why(split_root):
    for file in (split_root / "train").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DataMissing, match="no readable image in .*; 6 were set aside, first .*cat/0.png.*empty"):
        ImageFolder(split_root, "train")


def test_a_class_that_only_validation_has_is_named(split_root):
    put(split_root / "val" / "emu" / "0.png")
    with pytest.raises(DataError, match="class 'emu' has no folder among the training classes"):
        ImageFolder(split_root, "val")


# ---- the cache of sizes


def never(*arguments):
    raise AssertionError("measured again")


def test_files_are_measured_once(split_root, monkeypatch):
    (split_root / "train" / "cat" / "0.png").write_bytes(b"")
    first = ImageFolder(split_root, "train").manifest
    monkeypatch.setattr(measured, "measure", never)
    second = ImageFolder(split_root, "train").manifest
    assert second.digest == first.digest and second.set_aside == first.set_aside


@pytest.mark.parametrize("change", ["content", "time", "name", "class"])
def test_a_changed_file_is_measured_again(split_root, monkeypatch, change):
    file, again = split_root / "train" / "cat" / "0.png", []
    before = ImageFolder(split_root, "train").manifest
    monkeypatch.setattr(measured, "measure", lambda *a, real=measured.measure: again.append(1) or real(*a))
    if change == "content":
        Image.new("RGB", (50, 60)).save(file)
    elif change == "time":
        os.utime(file, ns=(1, 1))
    elif change == "name":
        file.rename(file.with_name("9.png"))
    else:
        put(split_root / "train" / "emu" / "0.png")
    after = ImageFolder(split_root, "train").manifest
    assert again and (after.digest == before.digest) == (change == "time")
    if change == "content":
        assert after.sizes[0].tolist() == [60, 50]


@pytest.mark.parametrize("rubbish", [b"", b"PK\3\4 half a zip", b"text"])
def test_a_damaged_cache_is_replaced(split_root, monkeypatch, tmp_path, rubbish):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digest = ImageFolder(split_root, "train").manifest.digest
    (file,) = (tmp_path / "cache" / "navit").iterdir()
    file.write_bytes(rubbish)
    assert ImageFolder(split_root, "train").manifest.digest == digest
    monkeypatch.setattr(measured, "measure", never)
    assert ImageFolder(split_root, "train").manifest.digest == digest


def test_without_a_place_for_the_cache_the_run_goes_on(split_root, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(ImageFolder(split_root, "train").manifest) == 6


# ---- all sources


def test_sources_travel_by_pickle(split_root, tmp_path):
    write(tmp_path / "train.parquet", [0, 1, 0])
    parquet = ParquetImages(tmp_path, "train", "image", "label")
    parquet.image(0)
    arrays = Arrays([picture(0), picture(1)], np.array([0, 1]), ("a", "b"))
    for source in (ImageFolder(split_root, "train"), parquet, arrays, STRIPS):
        copy = pickle.loads(pickle.dumps(source))
        assert copy.manifest.digest == source.manifest.digest
        np.testing.assert_array_equal(copy.image(1), source.image(1))
    assert len(pickle.dumps(STRIPS)) < 200, "tables travel"
    assert "encoded" not in pickle.loads(pickle.dumps(parquet)).__dict__, "pixels travel"


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_are_images_in_memory(channels, dtype):
    images = [np.resize(picture(i), (*picture(i).shape[:2], channels)).astype(dtype) for i in range(4)]
    source = Arrays(images, np.array([1, 0, 1, 1]), ("a", "b"))
    assert (source.manifest.channels, source.manifest.dtype) == (channels, np.dtype(dtype).name)
    assert source.manifest.sizes.tolist() == [list(image.shape[:2]) for image in images]
    assert source.manifest.labels.tolist() == [1, 0, 1, 1]
    assert all(source.image(i) is images[i] for i in range(4))


@pytest.mark.parametrize(
    "wrong, message",
    [
        (np.zeros((2, 3), np.uint8), "2 axes and uint8, not h w C"),
        (np.zeros((2, 3, 3), np.float64), "3 axes and float64, not h w C of uint8 or float32"),
        (np.zeros((2, 3, 4), np.uint8), "differ in channels or dtype"),
        (np.zeros((2, 3, 3), np.float32), "differ in channels or dtype"),
    ],
)
def test_arrays_of_another_kind_are_refused(wrong, message):
    with pytest.raises(DataError, match=message):
        Arrays([picture(0), wrong], np.zeros(2, np.int32), ("a",))


def test_label_sets_are_filled_up_with_minus_one():
    sets = np.array([[0, 2], [1, -1], [-1, -1]])
    manifest = Arrays([picture(i) for i in range(3)], sets, ("a", "b", "c")).manifest
    np.testing.assert_array_equal(manifest.labels, sets)
    for wrong in (-2, 3):
        with pytest.raises(DataError, match=rf"1 has label \[1, {wrong}\], allowed are 0 to 2"):
            Arrays([picture(i) for i in range(2)], np.array([[0, 2], [1, wrong]]), ("a", "b", "c"))


@pytest.mark.parametrize("wrong", [-1, 2])
def test_a_label_out_of_range_names_its_image(wrong):
    with pytest.raises(DataError, match=f"arrays in memory: 1 has label {wrong}, allowed are 0 to 1"):
        Arrays([picture(0), picture(1)], np.array([0, wrong]), ("a", "b"))


def test_tables_of_unequal_length_are_refused():
    with pytest.raises(DataError, match="2 names, sizes"):
        Manifest(np.array([b"x", b"y"]), np.ones((1, 2), np.int32), np.zeros(1, np.int32), ("a",), "here")


def test_no_image_at_all_is_missing_data():
    with pytest.raises(DataMissing, match="no readable image in arrays in memory"):
        Arrays([], np.zeros(0, np.int32), ("a",))


def test_an_image_without_area_is_named():
    with pytest.raises(DataError, match="1 has size"):
        Arrays([picture(0), np.zeros((0, 3, 3), np.uint8)], np.array([0, 0]), ("a",))


@pytest.mark.parametrize("field", ["names", "sizes", "labels", "classes"])
def test_the_digest_sees_every_field(field):
    base = dict(names=np.array([b"x", b"y"]), sizes=np.ones((2, 2), np.int32), labels=np.zeros(2, np.int32))
    other = {
        "names": np.array([b"x", b"z"]),
        "sizes": np.array([[1, 1], [1, 2]], np.int32),
        "labels": np.array([0, 1], np.int32),
        "classes": ("a", "c"),
    }
    base = {**base, "classes": ("a", "b"), "where": "here"}
    same = Manifest(**{**base, "where": "there"})
    assert Manifest(**base).digest == same.digest != Manifest(**{**base, field: other[field]}).digest
