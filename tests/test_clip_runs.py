"""Clips in programs: a start from a model of images, the front door, prediction, studies."""

import json
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import navit_eqx as navit
import predict
from data.errors import DataError
from data.sources.moving_digits import MovingDigits
from harness.case import Case
from harness.evaluation import clip_pictures
from harness.evaluation.clip_predictions import clip_paths
from harness.evaluation.predictions import Context, Predictions, context_of
from harness.evaluation.studies import OF_CLIPS, OF_IMAGES, studies_of, suited
from harness.evaluation.studies.frames import frames
from harness.evaluation.studies.leaks import leaks, neighbors
from harness.resolve import resolve
from harness.run.loading import evaluation_rows, open_sources, open_task
from harness.run.warm_start import in_patches, shape_from, warm_start
from harness.video_presets import THREE, video_digits
from navit_eqx.config import Factorised, ModelConfig, Tubelets
from navit_eqx.errors import ConfigError
from navit_eqx.info import ModelInfo
from navit_eqx.pixels import ImageError
from navit_eqx.preprocessing import Frames, Native, Preprocessing
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Classify
from reference.patches import patchify
from reference.rows import pack
from reference.tubelets import tubelets
from tests.support.laws import caught
from tests.support.strategies import model as make_model
from tests.support.tolerances import FLOAT32, HALF, assert_close

SMALL = ModelConfig((8, 8), 1, 16, 1, 2, 24, Factorised(8), dtype="float32")
OF_TUBELETS = replace(SMALL, patch=(2, 8, 8), tubelets=video_digits().model.tubelets)
CLASSES = MovingDigits(val_images=1).open("", "val").manifest.classes
INFO = ModelInfo(CLASSES, Preprocessing(Frames(Native(), 12, 1), channels=1, row_tokens=256, row_images=16))


def in_float32(model):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, "float32") if hasattr(leaf, "dtype") else leaf, model)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of images and one of clips, saved."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in (("image", SMALL), ("clip", OF_TUBELETS)):
        model = in_float32(make_model(0, config, Classify(classes=8)))
        size = INFO.preprocessing if name == "clip" else replace(INFO.preprocessing, size=Native())
        navit.save_model(folder / name, model, replace(INFO, preprocessing=size))
    return folder


@lru_cache
def opened(count=24):
    config = video_digits()
    config = replace(
        config, model=OF_TUBELETS, steps=3, data=replace(config.data, source=MovingDigits(val_images=count))
    )
    source = config.data.source.open("", "val", 1)
    prepared, task = open_task(config, source.manifest)
    config, _ = resolve(replace(config, task=prepared.config), source.manifest, task)
    return config, source, task


# start from a model of images -----------------------------------------------------------------------------


@pytest.mark.parametrize("inflation", ["central", pytest.param("mean", marks=pytest.mark.slow)])
def test_a_start_from_images_reads_a_still_clip_as_the_image(saved, inflation):
    config = replace(
        video_digits(), start=str(saved / "image"), model=replace(OF_TUBELETS, tubelets=Tubelets(inflation=inflation))
    )
    config, notes = shape_from(config)
    assert config.model.patch == (2, 8, 8) and any(inflation in note for note in notes)
    fresh = in_float32(make_model(1, config.model, Classify(classes=8)))
    started, image_model = warm_start(fresh, config, CLASSES), navit.load(saved / "image")
    image = np.random.default_rng(0).normal(size=(24, 32, 1))
    still = tubelets(np.repeat(image[None], 6, 0), (2, 8, 8), [(2, 8, 8)], [(2, 8, 8)])
    got = started(to_device(pack([still], [0], 40, 2)))[0]
    want = image_model(to_device(pack([patchify(image, (8, 8))], [0], 16, 2)))[0]
    assert_close(got, want, 8 * FLOAT32)
    caught(assert_close, fresh(to_device(pack([still], [0], 40, 2)))[0], want, 1e-2)


