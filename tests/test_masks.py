"""Images with masks: every layout gives the same masks; what cannot be used is named, counted, set aside or refused."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.errors import BadImage, DataError, DataMissing
from data.sources.mask_files import UNLABELED, as_labels, draw_outline, draw_runs, read_mask, run_lengths
from data.sources.masks import Masks
from harness.evaluation.found_masks import FoundMask, annotations, runs_of

CLASSES = ("background", "cat", "dog")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def pictures(seed: int, count: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Photographs and masks: a rectangle of each of two classes on a background."""
    rng, found = np.random.default_rng(seed), {}
    for k in range(count):
        height, width = rng.integers(12, 20, 2).tolist()
        mask = np.zeros((height, width), np.uint8)
        mask[2:6, 1:7], mask[7:10, 3 : 5 + k % 3] = 1, 2
        found[f"{seed}_{k}"] = rng.integers(0, 256, (height, width, 3), np.uint8), mask
    return found


def save(values: np.ndarray, path: Path, mode: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([c for k in range(256) for c in (k, 255 - k, 7 * k % 256)])
    image.save(path)


def as_folders(root: Path, split: str, found: dict, mode: str = "", ending: str = "") -> None:
    for name, (photo, mask) in found.items():
        save(photo, root / split / "images" / f"{name}.png")
        save(mask, root / split / "masks" / f"{name}{ending}.png", mode)


def rectangle(mask: np.ndarray, label: int) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask == label)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def as_coco(root: Path, split: str, found: dict, **changes) -> None:
    """The cat by its outline, the dog by run lengths."""
    images, things = [], []
    for k, (name, (photo, mask)) in enumerate(found.items()):
        save(photo, root / split / f"{name}.png")
        height, width = mask.shape
        images.append({"id": k, "file_name": f"{name}.png", "height": height, "width": width})
        left, top, right, bottom = rectangle(mask, 1)
        outline = [[left, top, right, top, right, bottom, left, bottom]]
        runs = {"size": [height, width], "counts": runs_of(mask == 2)}
        for label, segmentation in ((10, outline), (20, runs)):
            thing = {"id": len(things), "image_id": k, "category_id": label, "segmentation": segmentation}
            things.append(thing | {"area": 1.0, "iscrowd": 0} | changes)
    names = [{"id": 20, "name": "dog"}, {"id": 10, "name": "cat"}]
    data = {"images": images, "annotations": things, "categories": names}
    (root / f"{split}.json").write_text(json.dumps(data))


def as_parquet(root: Path, split: str, found: dict) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    def encoded(values: np.ndarray) -> dict:
        file = io.BytesIO()
        Image.fromarray(values).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}

    root.mkdir(parents=True, exist_ok=True)
    columns = {"image": [encoded(p) for p, _ in found.values()], "mask": [encoded(m) for _, m in found.values()]}
    pq.write_table(pa.table(columns), root / f"{split}-0.parquet")


WRITERS = {
    "folders": as_folders,
    "palette": lambda root, split, found: as_folders(root, split, found, "P", "_mask"),
    "coco": as_coco,
    "parquet": as_parquet,
}


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_has_the_same_masks(tmp_path, layout):
    found = {"train": pictures(0, 4), "val": pictures(1, 2)}
    for split, these in found.items():
        WRITERS[layout](tmp_path / "set", split, these)
    for split, these in found.items():
        source = pickle.loads(pickle.dumps(Masks().open(str(tmp_path / "set"), split)))
        assert source.manifest.masks and not source.manifest.set_aside
        assert source.manifest.classes == (CLASSES if layout == "coco" else ("0", "1", "2"))
        assert len(source.manifest) == len(these)
        for k, (photo, mask) in enumerate(these.values()):
            np.testing.assert_array_equal(source.image(k), photo)
            np.testing.assert_array_equal(source.mask(k), mask)
            assert source.manifest.labels[k].tolist() == [0, 1, 2]


