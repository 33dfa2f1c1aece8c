"""A run that gives pixels classes, from the outside: train, evaluate, predict."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image

import navit_eqx as navit
import predict
import train
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sources.glyph_scenes import GlyphScenes
from data.sources.mask_files import draw_runs
from data.tasks import TASKS
from harness.evaluation.predictions import context_of
from harness.evaluation.studies.masks import class_rows, masks
from harness.presets import PRESETS
from harness.run.folder import read_config
from harness.run.loading import open_source, task_of
from harness.run.trained import trained_model
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.tasks.config import Classify, Segment
from navit_eqx.tasks.model import Model
from navit_eqx.training.config import OptimConfig
from reference.evaluation.confusion import mean_iou

pytestmark = pytest.mark.slow

MODEL = ModelConfig((8, 8), width=16, depth=1, heads=2, mlp_width=16, posembed=Factorised(40), unroll=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of two steps."""
    out = tmp_path_factory.mktemp("runs")
    base = PRESETS["segment-glyphs"]()
    data = replace(
        base.data,
        source=GlyphScenes(200, 12),
        resolution=Native(0.7, 1.0),
        packing=Packing(row_tokens=256, row_images=8),
        val_resolution=1.0,
        eval_resolutions=(1.0,),
    )
    config = replace(base, model=MODEL, data=data, task=Segment("linear"), optim=OptimConfig(), rows=8, steps=2)
    with jax.numpy_dtype_promotion("standard"):  # Optax multiplies floats by integer step counts
        train.train(replace(config, out=str(out)), "segment")
    return out / "segment"


def test_a_run_ends_with_tables_and_a_picture(run):
    """The score of the summary is that of all pixels together, and not the mean over images."""
    summary = json.loads((run / "summary.json").read_text())
    assert summary["compiles"] == 1 and 0 <= summary["val_mean_iou"] <= 1
    config, model = read_config(run), trained_model(run)
    source, task = open_source(config, "val"), task_of(model)
    found = context_of(model, config, source, task).predict(config.data.resolution.at(1.0))
    assert summary["val_mean_iou"] == pytest.approx(float(mean_iou(found.outputs.sum(0))), abs=1e-6)
    assert found.outputs.sum() == source.manifest.sizes.prod(-1).sum()
    rows = json.loads((run / "masks.json").read_text())
    want = class_rows(found.outputs.sum(0), source.manifest.classes)
    assert [row["iou"] for row in rows] == pytest.approx([row["iou"] for row in want])
    sheet = np.asarray(Image.open(run / "masks.png"))
    assert sheet.shape[0] > 8 * 100


def test_masks_of_files_are_those_of_the_evaluation(run, tmp_path, monkeypatch, capsys):
    """`predict.py` and `navit.segment` read photographs as evaluation does, and a file that is none is set aside."""
    config, model = read_config(run), trained_model(run)
    source, task = open_source(config, "val"), task_of(model)
    for k in range(3):
        Image.fromarray(source.image(k)).save(tmp_path / f"{k}.png")
    (tmp_path / "none.png").write_text("no picture")
    paths = [str(tmp_path / f"{name}.png") for name in (0, 1, 2, "none")]
    monkeypatch.setattr("sys.argv", ["predict.py", str(run), *paths, "--out", str(tmp_path / "found")])
    predict.main()
    said = capsys.readouterr()
    assert said.out.count("%") >= 3 and "none.png" in said.err and "3 of 4 files" in said.err
    data = json.loads((tmp_path / "found" / "masks.json").read_text())
    pictures = [*navit.segment(model, paths[:3])]
    reasons: dict[int, str] = {}
    assert [*navit.segment(model, paths[3:], report=reasons.__setitem__)] == [None] and 0 in reasons
    for k, mask in enumerate(pictures):
        assert mask is not None and mask.shape == tuple(source.manifest.sizes[k])
        again = np.zeros(mask.shape, np.uint8)
        for thing in data["annotations"]:
            if thing["image_id"] == k + 1:
                again[draw_runs(thing["segmentation"]["counts"], mask.shape)] = thing["category_id"] - 1
        np.testing.assert_array_equal(again, mask)
        assert np.asarray(Image.open(tmp_path / "found" / f"{k}.png")).shape == (*mask.shape, 3)
    row = navit.pack(paths[:3], model)
    batch = type(row)(*map(np.asarray, row))
    evaluated = task.masks(batch, np.asarray(navit.forward(model, row)), source.manifest)
    for k, mask in enumerate(pictures):
        np.testing.assert_array_equal(evaluated[k], mask)


def test_other_models_give_no_masks(run):
    config = read_config(run)
    model = Model(MODEL, Classify(classes=3), key=jax.random.key(0))
    with pytest.raises(ConfigError, match="gives no class to pixels"):
        next(navit.segment(model, ["a.png"]))
    context = context_of(trained_model(run), config, open_source(config, "val"), TASKS["Classify"]())
    with pytest.raises(ConfigError, match="every pixel a class"):
        masks(context)