def test_tubelets_keep_to_the_patches_of_the_start():
    """A kernel of another size: shapes grow with it, so that a still clip is the image; those in its pixels stay."""
    found = in_patches(THREE, (8, 8), (14, 16))
    assert found.shapes == ((2, 14, 16), (1, 14, 16), (4, 28, 32)) and found.strides[1] == (8, 14, 16)
    assert in_patches(found, (8, 8), (14, 16)) == found and in_patches(THREE, (8, 8), (8, 8)) == THREE
    odd = Tubelets(((2, 12, 12),), ((2, 12, 12),))
    assert in_patches(odd, (8, 8), (14, 14)) == odd and in_patches(Tubelets(), (8, 8), (14, 14)) == Tubelets()


def test_clips_are_read_with_the_channels_of_the_start(saved):
    """Those of the preset are those of its own model."""
    config = replace(video_digits(), start=str(saved / "image"), model=replace(OF_TUBELETS, channels=3))
    for source in Case(config, "video-digits").sources:
        assert source.manifest.channels == SMALL.channels == 1
    config, notes = shape_from(config)
    assert any("model.channels = 1" in note for note in notes)
    with pytest.raises(DataError, match="But the shape is that of the model in"):
        open_sources(replace(config, model=replace(config.model, channels=4)))


# front door -----------------------------------------------------------------------------------------------


def test_clips_are_packed_as_in_training(saved):
    """`navit.pack_clips` = rows of evaluation, clip by clip."""
    model, (config, source, _) = navit.load(saved / "clip"), opened()
    batches, _ = evaluation_rows(config, source, config.data.resolution.at(1.0))
    want = by_clip(list(batches))
    whole = [source.clip(i, (np.arange(n) + 0.5) / n) for i, n in enumerate(source.manifest.sizes[:, 0].tolist())]
    got = by_clip([navit.pack_clips(whole, model)])
    assert got.keys() == want.keys()
    for index, (patches, coords, grid) in got.items():
        assert_close(patches, want[index][0], 2 * HALF)
        np.testing.assert_array_equal(coords, want[index][1])
        np.testing.assert_array_equal(grid, want[index][2])


def by_clip(batches):
    found = {}
    for batch in batches:
        batch = [np.asarray(leaf) for leaf in batch]
        for r, slot in np.argwhere(batch[4] >= 0):
            here = batch[2][r] == slot + 1
            found[int(batch[4][r, slot])] = batch[0][r][here], batch[1][r][here], batch[3][r, slot]
    return found


def test_what_is_no_clip_is_named(saved):
    model = navit.load(saved / "clip")
    for wrong in (np.zeros((8, 24, 24), np.uint8), np.zeros((8, 24, 24, 3), np.uint8), np.zeros((8, 24, 24, 1))):
        with pytest.raises(ImageError, match="clip 1 is an array"):
            navit.pack_clips([np.zeros((8, 24, 24, 1), np.uint8), wrong], model)
    with pytest.raises(ImageError, match="choose a smaller size"):
        navit.pack_clips([np.zeros((8, 24, 240, 1), np.uint8)], model)
    with pytest.raises(ConfigError, match="navit.pack packs them"):
        navit.pack_clips([np.zeros((8, 24, 24, 1), np.uint8)], navit.load(saved / "image"))
    with pytest.raises(ConfigError, match="navit.pack_clips"):
        navit.pack([np.zeros((24, 24, 1), np.uint8)], model)


def test_files_of_every_kind_are_predicted_alike(saved, tmp_path, capsys):
    _, source, _ = opened()
    index = int((source.manifest.sizes[:, 0] == 8).argmax())
    clip = source.clip(index, (np.arange(8) + 0.5) / 8)
    np.savez(tmp_path / "a.npz", frames=clip)
    first, *rest = (Image.fromarray(frame[..., 0]) for frame in clip)
    first.save(tmp_path / "b.webp", save_all=True, append_images=rest, lossless=True, duration=50)
    (tmp_path / "frames").mkdir()
    for k, frame in enumerate(clip):
        Image.fromarray(frame[..., 0]).save(tmp_path / "frames" / f"{k}.png")
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    patterns = {"[ab].*": ["a.npz", "b.webp"], "f*": ["frames"], "x*": ["x*"]}
    for pattern, names in patterns.items():
        assert [*clip_paths([f"{tmp_path}/{pattern}"])] == [f"{tmp_path}/{name}" for name in names]
    code = run_predict(str(saved / "clip"), str(tmp_path), "--json", "--top", "8")
    out, err = capsys.readouterr()
    lines = {line["image"]: line for line in map(json.loads, out.splitlines())}
    assert not code and len(lines) == 4 and "1 set aside" in err
    assert "error" in lines[str(tmp_path / "broken.gif")]
    scores = [line["classes"] for line in lines.values() if "classes" in line]
    for other in scores[1:]:
        assert_close([other[name] for name in CLASSES], [scores[0][name] for name in CLASSES], 1e-2)
    assert not run_predict(str(saved / "clip"), str(tmp_path), "--features", str(tmp_path / "f.parquet"))
    table = pq.read_table(tmp_path / "f.parquet").to_pydict()
    model = navit.load(saved / "clip")
    assert table["file"] == [name for name, line in lines.items() if "classes" in line]
    for vector, probabilities in zip(table["features"], scores):
        found = navit.probabilities(model, model.task.head(jnp.array(vector, np.float32)))
        assert_close(found, [probabilities[name] for name in CLASSES], 1e-4)


