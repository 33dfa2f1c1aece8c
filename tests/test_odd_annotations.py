"""Whatever stands in one place of a file of boxes or masks: images open, or are refused or set aside by name."""

import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import BadImage, DataError, DataMissing
from data.sources.box_json import begin
from data.sources.boxed import Boxed
from data.sources.masks import Masks
from tests.support.files import encoded

SIZES = {"a.png": (12, 16), "b.png": (9, 5)}
ODD = (None, True, -1, 0, 2**70, 10**400, 1e308, -1e308, float("nan"), float("inf"), "", "\0", "x" * 5000, "a.png", [])
ODD += ([[1, 2]], [None], {}, {"a": 1}, [1e308] * 6, [3, 2, 1])
WORDS = ("", "-1", "1e400", "nan", "1e18", "x", "\0", "0 0", "9" * 30, "1e308")
OBJECTS = ({"size": [12, 16], "counts": [20, 5, 167]}, {"size": [9, 5], "counts": ":5n0"}, [[1, 1, 9, 1, 9, 7.5]])


def coco() -> dict[str, Any]:
    """Two images with an object each of several kinds."""
    images = [{"id": i, "file_name": name, "height": h, "width": w} for i, (name, (h, w)) in enumerate(SIZES.items())]
    things = [
        {"id": k, "image_id": k % 2, "category_id": 3 + k % 2, "bbox": [1, 1, 3.5, 4], "area": 14, "iscrowd": k == 2}
        | {"segmentation": thing}
        for k, thing in enumerate(OBJECTS)
    ]
    return {"images": images, "annotations": things, "categories": [{"id": 4, "name": "b"}, {"id": 3, "name": "a"}]}


def places(node: Any, path: tuple = ()) -> list[tuple]:
    """The way to every value in a tree, and to the parts that hold them."""
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [*([path] if path else []), *(place for key, value in inside for place in places(value, (*path, key)))]


def changed(data: Any, path: tuple, value: Any) -> Any:
    data = copy.deepcopy(data)
    *outer, last = path
    node = data
    for key in outer:
        node = node[key]
    node[last] = value
    return data


def opens_or_is_refused(options: Boxed | Masks, root: Path) -> None:
    """A source whose images and masks can all be read, or a refusal that names the folder or a file in it."""
    try:
        source = options.open(str(root), "all")
    except (DataError, DataMissing) as error:
        assert any(name in str(error) for name in (root.name, *(path.name for path in root.rglob("*"))))
        return
    for i in range(len(source.manifest)):
        height, width = source.manifest.sizes[i].tolist()
        assert source.image(i).shape == (height, width, 3)
        if isinstance(options, Masks):
            assert source.mask(i).shape == (height, width)  # pyright: ignore[reportAttributeAccessIssue]


def put(root: Path) -> None:
    for name, size in SIZES.items():
        (root / name).write_bytes(encoded(np.zeros((*size, 3), np.uint8)))


def in_a_folder(write: Callable[[Path], Any], *options: Boxed | Masks) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        root.mkdir()
        put(root)
        write(root)
        for each in options:
            opens_or_is_refused(each, root)


def test_what_is_in_order_opens():
    in_a_folder(lambda root: (root / "train.json").write_text(json.dumps(coco())), Boxed(), Masks())
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder))
        (Path(folder) / "train.json").write_text(json.dumps(coco()))
        boxes = Boxed().open(folder, "all").manifest
        masks = Masks().open(folder, "all").manifest
        assert len(boxes) == len(masks) == 2 and masks.classes == ("background", *boxes.classes)


@settings(max_examples=60)
@given(place=st.sampled_from(places(coco())), value=st.sampled_from(ODD))
def test_a_value_of_a_coco_file(place, value):
    text = json.dumps(changed(coco(), place, value))
    in_a_folder(lambda root: (root / "train.json").write_text(text), Boxed(layout="coco"), Masks(layout="coco"))


@pytest.mark.parametrize("name", ["images", "categories", "annotations"])
def test_an_entry_that_stands_there_twice(name):
    """Under its own id again, or under another one."""
    for fields in ({}, {"id": 77}, {"id": [1]}, {"id": "1"}):
        data = coco()
        data[name].append(data[name][0] | fields)
        text = json.dumps(data)
        in_a_folder(lambda root, text=text: (root / "train.json").write_text(text), Boxed(), Masks())


