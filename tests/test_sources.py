"""Sources and manifests: what is there is found, what cannot be used is named with its reason."""

import json
import os
import pickle
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import data.sources
from data.digits import CELL, FIRST_TEST_GLYPH, MOST, DigitStrips, glyphs
from data.errors import BadImage, DataError, DataMissing
from data.manifest import Manifest
from data.sources import Arrays, Digits, Folder, ImageFolder, Parquet, ParquetImages
from tests.test_decode import encoded

STRIPS = {split: DigitStrips(split, 200, 0) for split in ("train", "val")}
both = pytest.mark.parametrize("split", STRIPS)


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*rng.integers(1, 9, 2), 3), np.uint8)


def put(path, seed: int = 0) -> None:
    """One image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(path, "PNG")


def names(source) -> list[str]:
    return [source.manifest.name(i) for i in range(len(source.manifest))]


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


def test_one_file_in_ten_is_held_out_by_its_name_alone(tmp_path):
    for i in range(200):
        put(tmp_path / f"class{i % 3}" / f"{i}.png", i % 7)
    train, val = (set(names(ImageFolder(tmp_path, split))) for split in ("train", "val"))
    assert not train & val and len(train | val) == 200
    assert 10 <= len(val) <= 30
    for i in range(200, 220):
        put(tmp_path / f"class{i % 3}" / f"{i}.png", i % 7)
    grown_train, grown_val = (set(names(ImageFolder(tmp_path, split))) for split in ("train", "val"))
    assert train <= grown_train and val <= grown_val and len(grown_train | grown_val) == 220


def test_hidden_files_and_other_suffixes_are_no_images(split_root):
    for name in ["cat/.hidden.png", ".cache/1.png", "cat/.thumbs/1.png", "cat/notes.txt", "loose.png"]:
        put(split_root / "train" / name)
    source = ImageFolder(split_root, "train")
    assert len(source.manifest) == 6 and source.manifest.classes == ("cat", "dog")


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


@pytest.mark.parametrize("rule", range(len(data.sources.RULES)))
def test_other_rules_measure_again(split_root, monkeypatch, rule):
    before = ImageFolder(split_root, "train").manifest
    rules = [*data.sources.RULES]
    rules[rule] = "other"
    monkeypatch.setattr(data.sources, "RULES", rules)
    again = []
    monkeypatch.setattr(data.sources, "measure", lambda *a, real=data.sources.measure: again.append(1) or real(*a))
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
    monkeypatch.setattr(data.sources, "measure", never)
    second = ImageFolder(split_root, "train").manifest
    assert second.digest == first.digest and second.set_aside == first.set_aside


@pytest.mark.parametrize("change", ["content", "time", "name", "class"])
def test_a_changed_file_is_measured_again(split_root, monkeypatch, change):
    file, again = split_root / "train" / "cat" / "0.png", []
    before = ImageFolder(split_root, "train").manifest
    monkeypatch.setattr(data.sources, "measure", lambda *a, real=data.sources.measure: again.append(1) or real(*a))
    if change == "content":
        Image.new("RGB", (50, 60)).save(file)
    elif change == "time":
        os.utime(file, ns=(1, 1))
    elif change == "name":
        file.rename(file.with_name("9.png"))
    else:
        (split_root / "train" / "emu").mkdir()
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
    monkeypatch.setattr(data.sources, "measure", never)
    assert ImageFolder(split_root, "train").manifest.digest == digest


def test_without_a_place_for_the_cache_the_run_goes_on(split_root, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(ImageFolder(split_root, "train").manifest) == 6


# ---- parquet


def write(path, labels: list, first: int = 0, struct: bool = True, stored_names: list[str] | None = None) -> None:
    images = [encoded(picture(first + i)) for i in range(len(labels))]
    column = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)] if struct else images
    table = pa.table({"image": column, "label": labels})
    if stored_names:
        feature = {"info": {"features": {"label": {"names": stored_names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(feature)})
    pq.write_table(table, path, row_group_size=2)


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
    with pytest.raises(DataError, match="label 'c' does not occur in the training files"):
        Parquet().open(str(tmp_path), "val")
    with pytest.raises(DataError, match="no column 'kind'; it has image, label"):
        Parquet(label="kind").open(str(tmp_path), "train")
    (tmp_path / "val.parquet").unlink()
    with pytest.raises(DataMissing, match="no val"):
        Parquet().open(str(tmp_path), "val")
    write(tmp_path / "train.parquet", [0, 1])
    write(tmp_path / "val.parquet", [0, 2])
    with pytest.raises(DataError, match="val.parquet:1 has label 2, allowed are 0 to 1"):
        Parquet().open(str(tmp_path), "val")


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes are a matter of Linux")
def test_shards_may_have_any_name(tmp_path):
    write(tmp_path / "train.parquet", [0, 1])
    (tmp_path / "train.parquet").rename(tmp_path / os.fsdecode(b"train-\xff.parquet"))
    source = Parquet().open(str(tmp_path), "train")
    np.testing.assert_array_equal(source.image(1), picture(1))
    assert names(source) == [r"train-\xff.parquet:0", r"train-\xff.parquet:1"]


# ---- all sources


def test_sources_travel_by_pickle(split_root, tmp_path):
    write(tmp_path / "train.parquet", [0, 1, 0])
    parquet = ParquetImages(tmp_path, "train", "image", "label")
    parquet.image(0)
    arrays = Arrays([picture(0), picture(1)], np.array([0, 1]), ("a", "b"))
    for source in (ImageFolder(split_root, "train"), parquet, arrays, STRIPS["train"]):
        copy = pickle.loads(pickle.dumps(source))
        assert copy.manifest.digest == source.manifest.digest
        np.testing.assert_array_equal(copy.image(1), source.image(1))
    assert len(pickle.dumps(STRIPS["train"])) < 200, "tables travel"
    assert "encoded" not in pickle.loads(pickle.dumps(parquet)).__dict__, "pixels travel"


def test_arrays_are_images_in_memory():
    images = [picture(i) for i in range(4)]
    source = Arrays(images, np.array([1, 0, 1, 1]), ("a", "b"))
    assert source.manifest.sizes.tolist() == [list(image.shape[:2]) for image in images]
    assert source.manifest.labels.tolist() == [1, 0, 1, 1]
    assert all(source.image(i) is images[i] for i in range(4))


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


# ---- digit strips


@both
def test_a_strip_is_drawn_from_its_index_alone(split):
    strips, fewer = STRIPS[split], DigitStrips(split, 20, 0)
    for i in (0, 7, 19):
        np.testing.assert_array_equal(strips.image(i), fewer.image(i))
        np.testing.assert_array_equal(strips.image(i), strips.image(i))
    np.testing.assert_array_equal(strips.manifest.labels[:20], fewer.manifest.labels)
    np.testing.assert_array_equal(strips.manifest.sizes[:20], fewer.manifest.sizes)


def test_splits_and_seeds_are_different_strips():
    a, b, c = STRIPS["train"], STRIPS["val"], DigitStrips("train", 200, 1)
    for other in (b, c):
        assert not np.array_equal(a.manifest.sizes, other.manifest.sizes)
    assert Digits(50, 20).open("", "train").manifest.digest == DigitStrips("train", 50, 0).manifest.digest
    assert len(Digits(50, 20).open("", "val").manifest) == 20


@both
def test_strips_have_the_sizes_of_their_manifest(split):
    strips = STRIPS[split]
    for i in range(0, 200, 5):
        image = strips.image(i)
        assert image.dtype == np.uint8 and image.shape == (*strips.manifest.sizes[i], 3)
        assert (image == image[..., :1]).all()
    assert (strips.manifest.sizes.min(-1) == CELL).all()
    assert set(strips.manifest.sizes.max(-1)) == {CELL * k for k in range(1, MOST + 1)}


def test_aspects_run_from_8_to_1_to_1_to_8():
    height, width = STRIPS["val"].manifest.sizes.T
    assert (height / width).max() == MOST and (width / height).max() == MOST


@both
def test_the_label_is_the_highlighted_digit(split):
    """The brightest paper marks one cell; the glyph that was chosen for it carries the label."""
    strips = STRIPS[split]
    for i in range(0, 200, 5):
        image = strips.image(i)[..., 0]
        cells = np.split(image, strips.digits[i], axis=int(strips.horizontal[i]))
        lit = int(np.argmax([np.median(cell) for cell in cells]))
        glyph = strips.pool[strips.chosen[i, lit]]
        assert glyphs()[1][glyph] == strips.manifest.labels[i]


def test_training_and_test_share_no_glyph():
    train, test = STRIPS["train"].pool, STRIPS["val"].pool
    assert not set(train) & set(test) and len(train) + len(test) == len(glyphs()[1]) == 1797
    assert len(train) == FIRST_TEST_GLYPH
    assert {int(d) for d in glyphs()[1][test]} == set(range(10))
