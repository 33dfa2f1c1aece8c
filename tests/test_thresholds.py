"""APT's rule, exactly: blocks below a threshold of entropy, their number known from a table before they are planned."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.adaptive import PlannedBlocks
from data.counts import cache_file, counted, of_source
from data.errors import BadImage, DataError
from data.evaluation_plan import plan_evaluation
from data.rows import Pixels
from data.sampling.merge import MergeByThreshold, Merged
from data.sampling.packing import Packing
from data.sampling.resolution import Sides
from data.sources.folder import Folder
from data.sources.source import Arrays
from data.stream import Epochs
from harness.adaptive import merging
from navit_eqx import adaptive as fast
from navit_eqx.errors import ConfigError
from navit_eqx.images import pack
from navit_eqx.preprocessing import Area, Preprocessing
from navit_eqx.preprocessing import MergeByThreshold as Thresholds
from reference import adaptive as slow
from reference.rows import unpack
from tests.support.files import put
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.tolerances import FLOAT64, assert_close
from tests.test_adaptive import cut_by_hand, entropy, picture
from tests.test_merged_rows import COUNT, images
from tests.test_resolve import config_of, images_for

PATCH, T, TAU = (4, 4), 160, (4.5, 5.5)
LAW = Merged(Sides(36, 36), MergeByThreshold(TAU))


def by_hand(image: np.ndarray) -> np.ndarray:
    """A quadtree of one image, by entropies of single blocks."""
    grid = [n // side for n, side in zip(image.shape, PATCH)]
    scores = [np.zeros([n >> s for n in grid]) for s in range(3)]
    for s, score in enumerate(scores):
        for y, x in np.ndindex(score.shape):
            top, left, height, width = y * 4 << s, x * 4 << s, 4 << s, 4 << s
            score[y, x] = entropy(image[top : top + height, left : left + width])
    return cut_by_hand(scores, TAU)


@given(seed=seeds, grid=st.tuples(st.integers(1, 9), st.integers(1, 9)), top=st.sampled_from([2, 20, 256]))
@settings(max_examples=8)
@example(seed=0, grid=(2, 2), top=20)  # between the thresholds of two levels
@example(seed=0, grid=(1, 1), top=2)  # no block of level 1
def test_both_sides_cut_as_a_quadtree_by_hand(seed, grid, top):
    image = picture(seed, grid, PATCH, top)
    want, law = by_hand(image), MergeByThreshold(TAU)
    np.testing.assert_array_equal(law.cut(image, PATCH), want)
    np.testing.assert_array_equal(fast.levels_by_threshold(image, PATCH, Thresholds(TAU)), want)
    for one, other in zip(slow.entropy_scores(image, PATCH, 3), fast.entropy_scores(image, PATCH, 3)):
        assert_close(one, other, FLOAT64)
    blocks = sum(y % 2**s == x % 2**s == 0 for (y, x), s in np.ndenumerate(want))
    assert slow.quads_in(want) == fast.quads_in(want) == (want.size - blocks) / 3


def rows_of(source: Any, law: Any) -> tuple[PlannedBlocks, Any]:
    """Rows of an evaluation, and their plan."""
    packing = Packing(row_tokens=T, row_images=12)
    plan = plan_evaluation(source.manifest.sizes, patch_size=PATCH, resolution=law, packing=packing, longest_side=99)
    rows = PlannedBlocks(source, Epochs(lambda _: plan), 99, Pixels(PATCH), T, 0, None, merge=law.merge)
    return rows, plan


def test_what_was_counted_is_planned_and_loaded():
    """For every image, as many tokens as its own quadtree has; and thresholds decide, not a rate."""
    source = images()
    law: Any = of_source(LAW, source, PATCH)
    rows, plan = rows_of(source, law)
    found: dict[int, int] = {}
    for r in range(len(plan.kept)):
        row = rows[r]
        tokens = [len(x) for x in unpack(row.coords, row.segment_ids)]
        assert tokens == plan.kept[r][plan.kept[r] > 0].tolist()
        found |= dict(zip(row.image_ids[row.image_ids >= 0].tolist(), tokens))
    assert sorted(found) == list(range(COUNT))
    for i in range(0, COUNT, 5):
        grid = law.sampling.grids(np.random.default_rng(0), source.manifest.sizes[i : i + 1], PATCH)[0]
        image, _ = rows.picture(np.random.default_rng(0), i, (int(grid[0]) * 4, int(grid[1]) * 4))
        assert found[i] == grid.prod() - 3 * slow.quads_in(by_hand(image))
    shares = law.known / slow.most_quads(law.sampling.grids(np.random.default_rng(0), source.manifest.sizes, PATCH), 3)
    assert shares.std() > 0.01
    off = of_source(Merged(LAW.sampling, MergeByThreshold((-1.0, -1.0))), source, PATCH)
    assert isinstance(off, Merged) and off.known is not None and not off.known.any()


def test_the_front_door_counts_as_the_table():
    source = images()
    law: Any = of_source(Merged(Sides(24, 24), MergeByThreshold(TAU)), source, PATCH)
    how = Preprocessing(Area(24), row_tokens=64, merge=Thresholds(TAU))
    batch = pack(source.images, preprocessing=how, patch=PATCH)
    found = {int(i): (batch.segment_ids[r] == s + 1).sum() for (r, s), i in np.ndenumerate(batch.image_ids) if i >= 0}
    grids = law.grids(np.random.default_rng(0), source.manifest.sizes, PATCH)
    assert [found[i] for i in range(COUNT)] == law.token_counts(grids).tolist()


class Broken(Arrays):
    """A source whose second image cannot be read."""

    def image(self, index: int, shrink: int = 1) -> np.ndarray:
        if index == 1:
            raise BadImage("broken")
        return super().image(index, shrink)


def test_a_table_is_of_these_images(tmp_path, monkeypatch):
    """Cached for files, by size and thresholds; a changed image is refused; an unreadable one merges nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for i in range(4):
        put(tmp_path / f"images/train/{i % 2}/{i}.png", i)
    read = lambda: Folder().open(str(tmp_path / "images"), "train")
    first = counted(read(), LAW, PATCH)
    monkeypatch.setattr("data.counts.count", lambda *_: -7)
    np.testing.assert_array_equal(counted(read(), LAW, PATCH), first)
    assert (counted(read(), Merged(Sides(20, 20), LAW.merge), PATCH) == -7).all()
    assert (counted(read(), replace(LAW, merge=MergeByThreshold((1.0, 1.0))), PATCH) == -7).all()
    assert cache_file(images(), LAW, PATCH, np.zeros((1, 2), np.int32)) is None
    monkeypatch.undo()
    flat = np.zeros((40, 40, 3), np.uint8)
    assert counted(Broken([flat, flat], np.zeros(2, int), ("a",)), LAW, PATCH).tolist() == [20, 0]
    with pytest.raises(DataError, match="it has changed"):
        LAW.merge.levels(flat, PATCH, 3)


def test_training_by_thresholds_is_refused():
    config = config_of(merge=MergeByThreshold())
    with pytest.raises(ConfigError, match="counts tokens of images as they are evaluated"):
        merging(config, images_for(config))


def test_a_threshold_that_is_met_is_caught(monkeypatch):
    """A score at the threshold is not below it, flat blocks score 0; each level has its own."""
    flat = np.zeros((8, 8, 3), np.uint8)
    assert not MergeByThreshold((0.0,)).cut(flat, PATCH).any() and MergeByThreshold((1e-9,)).cut(flat, PATCH).all()
    import data.sampling.merge as law

    right = law.cut_by_threshold
    monkeypatch.setattr(
        law, "cut_by_threshold", lambda scores, tau: right(scores, [np.nextafter(t, 9) for t in tau[::-1]])
    )
    caught(test_both_sides_cut_as_a_quadtree_by_hand)