def test_an_image_under_the_id_of_another_is_refused(tmp_path):
    """Its objects would be drawn on the other one."""
    put(tmp_path)
    data = changed(coco(), ("images", 1, "id"), 0)
    (tmp_path / "train.json").write_text(json.dumps(data))
    for options in (Boxed(), Masks()):
        with pytest.raises(DataError, match=r"images\[1\] has id 0, which is no number or not its own"):
            options.open(str(tmp_path), "all")


LINES = "0 0.5 0.5 0.25 0.25\n1 0.25 0.5 0.5 0.5\n"


@settings(max_examples=30)
@given(word=st.integers(0, 9), value=st.sampled_from(WORDS))
def test_a_word_of_a_yolo_file(word, value):
    words = LINES.split(" ")
    words[word % len(words)] = value

    def write(root: Path) -> None:
        for name in ("images", "labels"):
            (root / name).mkdir()
        put(root / "images")
        (root / "labels" / "a.txt").write_text(" ".join(words))

    in_a_folder(write, Boxed(layout="yolo"))


XML = (
    "<annotation><filename>a.png</filename><size><width>16</width><height>12</height></size><object><name>cat</name>"
    "<difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"
    "</annotation>"
)


@settings(max_examples=30)
@given(place=st.sampled_from(["a.png", "16", "12", "cat", "0", "1", "2", "9", "8"]), value=st.sampled_from(WORDS))
def test_a_word_of_a_voc_file(place, value):
    text = XML.replace(f">{place}<", f">{value}<")
    in_a_folder(lambda root: (root / "a.xml").write_text(text), Boxed(layout="voc"))


@pytest.mark.parametrize(
    "objects",
    [
        {"bbox": [[1.0, 1.0, 2.0, 2.0]], "label": [2**40]},
        {"bbox": [[1.0, 1.0, 2.0, 2.0]], "label": [-1]},
        {"bbox": [1.0, 1.0, 2.0, 2.0], "label": 1},
        {"bbox": [[1.0, 1.0, 2.0, 2.0]] * 2, "label": [0, 1], "iscrowd": [0]},
        {"bbox": [[1.0, 1.0]], "label": [0]},
        {"bbox": [[1.0, 1.0, 2.0, 2.0]], "label": [[0]]},
        {"bbox": [[1e308, 1e308, 1e308, 1e308]], "label": [0]},
    ],
)
def test_objects_of_a_parquet_file(objects):
    table = {"image": [{"bytes": encoded(np.zeros((9, 9, 3), np.uint8)), "path": ""}], "objects": [objects]}
    in_a_folder(lambda root: pq.write_table(pa.table(table), root / "train.parquet"), Boxed(layout="parquet"))


def test_boxes_that_lack_their_marks_are_not_lost(tmp_path):
    objects = {"bbox": [[1.0, 1.0, 2.0, 2.0]] * 2, "label": [0, 1], "iscrowd": [0]}
    table = {"image": [{"bytes": encoded(np.zeros((9, 9, 3), np.uint8)), "path": ""}], "objects": [objects]}
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="iscrowd of objects has not one entry for each of 2 boxes"):
        Boxed().open(str(tmp_path), "all")


def test_a_large_file_shows_what_it_is_at_its_end(tmp_path):
    """As the instances of COCO, whose list of images alone is longer than what is read at the start."""
    put(tmp_path)
    (tmp_path / "train.json").write_text(json.dumps({"info": "x" * (1 << 24)} | coco()))
    assert b'"segmentation"' in begin(tmp_path / "train.json")
    assert len(Masks().open(str(tmp_path), "all").manifest) == 2


def test_a_list_of_voc_in_another_encoding(tmp_path):
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xff\xfea")
    with pytest.raises(DataError, match="train.txt cannot be read"):
        Boxed().open(str(tmp_path), "train")


def test_masks_hold_every_object_they_should(tmp_path):
    """So that what opens above is more than an empty picture."""
    put(tmp_path)
    (tmp_path / "train.json").write_text(json.dumps(coco()))
    source: Any = Masks().open(str(tmp_path), "all")
    assert [sorted({*np.unique(source.mask(i)).tolist()}) for i in (0, 1)] == [[0, 1, 255], [0, 2]]
    with pytest.raises(BadImage):
        source.masks.read(0, (3, 3))
