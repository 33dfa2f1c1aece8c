"""Images with boxes: every layout says the same, and what is wrong is named, counted, set aside or refused."""

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.boxes import COUNTS, CROWD, IGNORED
from data.errors import DataError, DataMissing
from data.sources.box_files import names_in_yaml
from data.sources.boxed import Boxed, BoxedImages
from tests.support.files import encoded
from tests.support.tolerances import FLOAT32, assert_close

NAMES = ("cat", "dog")
# Images by (height, width), each with boxes: left, top, right, bottom, class.
TRUTH = {
    "a.png": ((30, 40), [(4, 3, 20, 18, 0), (10, 5, 40, 30, 1)]),
    "b.png": ((48, 16), [(0, 0, 16, 12, 1)]),
    "c.png": ((20, 20), []),
}
SPLITS = ("train", "val")


def picture(size: tuple[int, int]) -> bytes:
    return encoded(np.random.default_rng(size[0]).integers(0, 255, (*size, 3), np.uint8), "PNG")


def put(folder: Path, names=TRUTH) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(picture(TRUTH[name][0]))
    return folder


def coco_of(truth=TRUTH, **changes) -> dict:
    images, boxes = [], []
    for i, (name, (size, entries)) in enumerate(truth.items(), 7):
        images.append({"id": i, "file_name": name, "height": size[0], "width": size[1]})
        for left, top, right, bottom, label in entries:
            bbox = [left, top, right - left, bottom - top]
            boxes.append({"id": len(boxes), "image_id": i, "category_id": 5 + 3 * label, "bbox": bbox, "iscrowd": 0})
    categories = [{"id": 8, "name": "dog"}, {"id": 5, "name": "cat"}]
    return {"images": images, "annotations": boxes, "categories": categories} | changes


def coco(root: Path) -> None:
    for split in SPLITS:
        put(root / split)
        (root / f"{split}.json").write_text(json.dumps(coco_of()))


def coco_inside(root: Path) -> None:
    for split in SPLITS:
        put(root / split / "images")
        (root / split / "annotations.json").write_text(json.dumps(coco_of()))


def coco_official(root: Path) -> None:
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "captions_train2017.json").write_text("{}")
    for split in SPLITS:
        put(root / f"{split}2017")
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(coco_of()))


def lines_of(name: str) -> str:
    (height, width), boxes = TRUTH[name]
    line = "{} {!r} {!r} {!r} {!r}\n"
    return "".join(
        line.format(y, (a + c) / 2 / width, (b + d) / 2 / height, (c - a) / width, (d - b) / height)
        for a, b, c, d, y in boxes
    )


def yolo(root: Path) -> None:
    for split in SPLITS:
        put(root / "images" / split)
        (root / "labels" / split).mkdir(parents=True)
        for name in ("a.png", "b.png"):  # the third has no file: nothing is in it
            (root / "labels" / split / name).with_suffix(".txt").write_text(lines_of(name))
    (root / "data.yaml").write_text("path: .\nnames:\n  0: cat\n  1: dog  # woof\nnc: 2\n")


def yolo_inside(root: Path) -> None:
    for split in SPLITS:
        put(root / split / "images")
        (root / split / "labels").mkdir(parents=True)
        for name in TRUTH:
            (root / split / "labels" / name).with_suffix(".txt").write_text(lines_of(name))
    (root / "classes.txt").write_text("cat\ndog\n")


