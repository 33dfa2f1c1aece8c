"""Rows of a hierarchy: what was planned is what is loaded, by whole blocks; `navit.pack` does the same."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import BadImage, DataError
from data.evaluation_plan import packing_at
from data.hierarchy import PlannedQuads
from data.plan import NOTHING, EpochPlans, plan_epoch
from data.rows import Pixels
from data.sampling.dropping import Beta
from data.sampling.merge import Merge, law_of
from data.sampling.packing import Packing, Template
from data.sampling.patch_size import PerStep
from data.sampling.resolution import Clips, Native, NeverEnlarged, Sides, Square, TokenBudget, WholeBlocks
from data.sampling.token_selection import AtRandom, ByContrast, Spread
from data.sources.source import Arrays
from data.stream import Epochs
from harness.adaptive import stages
from harness.config import with_data
from harness.evaluation.loaded import sampling_of
from navit_eqx import preprocessing
from navit_eqx.config import Flexi, Stages
from navit_eqx.errors import ConfigError
from navit_eqx.hierarchy import are_quads
from navit_eqx.images import pack
from navit_eqx.preprocessing import Preprocessing, at_resolution, size_rule
from navit_eqx.rows import to_device
from navit_eqx.serialize import encode
from navit_eqx.tasks.config import Segment
from navit_eqx.training.config import Backbone, LayerDecay
from reference.hierarchy import coarser
from reference.rows import Row
from tests.support.strategies import seeds
from tests.test_resolve import config_of, images_for

PATCH, T, I = (4, 4), 96, 12
PACKING = Packing(row_tokens=T, row_images=I)
COUNT = 20
merges = pytest.mark.parametrize("merges", [1, 2])


@lru_cache
def images() -> Arrays:
    rng = np.random.default_rng(0)
    found = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in rng.integers(12, 60, (COUNT, 2))]
    return Arrays(found, np.zeros(COUNT, int), ("a",))


def rows_of(merges: int, dropping=NOTHING, source=None, **more):
    """Rows of an epoch, and their plan."""
    source = source or images()
    law = WholeBlocks(Sides(14, 36), merges)
    how = dict(seed=3, patch_size=PATCH, resolution=law, dropping=dropping, packing=PACKING, longest_side=20)
    epochs = Epochs(EpochPlans(source, how))
    return PlannedQuads(source, epochs, 10**6, Pixels(PATCH), T, 3, None, merges=merges, **more), epochs.planned(0)


def holds_whole_blocks(row, merges: int) -> None:
    """At every level each four tokens are a quad of one image, or padding; images start at multiples of 4^m."""
    for slot in range(1, 1 + row.segment_ids.max()):
        assert np.flatnonzero(row.segment_ids == slot)[0] % 4**merges == 0
    for _ in range(merges):
        assert np.asarray(are_quads(to_device(row))).all()
        row = coarser(row)


@given(seed=seeds, merges=st.integers(1, 2))
@settings(max_examples=5)
def test_grids_are_whole_blocks_and_no_larger(seed, merges):
    """For `Sides` the grid is that of patches 2^m times as large; a budget of tokens is kept."""
    sizes, block = np.random.default_rng(seed).integers(20, 90, (40, 2)).astype(np.int32), 2**merges
    rng = lambda: np.random.default_rng(seed)
    large = (PATCH[0] * block, PATCH[1] * block)
    got = WholeBlocks(Sides(40, 60), merges).grids(rng(), sizes, PATCH)
    np.testing.assert_array_equal(got, Sides(40, 60).grids(rng(), sizes, large) * block)
    for law in (TokenBudget(90), Square(Sides(40, 40)), NeverEnlarged(Native(1.0, 1.0))):
        inner = law.grids(rng(), sizes, PATCH)
        got = WholeBlocks(law, merges).grids(rng(), sizes, PATCH)
        assert (got % block == 0).all() and (got <= np.maximum(inner, block)).all() and (got > inner - block).all()


@merges
@pytest.mark.parametrize("dropping", [NOTHING, Beta(0.4, 0.8)], ids=["all", "dropped"])
@pytest.mark.parametrize("selection", [AtRandom(), Spread(), ByContrast()])
def test_what_is_planned_is_loaded_by_whole_blocks(merges, dropping, selection):
    rows, plan = rows_of(merges, dropping, token_selection=selection)
    kept = plan.kept[plan.kept > 0]
    assert (kept % 4**merges == 0).all() and len(kept) == COUNT
    assert (kept < plan.grids[plan.kept > 0].prod(-1)).any() == (dropping is not NOTHING)
    for r in range(len(plan.kept)):
        row = rows[r]
        counts = np.bincount(row.segment_ids, minlength=I + 1)[1:]
        np.testing.assert_array_equal(counts, plan.kept[r])
        holds_whole_blocks(row, merges)


@merges
def test_packing_for_inference_is_that_of_evaluation(merges):
    """The same tokens in the same order, by the size rule that is saved with a model."""
    law = WholeBlocks(Sides(30, 30), merges)
    how = Preprocessing(size_rule(encode(law)), row_tokens=T, row_images=I)
    source = images()
    batch = pack([source.image(i) for i in range(COUNT)], preprocessing=how, patch=PATCH)
    rows = PlannedQuads(source, Epochs(lambda _: None), 1, Pixels(PATCH), T, 0, None, merges=merges)  # pyright: ignore[reportArgumentType]
    for r in range(len(batch.segment_ids)):
        row = Row(*(np.asarray(leaf[r]) for leaf in batch))
        holds_whole_blocks(row, merges)
        for slot, image in enumerate(row.image_ids):
            if image >= 0:
                grid, mine = row.grids[slot], row.segment_ids == slot + 1
                want, _ = rows.tokens(0, int(image), grid, int(grid.prod()), PATCH)
                np.testing.assert_array_equal(row.coords[mine], want.coords)
                np.testing.assert_array_equal(row.patches[mine], want.patches)
    assert at_resolution(how.size, 60) == preprocessing.WholeBlocks(preprocessing.Area(60), merges)
    assert sampling_of(how.size, (4, 4)) == law


def test_an_image_that_cannot_be_read_leaves_its_blocks_empty():
    class Broken(Arrays):
        def image(self, index: int, shrink: int = 1):
            if index % 3 == 0:
                raise BadImage("broken")
            return super().image(index, shrink)

    whole = images()
    rows, plan = rows_of(2, source=Broken([whole.image(i) for i in range(COUNT)], np.zeros(COUNT, int), ("a",)))
    for r in range(len(plan.kept)):
        holds_whole_blocks(rows[r], 2)


def test_rows_of_evaluation_are_whole_blocks():
    law = WholeBlocks(Sides(90, 90), 2)
    packing = packing_at(PACKING, law, images().manifest.sizes, PATCH, longest_side=99)
    assert packing.shape[0] % 16 == 0 and packing.shape[0] > T


@pytest.mark.parametrize(
    "packing, said",
    [
        (Packing(row_tokens=90, row_images=9), "multiple of 4"),
        (Packing(row_tokens=96, row_images=9, fill="rate"), "cut blocks of a hierarchy"),
        (Packing(row_tokens=96, row_images=9, rule=Template((64, 32))), "Template"),
    ],
)
def test_rows_that_cut_blocks_are_refused(packing, said):
    with pytest.raises(DataError, match=said):
        plan_epoch(
            images().manifest.sizes, seed=0, epoch=0, patch_size=PATCH, resolution=WholeBlocks(Sides(14, 36)),
            dropping=NOTHING, packing=packing, longest_side=20,
        )  # fmt: skip


def test_the_model_decides_the_grids_and_what_does_not_go_with_it_is_refused():
    config = config_of()
    config = replace(config, model=replace(config.model, stages=Stages((1, config.model.depth - 1))))
    found, notes = stages(config, images_for(config))
    assert found.data.resolution == WholeBlocks(config.data.resolution, 1) and "model.stages" in notes[0]
    assert stages(found, images_for(config)) == (found, [])
    with pytest.raises(ConfigError, match="2 merges|1 merges"):
        stages(replace(found, data=replace(found.data, resolution=WholeBlocks(Sides(), 2))), images_for(config))
    last, decay = Backbone(last_n=1), LayerDecay()
    for words, other in {
        "not for Segment": replace(config, task=Segment()),
        "optim.layers decays": replace(config, optim=replace(config.optim, layers=decay)),
        "last_n counts the blocks": replace(config, optim=replace(config.optim, frozen=last)),
        "draw one per image": with_data(
            replace(config, model=replace(config.model, flexi=Flexi((8, 16)))), patch_sizes=PerStep()
        ),
        "samples clips": with_data(config, resolution=Clips(Native())),
    }.items():
        with pytest.raises(ConfigError, match=words):
            stages(other, images_for(config))
    with pytest.raises(ConfigError, match="set model.stages"):
        stages(replace(found, model=replace(found.model, stages=None)), images_for(config))
    with pytest.raises(ValueError, match="model.stages merge tokens"):
        law_of(found.data.resolution, Merge())