def test_without_validation_a_tenth_is_held_out(tmp_path):
    as_folders(tmp_path, "", pictures(0, 12))
    train, val = (Masks(classes=CLASSES).open(str(tmp_path), split).manifest for split in ("train", "val"))
    assert len(train) + len(val) == 12 and len(val) >= 1 and train.classes == val.classes == CLASSES
    assert not {*train.names.tolist()} & {*val.names.tolist()}


def test_numbers_of_objects_are_one_class(tmp_path):
    """16 bits, of which object 255 is one as any other."""
    found = {"a": (np.zeros((4, 6, 3), np.uint8), np.array([[0, 1, 255, 256, 300, 0]] * 4, np.uint16))}
    as_folders(tmp_path, "train", found)
    source = Masks(classes=("background", "nucleus")).open(str(tmp_path), "train")
    assert source.mask(0).tolist() == [[0, 1, 1, 1, 1, 0]] * 4


def test_black_and_white_are_two_classes(tmp_path):
    found = {
        name: (photo, np.where(mask == 1, 255, 0).astype(np.uint8)) for name, (photo, mask) in pictures(0, 3).items()
    }
    as_folders(tmp_path, "train", found)
    source = Masks().open(str(tmp_path), "train")
    assert source.manifest.classes == ("background", "object")
    for k in range(len(source.manifest)):
        name = source.manifest.name(k).removesuffix(".png")
        np.testing.assert_array_equal(source.mask(k), found[name][1] > 0)


def test_bad_masks_are_set_aside_by_name(tmp_path):
    found = pictures(0, 7)
    as_folders(tmp_path, "train", found)
    masks = tmp_path / "train" / "masks"
    save(np.zeros((3, 3), np.uint8), masks / "0_0.png")
    (masks / "0_1.png").unlink()
    (masks / "0_2.png").write_bytes((masks / "0_2.png").read_bytes()[:60])
    save(np.full(found["0_3"][1].shape, 9, np.uint8), masks / "0_3.png")
    save(found["0_4"][0], masks / "0_4.png")
    marked = found["0_5"][1].copy()
    marked[0] = UNLABELED
    save(marked, masks / "0_5.png")
    save(marked, masks / "left_over.png")
    source = Masks(classes=CLASSES).open(str(tmp_path), "train")
    reasons = dict(source.manifest.set_aside)
    assert reasons.keys() == {f"0_{k}.png" for k in range(5)}
    for k, words in enumerate(
        ("3 x 3 pixels, not", "no mask of the same name", "cannot be decoded", "has class 9, known")
    ):
        assert words in reasons[f"0_{k}.png"]
    assert "not one number each" in reasons["0_4.png"]
    assert [source.manifest.name(k) for k in range(2)] == ["0_5.png", "0_6.png"]
    assert (source.mask(0)[0] == UNLABELED).all()
    notes = " ".join(source.manifest.notes)
    assert "1 images have pixels without a class" in notes and "1 masks have no image" in notes
    again = Masks(classes=CLASSES).open(str(tmp_path), "train")  # from the cache
    assert again.manifest.set_aside == source.manifest.set_aside
    assert again.manifest.digest == source.manifest.digest


def test_a_jpeg_is_no_mask(tmp_path):
    save(np.zeros((8, 8), np.uint8), tmp_path / "mask.jpg")
    with pytest.raises(BadImage, match="save it as PNG"):
        read_mask((tmp_path / "mask.jpg").read_bytes())
    with pytest.raises(BadImage, match="class 300"):
        as_labels(np.array([[300]], np.uint16), "classes", UNLABELED)


