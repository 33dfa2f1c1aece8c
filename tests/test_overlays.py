"""Masks and boxes on photographs: at their own pixels, each class in its color."""

import numpy as np
from PIL import Image

from harness.evaluation.overlays import (
    IGNORE,
    LEAST,
    MOST,
    Panel,
    class_color,
    draw_boxes,
    draw_mask,
    draw_sheet,
    outline,
    shortened,
    text_color,
)

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def test_colors_of_classes_differ():
    colors = np.array([class_color(c) for c in range(40)], float)
    apart = np.abs(colors[:, None] - colors).sum(-1) + 1e3 * np.eye(40)
    assert apart.min() > 12 and apart[:8, :8].min() > 60


def test_a_mask_colors_its_pixels_alone():
    """The background and pixels without a class stay; an outline has the full color, the inside a share of it."""
    mask = np.zeros((20, 30), np.uint8)
    mask[5:12, 8:20] = 3
    mask[15:, :4] = IGNORE
    seen = draw_mask(PHOTO, mask, plain=[0])
    np.testing.assert_array_equal(seen[mask != 3], PHOTO[mask != 3])
    edge = outline(mask) & (mask == 3)
    assert (seen[edge] == class_color(3)).all() and edge.sum() == 2 * (7 + 12) - 4
    inside = (mask == 3) & ~edge
    away = np.abs(seen[inside].astype(float) - class_color(3)).sum()
    assert away < 0.7 * np.abs(PHOTO[inside].astype(float) - class_color(3)).sum()


def test_a_box_is_drawn_where_it_is():
    """The last pixel inside the box is its border; nothing inside or outside of it changes."""
    seen = draw_boxes(PHOTO, np.array([[4.0, 6.0, 15.0, 17.0], [-5, -5, 60, 3]]), [2, 4])
    changed = (seen != PHOTO).any(-1)
    assert (seen[6, 4:15] == class_color(2)).all() and (seen[16, 4:15] == class_color(2)).all()
    assert (seen[6:17, 4] == class_color(2)).all() and (seen[6:17, 14] == class_color(2)).all()
    assert not changed[7:16, 5:14].any() and not changed[18:].any()
    assert (seen[2] == class_color(4)).all(), "a box beyond the image is cut off"


def test_captions_can_be_read():
    seen = draw_boxes(np.full((60, 90, 3), 128, np.uint8), np.array([[5.0, 30, 80, 55]]), [1], ["cat 0.9"])
    label = seen[:30].reshape(-1, 3)
    for color in (class_color(1), text_color(class_color(1))):
        assert (label == color).all(-1).any()


def test_no_caption_covers_another():
    """The first of those at one place stays, as it is alone; one elsewhere is written too."""
    gray, boxes = np.full((90, 160, 3), 128, np.uint8), np.array([[5.0, 30, 80, 55], [9, 33, 90, 70], [5, 75, 60, 89]])
    one, all_ = (draw_boxes(gray, boxes[:n], [1, 2, 4][:n], ["cat 0.9", "dog 0.8", "cow 0.7"][:n]) for n in (1, 3))
    first = (slice(0, 30), slice(0, 60))
    np.testing.assert_array_equal(all_[first], one[first])
    assert (all_[56:75] == text_color(class_color(4))).all(-1).any()


def test_long_names_are_told_apart():
    names = [f"train-00000-of-00001.parquet:{k}" for k in range(12)]
    assert len({shortened(name) for name in names}) == 12 and max(len(shortened(name)) for name in names) == 24
    assert shortened("a.jpg") == "a.jpg"


def test_a_sheet_has_all_panels_and_names(tmp_path):
    large = np.zeros((MOST, 2 * MOST, 3), np.uint8)
    rows = [[Panel("photo", PHOTO), Panel("truth", PHOTO)], [Panel("a far too long title of a picture", large)]]
    draw_sheet(rows, tmp_path / "sheet.png", [("ground", 0), ("sky", 1)])
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1] >= MOST and sheet.shape[0] > LEAST * 2 // 3 + MOST // 2
    for number in (0, 1):
        assert (sheet == class_color(number)).all(-1).any()
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]
