"""Pictures of rows: they show the pixels, the slots and the mask that the model gets."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import train
from data.sampling.patch_size import AtBudget, CoarseToFine, OneSize, PerImage, PerStep
from data.sources.digits import Digits
from data.tasks import TASKS
from harness.digit_presets import digits_flexi
from harness.evaluation import pictures
from harness.evaluation.pictures import DROPPED, color, draw_mask, draw_rows, image_of
from harness.resolve import resolve
from harness.run.loading import training_rows
from navit_eqx.images import pack
from navit_eqx.preprocessing import Native, Preprocessing
from reference.masks import same_image
from reference.rows import Row
from tests.support.laws import caught
from tests.support.strategies import seeds

PATCH = (4, 6)


def packed(seed: int, channels: int = 3, kind: str = "uint8"):
    """A row of three images, whole patches each, and the images."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (4 * h, 6 * w, channels), np.uint8) for h, w in rng.integers(1, 4, (3, 2))]
    given_ = images if kind == "uint8" else [(x / 127.5 - 1).astype(np.float32) for x in images]
    how = Preprocessing(Native(1.0), channels=channels, row_tokens=32, row_images=4)
    row = pack(given_, preprocessing=how, patch=PATCH, rows=1)
    return Row(*(leaf[0] for leaf in row)), [images[i] for i in row.image_ids[0] if i >= 0]


def shows_its_images(show, row, images) -> None:
    for slot, image in enumerate(images, 1):
        want = np.repeat(image[..., :1], 3, -1) if image.shape[-1] < 3 else image[..., :3]
        np.testing.assert_array_equal(show(row, slot, PATCH), want)


@given(seed=seeds, channels=st.sampled_from([1, 3, 4]), kind=st.sampled_from(["uint8", "float32"]))
def test_an_image_is_what_the_model_reads(seed, channels, kind):
    """As color, whatever the channels; normalized pixels back in bytes."""
    shows_its_images(image_of, *packed(seed, channels, kind))


def test_another_slot_is_caught():
    row, images = packed(0)
    caught(shows_its_images, lambda row, slot, patch: image_of(row, slot % 3 + 1, patch), row, images)


def test_dropped_tokens_are_light():
    row, images = packed(1)
    there = np.flatnonzero(row.segment_ids == 1)
    row.segment_ids[there[0]] = 0
    shown = image_of(row, 1, PATCH)
    (y, x), (height, width) = row.coords[there[0]], PATCH
    part = np.s_[y * height : (y + 1) * height, x * width : (x + 1) * width]
    assert (shown[part] == DROPPED).all()
    shown[part] = images[0][part]
    np.testing.assert_array_equal(shown, images[0])


@pytest.fixture
def shown(monkeypatch):
    """What is drawn as pixels, and the boxes around it or beside it: (width, color)."""
    found = {"pixels": [], "boxes": [], "texts": []}
    monkeypatch.setattr(Axes, "imshow", lambda axis, image, **how: found["pixels"].append(np.asarray(image)))
    monkeypatch.setattr(Axes, "add_patch", lambda axis, box: found["boxes"].append(box))
    monkeypatch.setattr(Axes, "text", lambda axis, x, y, text, **how: found["texts"].append(text))
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **how: path.touch())
    return found


def test_a_row_is_drawn_with_all_its_images_and_its_padding(shown, tmp_path):
    """Images side by side in frames of their colors; below them their tokens in the same colors, and padding."""
    row, images = packed(2)
    draw_rows([row], PATCH, tmp_path / "rows.png")
    for got, want in zip(shown["pixels"], images, strict=True):
        np.testing.assert_array_equal(got, want)
    counts = [int((row.segment_ids == slot).sum()) for slot in (1, 2, 3)]
    assert shown["texts"] == counts
    frames, tokens, padding = shown["boxes"][:3], shown["boxes"][3:6], shown["boxes"][6:]
    colors = [color(slot) for slot in (1, 2, 3)]
    assert [box.get_edgecolor()[:3] for box in frames] == [box.get_facecolor()[:3] for box in tokens] == colors
    assert [box.get_width() for box in frames] == [grid[1] for grid in row.grids[:3]]
    assert [box.get_width() for box in tokens] == counts
    assert [box.get_width() for box in padding] == [32 - sum(counts)] and padding[0].get_hatch()


def is_the_mask(pixels, row) -> None:
    """Colored where a token attends to another, in the color of their slot; white elsewhere."""
    mask = same_image(row.segment_ids)
    for q, k in np.ndindex(mask.shape):
        want = color(int(row.segment_ids[q])) if mask[q, k] else (1, 1, 1)
        assert tuple(pixels[q, k]) == tuple(want), f"query {q}, key {k}"


def test_the_mask_is_that_of_attention(shown, tmp_path, monkeypatch):
    row, _ = packed(3)
    draw_mask(row, tmp_path / "mask.png")
    is_the_mask(shown["pixels"][0], row)
    monkeypatch.setattr(pictures, "same_image", lambda ids: np.tri(len(ids), dtype=bool))
    draw_mask(row, tmp_path / "mask.png")
    caught(is_the_mask, shown["pixels"][1], row)


LAWS = (OneSize(), OneSize((6, 6)), PerImage(), PerStep(), CoarseToFine(PerStep()), AtBudget())


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_rows_of_every_law_of_patch_sizes_are_drawn(law, shown, tmp_path):
    """Each image as many pixels as its grid has patches of the step."""
    base = digits_flexi()
    config = replace(base, data=replace(base.data, source=Digits(60, 10), patch_sizes=law), rows=2)
    source = config.data.source.open("", "train")
    config, _ = resolve(config, source.manifest, TASKS["Classify"]())
    rows = [training_rows(config, source, TASKS["Classify"]())[r] for r in range(2)]
    train.picture(rows, config, tmp_path)
    values = rows[0].patches.shape[-1] / config.model.channels
    grids = [grid for row in rows for grid in row.grids if grid.prod()]
    assert [image.shape[0] * image.shape[1] for image in shown["pixels"][: len(grids)]] == [
        grid.prod() * values for grid in grids
    ]
