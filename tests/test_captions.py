"""Pairs of images and captions: every layout gives the same pairs, each once; bad ones are set aside by name."""

import json
import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError, DataMissing
from data.sources.captions import CaptionedImages, Captions
from data.sources.pairs import texts_of
from tests.support.files import decoded_or_refused, names
from tests.support.pairs import WRITERS, Pair, as_csv, as_parquet, as_text, put_images, some_pairs, tar_file

PAIRS, VAL = some_pairs(), some_pairs(3, 50)
layouts = pytest.mark.parametrize("layout", WRITERS)


def opened(root, split: str = "train", **options) -> CaptionedImages:
    source = Captions(**options).open(str(root), split)
    assert isinstance(source, CaptionedImages)
    return source


def pairs_in(source) -> list[tuple[str, list[str]]]:
    """Last parts of the names, and captions."""
    manifest = source.manifest
    texts = [[manifest.classes[k] for k in row if k >= 0] for row in manifest.labels]
    return [(os.path.basename(name), row) for name, row in zip(names(source), texts)]


def has_these(source, pairs: list[Pair]) -> None:
    """Every pair once, with its pixels; the captions as they occur."""
    assert pairs_in(source) == [(p.name, p.captions) for p in pairs]
    for i, pair in enumerate(pairs):
        np.testing.assert_array_equal(source.image(i), decoded_or_refused(pair.image))
    assert source.manifest.classes == tuple(dict.fromkeys(c for p in pairs for c in p.captions))
    assert source.manifest.labels.shape == (len(pairs), max(len(p.captions) for p in pairs))
    assert not source.manifest.set_aside


@layouts
def test_every_layout_has_the_same_pairs(tmp_path, layout):
    for part, pairs in (("train", PAIRS), ("val", VAL)):
        WRITERS[layout](tmp_path, pairs, part)
    has_these(opened(tmp_path), PAIRS)
    has_these(opened(tmp_path, "val"), VAL)
    with pytest.raises(DataMissing, match="nothing for test; found are .*val.*: name files or folders so"):
        opened(tmp_path, "test")


def test_layouts_differ_in_nothing_but_names(tmp_path):
    digests = set()
    for layout, write in WRITERS.items():
        if layout not in ("coco", "tsv"):  # images in a folder of their own
            (tmp_path / layout).mkdir()
            write(tmp_path / layout, PAIRS, "train")
            digests.add(opened(tmp_path / layout, "all").manifest.digest)
    assert len(digests) == 1


@layouts
def test_sources_travel_without_pixels(tmp_path, layout):
    WRITERS[layout](tmp_path, PAIRS, "train")
    source = opened(tmp_path, "all")
    data = pickle.dumps(source)
    copy = pickle.loads(data)
    has_these(copy, PAIRS)
    assert PAIRS[0].image not in data


@layouts
def test_without_validation_a_tenth_is_held_out(tmp_path, layout):
    """All captions of an image are on one side."""
    pairs = some_pairs(30)
    WRITERS[layout](tmp_path, pairs, "train")
    train, val = opened(tmp_path), opened(tmp_path, "val")
    sides = [dict(pairs_in(source)) for source in (train, val)]
    assert not sides[0].keys() & sides[1].keys() and 0 < len(sides[1]) <= 3
    assert sides[0] | sides[1] == {p.name: p.captions for p in pairs}
    assert any(f"{len(sides[1])} of 30 images are held out" in note for note in val.manifest.notes)
    for source, side in zip((train, val), sides):
        assert set(source.manifest.classes) == {c for captions in side.values() for c in captions}


def test_a_set_without_parts_is_divided_too(tmp_path):
    as_text(tmp_path, some_pairs(20), ".")
    sides = [len(opened(tmp_path, split).manifest) for split in ("train", "val")]
    assert sum(sides) == 20 and 0 < sides[1] <= 2
    assert len(opened(tmp_path, "all").manifest) == 20
    with pytest.raises(DataMissing, match="no test part"):
        opened(tmp_path, "test")


# ---- what is set aside