def xml_of(name: str) -> str:
    (height, width), boxes = TRUTH[name]
    things = "".join(
        f"<object><name>{NAMES[y]}</name><bndbox><xmin>{a + 1}</xmin><ymin>{b + 1}</ymin><xmax>{c}</xmax>"
        f"<ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d, y in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation><filename>{name}</filename>{size}{things}</annotation>"


def voc(root: Path) -> None:
    base = root / "VOCdevkit" / "VOC2012"
    put(base / "JPEGImages")
    for folder in ("Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    for name in TRUTH:
        (base / "Annotations" / name).with_suffix(".xml").write_text(xml_of(name))
    for split in SPLITS:
        (base / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{Path(n).stem}\n" for n in TRUTH))


def voc_beside(root: Path) -> None:
    for split in SPLITS:
        put(root / split)
        for name in TRUTH:
            (root / split / name).with_suffix(".xml").write_text(xml_of(name))


def parquet(root: Path, structs: bool = False) -> None:
    root.mkdir(parents=True, exist_ok=True)
    objects = []
    for _, boxes in TRUTH.values():
        boxed = [[float(a), float(b), float(c - a), float(d - b)] for a, b, c, d, _ in boxes]
        labels = [y for *_, y in boxes]
        lists = {"bbox": boxed, "category": labels}
        objects.append([{"bbox": b, "category": y} for b, y in zip(boxed, labels)] if structs else lists)
    images = [{"bytes": picture(size), "path": name} for name, (size, _) in TRUTH.items()]
    names = {"feature": {"category": {"names": NAMES, "_type": "ClassLabel"}}}
    stored = json.dumps({"info": {"features": {"objects": names}}})
    table = pa.table({"image": images, "objects": objects}).replace_schema_metadata({"huggingface": stored})
    for split in SPLITS:
        pq.write_table(table, root / f"{split}-00000.parquet")


def parquet_structs(root: Path) -> None:
    parquet(root, structs=True)


LAYOUTS = (*(coco, coco_inside, coco_official, yolo, yolo_inside, voc, voc_beside, parquet, parquet_structs),)


@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_says_the_same(write, tmp_path):
    write(tmp_path)
    for split in SPLITS:
        source = Boxed().open(str(tmp_path), split)
        manifest, boxes = source.manifest, source.manifest.boxes
        assert manifest.classes == NAMES and manifest.sizes.tolist() == [[*size] for size, _ in TRUTH.values()]
        assert not manifest.set_aside and "1 of 3 images have no box" in manifest.notes
        for i, (_, entries) in enumerate(TRUTH.values()):
            mine = boxes.of(i)
            assert mine.classes.tolist() == [y for *_, y in entries]
            assert_close(mine.corners, np.array([box[:4] for box in entries], float).reshape(-1, 4), FLOAT32)
        assert manifest.labels.tolist() == [[0, 1], [1, -1], [-1, -1]]
        assert source.image(1).shape == (48, 16, 3)
        assert pickle.loads(pickle.dumps(source)).image(0).shape == (30, 40, 3)


def test_without_splits_a_tenth_is_held_out(tmp_path):
    truth = {f"{k}.png": TRUTH["a.png"] for k in range(12)}
    (tmp_path / "images").mkdir()
    for name in truth:
        (tmp_path / "images" / name).write_bytes(picture((30, 40)))
    (tmp_path / "instances.json").write_text(json.dumps(coco_of(truth)))
    train, val = (Boxed().open(str(tmp_path), split).manifest for split in SPLITS)
    assert not {*train.names.tolist()} & {*val.names.tolist()} and len(train) + len(val) == 12
    assert any("held out, a tenth" in note for note in train.notes)


# what is wrong --------------------------------------------------------------------------------------


def opened(root: Path, data: dict, **options) -> BoxedImages:
    put(root / "images")
    (root / "train.json").write_text(json.dumps(data))
    (root / "val.json").write_text(json.dumps(data))
    return Boxed(**options).open(str(root), "train")


def with_box(box, **fields) -> dict:
    """The data with a further box of the first image."""
    data = coco_of()
    data["annotations"].append({"id": 99, "image_id": 7, "category_id": 5, "bbox": box, "iscrowd": 0} | fields)
    return data


@pytest.mark.parametrize(
    "box, note, kept",
    [
        ([5, 5, 0, 4], "1 boxes have no area: they are left out, first of a.png", False),
        ([50, 5, 4, 4], "1 boxes lie outside their image: they are left out, first of a.png", False),
        ([30, 20, 50, 4], "1 boxes reach more than 1 pixel beyond their image: they are clipped, first of a.png", True),
        ([5, 5, float("nan"), 4], "1 boxes are not four finite numbers: they are left out, first of a.png", False),
        ([5, 5, 4], "1 boxes are not four finite numbers: they are left out, first of a.png", False),
        (None, "1 boxes are not four finite numbers: they are left out, first of a.png", False),
    ],
)
def test_a_box_that_is_wrong_is_named_and_counted(box, note, kept, tmp_path):
    manifest = opened(tmp_path, with_box(box)).manifest
    assert note in manifest.notes
    mine = manifest.boxes.of(0)
    assert len(mine.classes) == 2 + kept
    if kept:
        assert mine.corners[2].tolist() == [30, 20, 40, 24]


def test_crowds_and_difficult_boxes(tmp_path):
    manifest = opened(tmp_path, with_box([1, 1, 9, 9], iscrowd=1, area=33)).manifest
    assert manifest.boxes.of(0).kinds.tolist() == [COUNTS, COUNTS, CROWD]
    assert manifest.boxes.of(0).areas.tolist() == [240, 750, 33] and manifest.boxes.counts.tolist() == [2, 1, 0]
    voc_beside(tmp_path / "voc")
    file = tmp_path / "voc" / "train" / "b.xml"
    file.write_text(file.read_text().replace("</name>", "</name><difficult>1</difficult>"))
    assert Boxed().open(str(tmp_path / "voc"), "train").manifest.boxes.of(1).kinds.tolist() == [IGNORED]


def test_an_image_of_another_size_is_set_aside(tmp_path):
    """Boxes drawn before a photograph was turned upright would lie elsewhere; an image that is not there has none."""
    data = coco_of()
    data["images"][0] |= {"height": 40, "width": 30}
    data["images"].append({"id": 50, "file_name": "gone.png"})
    manifest = opened(tmp_path, data).manifest
    reasons = dict(manifest.set_aside)
    assert "drawn at 30 x 40 pixels, it has 40 x 30 once it is upright" in reasons["a.png"]
    assert "cannot be read" in reasons["gone.png"]
    assert manifest.names.tolist() == [b"b.png", b"c.png"] and len(manifest.boxes.classes) == 1


@pytest.mark.parametrize(
    "data, message",
    [
        (with_box([1, 1, 5, 5], category_id=77), "annotation 99 has category 77, which is not in `categories`"),
        (coco_of(annotations=[]), "no box can be used"),
        (
            coco_of(categories=[{"id": 5, "name": "cat"}, {"id": 8, "name": "cat"}]),
            "2 categories, 1 of different names",
        ),
        (coco_of(images=[{"id": 1}]), r"images\[0\] has no id and file_name"),
        (coco_of(images=[{"id": 1, "file_name": "x.png"}] * 2), "lists x.png twice"),
        (coco_of(images=[{"id": 1, "file_name": "x.png"}]), "first x.png, which is in none of"),
        ({"images": [], "bbox": 1}, "no COCO file: it needs the lists"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(data, message, tmp_path):
    with pytest.raises(DataError, match=message):
        opened(tmp_path, data, layout="coco", table="train.json")


def test_boxes_of_images_that_are_not_listed(tmp_path):
    manifest = opened(tmp_path, with_box([1, 1, 5, 5], image_id=1000)).manifest
    assert "1 boxes of images that are not listed are left out" in manifest.notes


@pytest.mark.parametrize(
    "line, message",
    [
        ("0 0.5 0.5 0.1", "line 2: class 0 and 3 numbers, not 4"),
        ("cat 0.5 0.5 0.1 0.1", "line 2: 'cat 0.5 0.5 0.1 0.1' is not a class and numbers"),
        ("7 0.5 0.5 0.1 0.1", "class 7, but there are 2 names"),
    ],
)
def test_a_line_that_is_wrong_is_refused(line, message, tmp_path):
    yolo(tmp_path)
    file = tmp_path / "labels" / "train" / "b.txt"
    file.write_text(file.read_text() + line)
    with pytest.raises(DataError, match=message):
        Boxed().open(str(tmp_path), "train")


def test_outlines_have_a_box(tmp_path):
    yolo(tmp_path)
    (tmp_path / "labels" / "train" / "b.txt").write_text("1 0.25 0.5 0.75 0.25 0.5 1.0\n")
    boxes = Boxed().open(str(tmp_path), "train").manifest.boxes
    assert boxes.of(1).corners.tolist() == [[4, 12, 12, 48]]


@pytest.mark.parametrize(
    "text",
    ["names: [cat, 'dog']", "names: {0: cat, 1: \"dog\"}", "names:\n- cat\n- dog\nnc: 2", "names:\n  0: cat\n  1: dog",
     "nc: 2\nnames: ['cat',\n  'dog']\n", "names:\n\n  # pets\n  - cat\n  - 'dog'\n", "names: {1: dog, 0: cat}",
     "names:\n  1: dog\n  0: 'cat'\n"],
)  # fmt: skip
def test_names_in_yaml(text):
    assert names_in_yaml(text) == NAMES
    assert names_in_yaml("nc: 2") == () and names_in_yaml("names: []") == ()


@pytest.mark.parametrize("names", ["{1: cat, 2: dog}", "{0: cat, 2: dog}", "{0: cat, 0: dog}", "{0: cat, dog}"])
def test_numbers_of_names_without_an_order_are_refused(names, tmp_path):
    """Otherwise boxes would have the name of another class."""
    yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(f"names: {names}\n")
    with pytest.raises(DataError, match="data.yaml: names are numbered .*: number them 0, 1, 2 and so on"):
        Boxed().open(str(tmp_path), "train")


def test_what_is_no_layout(tmp_path):
    put(tmp_path)
    with pytest.raises(DataMissing, match="no boxes in .*: it has a.png, b.png, c.png, not a COCO file"):
        Boxed().open(str(tmp_path), "train")
    (tmp_path / "train.xml").write_text("<annotation>")
    with pytest.raises(DataError, match="is not XML"):
        Boxed().open(str(tmp_path), "train")


def test_parquet_that_is_wrong(tmp_path):
    table = pa.table(
        {"image": [{"bytes": picture((9, 9)), "path": ""}], "objects": [{"bbox": [[1.0, 1, 2, 2]], "of": [1]}]}
    )
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match="train.parquet:0: objects has bbox, of, none of category"):
        Boxed().open(str(tmp_path), "train")
    table = pa.table(
        {"image": [{"bytes": picture((9, 9)), "path": ""}], "objects": [{"bbox": [[1.0, 1, 2, 2]], "label": [1, 0]}]}
    )
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match="1 boxes and 2 labels"):
        Boxed().open(str(tmp_path), "train")


@pytest.mark.parametrize("name, classes, boxes", [("bccd", 3, 1701), ("doom", 18, 1281)])
def test_real_sets(datasets, name, classes, boxes):
    manifest = Boxed().open(str(datasets / name), "train").manifest
    assert len(manifest.classes) == classes and len(manifest.boxes.classes) == boxes and not manifest.set_aside


def test_a_photograph_with_a_crowd(datasets):
    manifest = Boxed().open(str(datasets / "coco_mini"), "all").manifest
    assert len(manifest) == 27 and (manifest.boxes.kinds == CROWD).sum() == 1
