"""Every study, asked of every task: a table, or a sentence that says why not; never a traceback."""

from dataclasses import replace

import jax
import pytest

from data.errors import DataError
from harness.evaluation import studies
from harness.evaluation.predictions import Context, context_of
from harness.evaluation.studies import OF_IMAGES, STUDIES, studies_of, suited
from harness.presets import PRESETS
from harness.resolve import resolve
from harness.run.loading import open_source, open_task
from navit_eqx.config import Flexi
from navit_eqx.errors import ConfigError
from navit_eqx.tasks.model import abstract_model
from tests.support.strategies import filled

EMBEDDED = ("digits", "digits-square", "digits-flexi", "segment-glyphs", "detect-digits", "video-digits")


def context_for(preset: str) -> Context:
    """A small model of random numbers on a few images of the preset."""
    config = PRESETS[preset]()
    shape = replace(config.model, width=16, depth=1, heads=2, mlp_width=16, unroll=1)
    if shape.tubelets is None and shape.flexi is None:
        shape = replace(shape, flexi=Flexi((shape.patch[0], 12)))
    source = replace(config.data.source, train_images=80, val_images=30)
    config = replace(config, model=shape, data=replace(config.data, source=source), rows=2, steps=4)
    train = open_source(config, "train")
    prepared, task = open_task(config, train.manifest)
    config, _ = resolve(replace(config, task=prepared.config), train.manifest, task)
    model = filled(abstract_model(config.model, config.task), 0, "float32").for_inference()
    at = config.data.reported_at
    return context_of(model, config, open_source(config, "val"), task, (0.75 * at, at))


def runs_or_says_why_not(context: Context, name: str, folder) -> None:
    try:
        found = STUDIES[name](context)
    except (ConfigError, DataError) as why:
        assert str(why)
        return
    assert found.rows and found.summary
    found.draw(folder / found.picture)
    assert (folder / found.picture).exists()


def asked(context: Context) -> list[str]:
    """What `--studies all` runs."""
    always = studies_of(context.task, context.config.model)
    of_images = context.config.model.tubelets is None
    return [name for name in STUDIES if name in {*always, *suited(always)} and (of_images or name not in OF_IMAGES)]


@pytest.mark.slow
@pytest.mark.parametrize("preset", EMBEDDED)
def test_every_study_runs_or_says_why_not(preset, tmp_path):
    context = context_for(preset)
    with jax.numpy_dtype_promotion("standard"):
        for name in asked(context):
            runs_or_says_why_not(context, name, tmp_path)


@pytest.mark.parametrize("study", [studies.dropping, studies.cascade, studies.calibration])
def test_what_asks_every_patch_has_no_tokens_to_drop_and_no_classes_of_an_image(study):
    with pytest.raises(ConfigError, match="every patch|of an image"):
        study(context_for("segment-glyphs"))