def run_predict(*words: str) -> int | None:
    """The exit code of predict.py in this process."""
    import sys

    before, sys.argv = sys.argv, ["predict.py", *words]
    try:
        predict.main()
    except SystemExit as end:
        return end.code
    finally:
        sys.argv = before


# studies --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_studies_of_clips(saved, tmp_path):
    config, source, task = opened()
    context = context_of(navit.load(saved / "clip"), config, source, task, (0.8, 1.0))
    found = frames(context)
    assert {row["frames"] for row in found.rows} == {1, 2, 4, 6, 12}
    tokens = [row["mean_tokens"] for row in found.rows if row["resolution"] == 1.0]
    assert tokens == sorted(tokens) and found.rows[0]["images"] == 24
    controls = leaks(context)
    assert [row["bound"] for row in controls.rows][2:] == [0.5, controls.rows[1]["bound"]]
    for each in (found, controls):
        each.draw(tmp_path / each.picture)
        assert (tmp_path / each.picture).stat().st_size > 5000


def test_controls_show_no_motion(saved, monkeypatch):
    """One frame, and the same frames in another order; what is above its bound is named."""
    config, source, task = opened()
    asked: list[Any] = []
    scores = [np.full(24, value) for value in (0.25, 0.5, 0.75)]

    def predict(self, law):
        asked.append(law)
        own = scores[len(asked) - 1]
        return Predictions(np.arange(24), own, own, own.astype(int), own, np.nan, 0, 0, {})

    monkeypatch.setattr(Context, "predict", predict)
    found = leaks(context_of(navit.load(saved / "clip"), config, source, task))
    own, single, shuffled = asked
    assert single == replace(own, frames=(1,)) and shuffled == replace(own, order="shuffled") and own.order == "forward"
    assert [row["score"] for row in found.rows[:3]] == [0.25, 0.5, 0.75]
    assert found.summary.startswith("above its bound: a single frame, frames in random order")


def test_studies_suit_clips_or_images():
    config, _, task = opened()
    assert studies_of(task, config.model)[-2:] == OF_CLIPS and not {*OF_CLIPS} & {*suited(task.studies)}
    assert not {*OF_IMAGES} & {*studies_of(task, config.model)}
    assert studies_of(task, SMALL) == task.studies


def test_neighbors_find_a_label_that_follows_from_the_size():
    rng = np.random.default_rng(0)
    sizes = rng.choice([4, 8, 16], (300, 3))
    labels = (sizes[:, 0] > 4).astype(int)
    assert neighbors(sizes, labels).mean() > 0.98
    blind = neighbors(sizes, rng.integers(0, 2, 300)).mean()
    assert abs(blind - 0.5) < 0.12


def test_a_clip_is_put_together_from_its_tokens():
    _, source, _ = opened()
    index = int((source.manifest.sizes[:, 0] == 4).argmax())
    clip = source.clip(index, (np.arange(4) + 0.5) / 4)
    tokens = tubelets(clip / 127.5 - 1, (2, 8, 8), OF_TUBELETS.tubelet_shapes, OF_TUBELETS.tubelet_strides)
    row = pack([tokens], [0], 256, 2)
    assert_close(clip_pictures.frames_of(row, 1, OF_TUBELETS), clip / 255, 1e-6)