def test_contradictions_are_refused(tmp_path):
    with pytest.raises(DataMissing, match="no masks in"):
        (tmp_path / "empty").mkdir()
        Masks().open(str(tmp_path / "empty"), "train")
    as_coco(tmp_path / "coco", "train", pictures(0, 2), category_id=7)
    with pytest.raises(DataError, match="category 7, which is not in"):
        Masks().open(str(tmp_path / "coco"), "train")
    as_folders(tmp_path / "twice", "train", pictures(0, 2))
    save(np.zeros((3, 3), np.uint8), tmp_path / "twice" / "train" / "masks" / "0_0.tif")
    with pytest.raises(DataError, match="several masks called 0_0"):
        Masks().open(str(tmp_path / "twice"), "train")


def test_crowds_have_no_class_and_bad_objects_are_named(tmp_path):
    as_coco(tmp_path / "crowd", "train", pictures(0, 2), iscrowd=1)
    source = Masks().open(str(tmp_path / "crowd"), "train")
    assert {*np.unique(source.mask(0)).tolist()} == {0, UNLABELED}
    assert "pixels of 4 crowds have no class" in source.manifest.notes
    as_coco(tmp_path / "bad", "train", pictures(0, 2))
    file = tmp_path / "bad" / "train.json"
    data = json.loads(file.read_text())
    data["annotations"][0]["segmentation"] = [[1, 2, 3]]
    file.write_text(json.dumps(data))
    source = Masks().open(str(tmp_path / "bad"), "train")
    ((name, why),) = source.manifest.set_aside
    assert name == "0_0.png" and why.startswith("annotation 0: an outline")


def test_no_category_of_coco_is_ignored(tmp_path):
    """Its classes have numbers of their own; what has none is a crowd."""
    as_coco(tmp_path, "train", found := pictures(0, 2))
    source = Masks(ignore=1).open(str(tmp_path), "all")
    for k, (_, mask) in enumerate(found.values()):
        np.testing.assert_array_equal(source.mask(k), mask)


def test_a_mask_is_written_as_it_was_found():
    """Run lengths, area and box of each class but the background are those of its pixels."""
    ((_, mask),) = pictures(3, 1).values()
    for each in annotations(FoundMask("a.png", mask), CLASSES, 7, 1):
        y, x = np.nonzero(mask == each["category_id"] - 1)
        left, top, width, height = each["bbox"]
        assert (left, top, left + width, top + height) == (x.min(), y.min(), x.max() + 1, y.max() + 1)
        assert each["area"] == len(y) and each["image_id"] == 7
        np.testing.assert_array_equal(
            draw_runs(each["segmentation"]["counts"], mask.shape), mask + 1 == each["category_id"]
        )


# outlines and run lengths ----------------------------------------------------------------------------


def test_run_lengths_are_those_of_coco():
    """Text and list, as pycocotools writes and reads them."""
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(20):
        inside = rng.random(rng.integers(1, 40, 2)) < rng.random()
        text = coco.encode(np.asfortranarray(inside.astype(np.uint8)))["counts"].decode()
        np.testing.assert_array_equal(draw_runs(text, inside.shape), inside)
        assert run_lengths(text) == runs_of(inside)
        np.testing.assert_array_equal(draw_runs(runs_of(inside), inside.shape), inside)
    for bad in ([3, 4], [-1, 5], "0", None, [1.5]):
        with pytest.raises(BadImage):
            draw_runs(bad, (2, 2))


def test_an_outline_holds_the_middles_of_its_pixels():
    """A triangle, by the half-plane of each side; a square within a square is a hole; points may lie outside."""
    points = [2.03, 1.07, 17.51, 4.02, 6.11, 13.3]
    y, x = np.mgrid[:15, :20] + 0.5
    corners = np.array(points).reshape(-1, 2)
    inside = np.ones(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0)):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0
    np.testing.assert_array_equal(draw_outline(points, (15, 20)), inside)
    beyond = draw_outline([-5, -5, 50, -5, 50, 50, -5, 50], (4, 6))
    assert beyond.all()
    with pytest.raises(BadImage, match="2 points"):
        draw_outline([1, 2, 3, 4], (4, 6))
