"""The evaluation at the end of a run, planned before the first step."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.errors import DataError
from data.sampling.packing import Packing
from data.sampling.resolution import Sides
from data.sources.source import Arrays
from harness.presets import folder
from harness.run.ahead import fits_at, look_ahead, resolutions_of
from harness.run.loading import evaluation_rows
from navit_eqx.config_positions import Factorised, Fourier
from tests.support.laws import caught

sides = st.tuples(st.integers(1, 300), st.integers(1, 300))


def source_of(sizes) -> Arrays:
    images = [np.zeros((h, w, 3), np.uint8) for h, w in sizes]
    return Arrays(images, np.zeros(len(sizes), np.int32), ("only",))


LIMITED = Factorised(size=24)


def config_for(posembed=LIMITED, **data):
    config = folder()
    model = replace(config.model, patch=(8, 8), posembed=posembed)
    given = {"resolution": Sides(32, 64), "packing": Packing(64, 8), "val_resolution": 64.0, **data}
    return replace(config, model=model, data=replace(config.data, **given))


def takes_what_evaluation_takes(fits_at, sizes, resolution, config) -> None:
    """All images but those that the plan of the evaluation leaves out."""
    source = source_of(sizes)
    fits = fits_at(config, source, resolution)
    try:
        _, plan = evaluation_rows(config, source, config.data.resolution.at(resolution))
        left_out = sorted(i for i, _ in plan.left_out)
    except DataError:  # none fits
        left_out = [*range(len(sizes))]
    assert left_out == np.flatnonzero(~fits).tolist()


resolutions = st.sampled_from([32.0, 64.0, 160.0, 600.0])
posembeds = st.sampled_from([LIMITED, Fourier()])


@given(
    sizes=st.lists(sides, min_size=1, max_size=12),
    resolution=st.sampled_from([32.0, 64.0, 160.0, 600.0]),
    posembed=posembeds,
)
@example(sizes=[(16, 192), (60, 60)], resolution=64.0, posembed=LIMITED)
@example(sizes=[(1, 300), (60, 60)], resolution=600.0, posembed=Fourier())
def test_takes_what_evaluation_takes(sizes, resolution, posembed):
    takes_what_evaluation_takes(fits_at, sizes, resolution, config_for(posembed))


def test_other_plans_are_caught():
    def all_fit(config, source, resolution):
        return np.ones(len(source.manifest), bool)

    def training_rows_alone(config, source, resolution):
        grids = config.data.resolution.at(resolution).grids(np.random.default_rng(0), source.manifest.sizes, (8, 8))
        return grids.prod(-1) <= config.data.packing.shape[0]

    caught(takes_what_evaluation_takes, all_fit, [(1, 300), (60, 60)], 64.0, config_for())
    caught(takes_what_evaluation_takes, training_rows_alone, [(60, 60), (9, 9)], 160.0, config_for())


def test_pictures_of_twelve_to_one_are_told_before_the_first_step():
    """Each resolution at which some are left out has a note; the others have none."""
    config = config_for(eval_resolutions=(32.0, 48.0, 64.0, 80.0))
    assert resolutions_of(config) == [32.0, 48.0, 64.0, 80.0]
    assert look_ahead(config, source_of([(30, 30), (20, 40)])) == []
    notes = look_ahead(config, source_of([(30, 30), (20, 240), (40, 30)]))
    assert notes == [f"evaluation at resolution {r} leaves out 1 of 3 images, 1, 20 x 240 pixels" for r in (64, 80)]


def test_a_resolution_at_which_nothing_fits_is_a_note_unless_it_is_the_reported_one():
    config, source = config_for(eval_resolutions=(32.0, 64.0)), source_of([(20, 240), (240, 20)])
    with pytest.raises(DataError, match="none of 2 validation images fits .* at resolution 64, at\\s+which.* 20 x 240"):
        look_ahead(config, source)
    smaller = replace(config, data=replace(config.data, val_resolution=32.0))
    assert look_ahead(smaller, source) == ["evaluation at resolution 64 leaves out 2 of 2 images, all of them"]