BAD = {
    "missing caption": (None, "has no caption"),
    "empty text": ("", "its caption is empty"),
    "spaces": (" \n", "its caption is empty"),
    "punctuation": (" -- ?! ", "its caption is empty"),
    "no captions": ([], "its list of captions is empty"),
    "empty texts": (["", None], "its caption is empty"),
    "number": ([7], "its caption is 7, not a text"),
}


@pytest.mark.parametrize("value, why", BAD.values(), ids=BAD)
def test_why_an_image_has_no_caption(value, why):
    assert texts_of([value]) == ([], why, 0)


def test_captions_count_once_and_emoji_are_words():
    assert texts_of(["a", [" a ", "b"], None, "🍎"]) == (["a", "b", "🍎"], "", 0)
    assert texts_of([["", "a", "..."]]) == (["a"], "", 2)


def spoiled(layout: str, root) -> dict[str, str]:
    """A set with one good pair and bad ones, and the reasons."""
    blank, good, lost, broken = some_pairs(4)
    broken = broken._replace(image=b"no image")
    put_images(root, [good, blank, broken])
    reasons = {blank.name: "its caption is empty", broken.name: "not an image of a known format"}
    missing = "has captions, but there is no image"
    if layout == "csv":
        lines = ["file,caption", f"{good.name},good", f"{blank.name},", f"{lost.name},lost", f"{broken.name},broken"]
        (root / "captions.csv").write_text("\n".join([*lines, "one,two,three"]))
        reasons |= {lost.name: missing, "captions.csv, line 6": "has 3 fields, the first line 2: put captions in quot"}
    elif layout == "jsonl":
        rows = [{"file": p.name, "text": t} for p, t in ((good, "good"), (blank, [" "]), (lost, "x"))]
        rows += [{"file": broken.name, "text": "broken"}, [3], {"file": 3}, {"file": "a\0b", "text": "x"}]
        (root / "captions.jsonl").write_text("\n".join([*map(json.dumps, rows), "{'a': 1}"]))
        reasons |= {lost.name: missing, "captions.jsonl, line 5": "is not a JSON object"}
        reasons |= {f"captions.jsonl, line {n}": "has file" for n in (6, 7)} | {"captions.jsonl, line 8": "is not JSON"}
    elif layout == "coco":
        images = [{"id": i, "file_name": p.name} for i, p in enumerate([good, blank, lost, broken])]
        notes = [{"image_id": i, "caption": c} for i, c in ((0, "good"), (3, "broken"), (1, "!"), (2, "x"), (9, "y"))]
        (root / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
        reasons |= {lost.name: missing, "captions.json, image_id 9": "is the caption of a missing image"}
    elif layout == "text":
        for pair, text in ((good, b"good"), (blank, b"\n"), (lost, b"x"), (broken, b"broken")):
            (root / pair.name).with_suffix(".txt").write_bytes(text)
        put_images(root, [lost._replace(name="005.png"), lost._replace(name="006.png")])
        (root / "006.txt").write_bytes(b"\xff\xfe")
        (root / "README.txt").write_text("no caption")
        reasons |= {"002.txt": "is the caption of a missing image", "005.png": "has no caption"}
        reasons |= {"006.png": "its text is not UTF-8, byte 0"}
    elif layout == "parquet":
        column = [blank.image, good.image, None, broken.image, lost.image, lost.image]
        captions = [["..."], ["good"], ["x"], ["broken"], None, []]
        pq.write_table(pa.table({"image": column, "captions": captions}), root / "all.parquet")
        reasons = {f"all.parquet:{i}": why for i, why in zip((0, 3), reasons.values())}
        reasons |= {"all.parquet:2": "empty file", "all.parquet:4": "its list of captions is empty"}
    else:
        texts = [("000.txt", b""), ("001.txt", b"good"), ("002.txt", b"x"), ("003.txt", b"broken"), ("4.json", b"{")]
        images = [(p.name, p.image) for p in (good, blank, broken)] + [("4.png", lost.image), ("5.a.png", lost.image)]
        images += [("5.b.png", lost.image), ("6.png", lost.image), ("._6.txt", b"x"), ("7.cls", b"x")]
        tar_file(root / "0.tar", [*texts, *images])
        reasons |= {"0.tar:002.txt": "is the caption of a missing image", "0.tar:4.png": "its JSON is damaged"}
        reasons |= {"0.tar:5": "has 2 images, 5.a.png, 5.b.png: keep one", "6.png": "has no caption"}
    return reasons


@pytest.mark.parametrize("layout", ["csv", "jsonl", "coco", "text", "parquet", "tar"])
def test_bad_pairs_are_set_aside_by_name(tmp_path, layout):
    reasons = spoiled(layout, tmp_path)
    source = opened(tmp_path, "all")
    assert [text for _, text in pairs_in(source)] == [["good"]] and source.manifest.classes == ("good",)
    np.testing.assert_array_equal(source.image(0), decoded_or_refused(some_pairs(2)[1].image))
    found = dict(source.manifest.set_aside)
    assert found.keys() == reasons.keys() and len(source.manifest.set_aside) == len(reasons)
    for name, why in reasons.items():
        assert found[name].startswith(why), (name, found[name])
    with pytest.raises(DataError, match=f"{len(reasons)} of {len(reasons) + 1} images"):
        source.manifest.check_unreadable(0.5)


def test_one_empty_caption_of_several_is_left_out(tmp_path):
    pairs = [p._replace(captions=[*p.captions, " "]) if i == 2 else p for i, p in enumerate(PAIRS)]
    as_parquet(tmp_path, pairs, "train")
    source = opened(tmp_path, "all")
    has_these(source, PAIRS)
    assert "empty captions of 1 images are left out, first of 002.png" in source.manifest.notes


# ---- layouts and tables


def test_images_are_found_by_their_last_part(tmp_path):
    """In any folder, where only one has such an image; else in the folder of the split."""
    put_images(tmp_path / "Images", PAIRS)
    lines = ["image,caption", *(f'{p.name},"{c}"' for p in PAIRS for c in p.captions)]
    (tmp_path / "captions.txt").write_text("\n".join(lines), encoding="utf-8")
    has_these(opened(tmp_path, "all"), PAIRS)
    put_images(tmp_path / "more", PAIRS[:1])
    aside = dict(opened(tmp_path, "all").manifest.set_aside)
    assert aside == {"000.png": "is in several folders: Images/000.png, more/000.png"}


def test_images_that_a_table_leaves_out_are_counted(tmp_path):
    as_csv(tmp_path, PAIRS, "train")
    put_images(tmp_path / "train" / "more", [p._replace(name=f"x{p.name}") for p in VAL])
    assert "3 images have no caption there, first more/x000.png" in opened(tmp_path, "all").manifest.notes


def test_tar_is_taken_before_the_parquet_beside_it(tmp_path):
    """As downloaders write them: tables of numbers beside tar files, or beside images with texts."""
    pq.write_table(pa.table({"url": ["a"], "caption": ["b"]}), tmp_path / "train.parquet")
    as_text(tmp_path, PAIRS, "train")
    has_these(opened(tmp_path, "all"), PAIRS)
    WRITERS["tar"](tmp_path, VAL, "train")
    has_these(opened(tmp_path, "all"), VAL)
    has_these(opened(tmp_path, "all", layout="text"), PAIRS)


def test_a_table_and_its_columns_can_be_named(tmp_path):
    put_images(tmp_path, PAIRS)
    lines = ["image_name| n| words", *(f'{p.name}| {i}| "{c}"' for p in PAIRS for i, c in enumerate(p.captions))]
    (tmp_path / "results.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataMissing, match="no captions in .*: it has 000.png, .*layouts are listed in docs/data.md"):
        opened(tmp_path)
    with pytest.raises(
        DataError, match=r"results.csv has no column of captions \(caption, .*; it has image_name, n, wor"
    ):
        opened(tmp_path, table="results.csv")
    with pytest.raises(DataError, match="has no column 'no'; it has image_name, n, words: name it, --data.source.ima"):
        opened(tmp_path, table="results.csv", caption="words", image="no")
    has_these(opened(tmp_path, "all", table="results.csv", caption="words"), PAIRS)


@pytest.mark.parametrize(
    "file, text, message",
    [
        (
            "captions.csv",
            b'image,caption\na.png,"never closed\nb.png,x',
            "captions.csv, line 3 is not a table in UTF-8",
        ),
        ("captions.csv", b"image,caption\na.png,\xff", "captions.csv.* is not a table in UTF-8"),
        ("captions.csv", b"", "has no column of images"),
        ("captions.csv", b"image,caption\n", "names no image with a caption"),
        ("captions.jsonl", b"{\n", "names no image .* first: captions.jsonl, line 1: is not JSON"),
        ("captions.json", b"{", "captions.json is not JSON"),
        ("captions.json", b"{}", "has no images with id and file_name"),
        ("captions.json", b'{"images": [{"id": 1, "file_name": "a"}]}', "no annotations with image_id"),
        ("captions.json", b'{"images": [{"id": 1, "file_name": 7}], "annotations": []}', "file_name 7, not the name"),
        ("captions.json", b'{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}', "occurs twice"),
        ("captions.json", b'[{"image": "a.png"}]', "no column of captions"),
        ("a.parquet", b"PAR1 damaged", "a.parquet cannot be read as parquet"),
    ],
)
def test_damaged_tables_are_named(tmp_path, file, text, message):
    (tmp_path / file).write_bytes(text)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


def test_two_tables_for_one_part_are_refused(tmp_path):
    as_csv(tmp_path, PAIRS, "train")
    WRITERS["jsonl"](tmp_path, PAIRS, "train")
    with pytest.raises(DataError, match="several tables for one part, captions.csv, metadata.jsonl: name one, --data"):
        opened(tmp_path)
    has_these(opened(tmp_path, "all", table="captions.csv"), PAIRS)


def test_a_list_of_objects_is_a_table(tmp_path):
    put_images(tmp_path, PAIRS)
    rows = [{"caption": c, "image": f"./{p.name}"} for p in PAIRS for c in p.captions]
    (tmp_path / "captions.json").write_text(json.dumps(rows))
    has_these(opened(tmp_path, "all"), PAIRS)


def test_columns_of_parquet(tmp_path):
    columns = {"jpg": [p.image for p in PAIRS], "n": range(7), "words": [p.captions[0] for p in PAIRS]}
    pq.write_table(pa.table(columns), tmp_path / "0.parquet")
    with pytest.raises(
        DataError, match="no column of captions .* it has jpg, n, words: name it, --data.source.caption"
    ):
        opened(tmp_path)
    with pytest.raises(DataError, match="column 'n' holds int64, not texts"):
        opened(tmp_path, caption="n")
    has_these(opened(tmp_path, "all", caption="words"), [
        p._replace(name=f"0.parquet:{i}", captions=p.captions[:1]) for i, p in enumerate(PAIRS)
    ])  # fmt: skip


def test_attributes_are_columns_that_name_classes(tmp_path):
    for part, fine in (("train", ["Red-Pear", "fig", "fig"]), ("val", ["lime", None, "fig"])):
        rows = some_pairs(3, 10 * len(part))
        columns = {"image": [p.image for p in rows], "text": ["a", "b", " "], "fine": fine}
        pq.write_table(pa.table(columns), tmp_path / f"{part}.parquet")
    (train,), (val,) = (opened(tmp_path, split, attributes=("fine",)).attributes for split in ("train", "val"))
    assert train.name == "fine" and train.values == val.values == ("Red Pear", "fig", "lime")
    assert train.labels.tolist() == [0, 1] and val.labels.tolist() == [2, -1]
    with pytest.raises(DataError, match="has no column 'coarse'"):
        opened(tmp_path, attributes=("coarse",))
    as_text(tmp_path, PAIRS, "train")
    with pytest.raises(DataError, match="has no attributes.csv with a column 'fine'"):
        opened(tmp_path, layout="text", attributes=("fine",))
