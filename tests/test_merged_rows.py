"""Merged images in plans and rows: what was planned is what is loaded, and an image does not depend on its row."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.adaptive import PlannedBlocks
from data.errors import DataError
from data.evaluation_plan import of_two_lengths, packing_at, plan_evaluation
from data.plan import NOTHING, EpochPlans, plan_epoch
from data.rows import Pixels, PlannedRows
from data.sampling.augment import Augment
from data.sampling.dropping import Beta, Constant, Dropping
from data.sampling.merge import Merge, MergeByContent, MergeByThreshold, Merged, law_of
from data.sampling.packing import Packing, Template
from data.sampling.patch_size import PerImage, PerStep
from data.sampling.resolution import Clips, Native, Sides, TokenBudget, WholeBlocks
from data.sampling.token_selection import ByContrast, Spread
from data.sources.source import Arrays
from data.stream import Epochs
from harness.adaptive import merging
from harness.evaluation.pictures import blocks, image_of
from navit_eqx import preprocessing
from navit_eqx.config import Flexi, Levels
from navit_eqx.errors import ConfigError
from navit_eqx.images import pack, unpack_tokens
from navit_eqx.preprocessing import Area, Kernel, Preprocessing
from navit_eqx.tasks.config import Distill
from reference.adaptive import block_sums, most_quads
from reference.patches import normalize, unpatchify
from reference.resize import FLEXIVIT, base_patches
from reference.rows import unpack
from reference.sampling.dropping import kept_tokens
from tests.support.laws import caught
from tests.support.plans import holds_every_image_once, per_image
from tests.support.strategies import seeds
from tests.support.tolerances import HALF, assert_close
from tests.test_resolve import config_of, images_for

PATCH, T, I = (4, 4), 96, 12
PACKING = Packing(row_tokens=T, row_images=I)
SIZES = Sides(14, 36)
DRAWN = Merge(0.9, lowest=0.1)
COUNT = 30


@lru_cache
def images() -> Arrays:
    """Noise beside flat color, so that blocks of all sizes occur."""
    rng = np.random.default_rng(0)

    def one(size) -> np.ndarray:
        image = np.repeat(rng.integers(0, 256, (1, 1, 3)), size[0], 0).repeat(size[1], 1)
        image[:, : size[1] // 2] = rng.integers(0, 256, (size[0], size[1] // 2, 3))
        return image.astype(np.uint8)

    return Arrays([one(size) for size in rng.integers(12, 60, (COUNT, 2))], np.zeros(COUNT, int), ("a",))


def rows_of(merge: Merge | None, dropping: Dropping = NOTHING, mapped=None, augment=None, patches: Any = PATCH, **more):
    """Rows of an epoch, merged or not, and their plan."""
    law, source = SIZES if merge is None else Merged(SIZES, merge), images()
    mapped = merge is not None and merge.rule == "pi" if mapped is None else mapped
    sampling = dict(seed=3, patch_size=patches, resolution=law, dropping=dropping, packing=PACKING, longest_side=20)
    epochs = Epochs(EpochPlans(source, sampling))
    kind = PlannedRows if merge is None else partial(PlannedBlocks, merge=merge)
    pixels = Pixels(PATCH, 3, interpolation=FLEXIVIT if mapped else None)
    return kind(source, epochs, 10**6, pixels, T, 3, augment, **more), epochs.planned(0)


# plans --------------------------------------------------------------------------------------------------


@given(seed=seeds, rate=st.floats(0, 1), scales=st.integers(2, 4), drop=st.sampled_from([0.0, 0.4]))
@settings(max_examples=10)
def test_tokens_are_counted_before_a_pixel_is_read(seed, rate, scales, drop):
    """kept = max(1, ⌊(n_y n_x − 3 k)(1 − d)⌋) with k = ⌊rate · most_quads⌋; merged first, then dropped."""
    sizes = np.random.default_rng(seed).integers(10, 90, (40, 2)).astype(np.int32)
    how: dict[str, Any] = dict(
        seed=seed % 999, epoch=0, patch_size=PATCH, dropping=Constant(drop), packing=PACKING, longest_side=99
    )
    plan = plan_epoch(sizes, resolution=Merged(SIZES, Merge(rate, scales=scales)), **how)
    how["packing"] = Packing(row_tokens=999, row_images=40)
    plain = plan_epoch(sizes, resolution=SIZES, **how)
    used = plan.image_ids >= 0
    quads, grids = plan.grids[used][:, 0], plan.grids[used][:, 1:]
    np.testing.assert_array_equal(quads, np.floor(rate * most_quads(grids, scales) + 1e-9))
    tokens = grids.prod(-1) - 3 * quads
    np.testing.assert_array_equal(plan.kept[used], kept_tokens(tokens, np.full(len(tokens), drop)))
    assert (plan.kept.sum(-1) <= T).all() and (used.any(-1)).all()
    np.testing.assert_array_equal(  # resolutions are those without merging
        per_image(plan, plan.grids, 40)[plan.image_ids[used], 1:],
        per_image(plain, plain.grids, 40)[plan.image_ids[used]],
    )
    for number, why in plan.left_out:
        assert "patches" in why and "merges" in why, number


def test_rates_are_drawn_in_their_range_and_evaluation_draws_none():
    grids, rng = np.full((500, 2), 16), np.random.default_rng(0)
    most, sizes = int(most_quads(grids[0], 3)), grids * 4
    quads = DRAWN.quads(rng, grids) / most
    assert 0.1 - 1 / most <= quads.min() < 0.2 and 0.8 < quads.max() <= 0.9
    law = Merged(Sides(16, 64), DRAWN).at(32)
    assert law == Merged(Sides(32, 32), Merge(0.9)) and law.spread == (32, 32)
    one, other = (law.grids(np.random.default_rng(s), sizes, PATCH) for s in (0, 1))
    np.testing.assert_array_equal(one, other)


def test_an_evaluation_has_every_image_once():
    law, sizes = Merged(TokenBudget(200), Merge(0.5)), images().manifest.sizes
    packing = packing_at(PACKING, law, sizes, PATCH, longest_side=99)
    plan = plan_evaluation(sizes, patch_size=PATCH, resolution=law, packing=packing, longest_side=99)
    holds_every_image_once(plan._replace(grids=plan.grids[..., 1:]), COUNT, packing)
    parts = [*of_two_lengths(plan, packing, T)]
    assert [tokens for tokens, _ in parts] == [packing.row_tokens] and packing.shape[0] < 200


# rows ---------------------------------------------------------------------------------------------------


def own_cells(coords, grid) -> np.ndarray:
    """How many tokens cover each cell."""
    covered = np.zeros(grid.astype(int), int)
    for level, y, x in coords:
        side = 2 ** int(level)
        top, left = (round(float(n + 0.5 - side / 2)) for n in (y, x))
        covered[top : top + side, left : left + side] += 1
    return covered


@pytest.mark.parametrize("rule", ["pi", "area"])
@pytest.mark.parametrize("dropping", [Constant(0.0), Beta(0.4, 0.8)], ids=["all", "dropped"])
def test_what_is_planned_is_loaded(rule, dropping):
    """As many tokens as planned; they cover each cell of the image once, or, where some were dropped, at most once."""
    rows, plan = rows_of(replace(DRAWN, rule=rule), dropping)
    assert len(plan.kept) > 2
    for r in range(len(plan.kept)):
        row = rows[r]
        found = unpack(row.coords, row.segment_ids)
        assert [len(x) for x in found] == plan.kept[r][plan.kept[r] > 0].tolist()
        assert row.patches.dtype == (np.float16 if rule == "pi" else np.uint8) and row.patches.shape == (T, 48)
        for coords, grid in zip(found, row.grids):
            covered = own_cells(coords, grid[1:])
            assert covered.max() == 1 and (covered.all() or isinstance(dropping, Beta))
    levels = np.concatenate([rows[r].coords[:, 0] for r in range(len(plan.kept))])
    assert {*levels.tolist()} == {0, 1, 2}


def test_an_image_does_not_depend_on_its_row():
    """Nor on what was planned for others, in patches of any size: its tokens follow from seed, epoch, number, grid and
    quads alone."""
    how = Augment(flip=True, crop=0.5, quarter_turns=True)
    rows, plan = rows_of(DRAWN, Beta(0.3, 0.6), augment=how, patches=PerImage((4, 6)))
    assert len(np.unique(plan.patch_sizes[:2])) >= 2
    for r in range(2):
        row = rows[r]
        for slot in range(int(row.segment_ids.max())):
            image, (height, width) = int(plan.image_ids[r, slot]), plan.patch_sizes[r, slot].tolist()
            patch = height, width
            alone, how = rows.tokens(0, image, plan.grids[r, slot], int(plan.kept[r, slot]), patch)
            here = row.segment_ids == slot + 1
            np.testing.assert_array_equal(row.patches[here], alone.patches)
            np.testing.assert_array_equal(row.coords[here], alone.coords)
            assert how.image_id == image and sorted(row.grids[slot, 1:]) == sorted(plan.grids[r, slot, 1:])


def test_nothing_merged_is_what_it_was():
    """To the bit, with means of boxes; mapped patches of the size of the kernel are rounded to float16."""
    plain, plan = rows_of(None)
    for rule in ("area", "pi"):
        rows, same = rows_of(Merge(0.0, rule=rule))
        np.testing.assert_array_equal(plan.image_ids, same.image_ids)
        got, want = rows[0], plain[0]
        np.testing.assert_array_equal(got.coords[:, 1:], want.coords)
        np.testing.assert_array_equal(got.segment_ids, want.segment_ids)
        assert not got.coords[:, 0].any()
        np.testing.assert_array_equal(got.grids, np.insert(want.grids, 0, want.grids[:, 0] > 0, axis=1))
        if rule == "area":
            np.testing.assert_array_equal(got.patches, want.patches)
        else:
            real = want.segment_ids > 0
            assert_close(got.patches[real], normalize(want.patches)[real], HALF)


def test_a_rate_of_zero_is_no_merging():
    """The plan is that without merging, and so are rows of `navit.pack`: the plain program reads them."""
    for merge in (Merge(0.0), MergeByContent(0.0), Merge(0.0, rule="area")):
        assert law_of(SIZES, merge) is SIZES
    for merge in (Merge(0.1), Merge(0.1, lowest=0.0), MergeByContent(0.1), MergeByThreshold((-1.0,))):
        assert law_of(SIZES, merge) == Merged(SIZES, merge)
    how = Preprocessing(Area(24), row_tokens=64)
    one, other = (
        pack(images().images[:3], preprocessing=replace(how, merge=merge), patch=PATCH)
        for merge in (None, preprocessing.Merge(0.0))
    )
    for got, want in zip(one, other, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@given(seed=seeds, channels=st.sampled_from([1, 3, 4]), means=st.booleans())
@settings(max_examples=6)
def test_bytes_are_mapped_by_a_table_to_the_bit(seed, channels, means):
    """What `base_patches` computes, for every byte, and means for one or for each channel."""
    rng = np.random.default_rng(seed)
    count = channels if means else 1
    mean, std = (tuple(float(x) for x in rng.uniform(0.1, 0.9, count)) for _ in "ms")
    pixels = Pixels(PATCH, channels, mean, std, FLEXIVIT)
    bytes_ = np.tile(np.arange(256, dtype=np.uint8), (16 * channels)).reshape(-1, 16 * channels)
    want = base_patches(normalize(bytes_, mean, std), PATCH, PATCH, FLEXIVIT)
    got = pixels.as_stored(bytes_, PATCH)
    assert got.dtype == want.dtype == np.float16
    np.testing.assert_array_equal(got, want)


def test_large_blocks_are_where_least_is_lost():
    """The flat half of an image is merged first; bytes of a block are means of its pixels, rounded."""
    rows, plan = rows_of(Merge(0.5, rule="area"))
    row = rows[0]
    coords = row.coords[row.segment_ids == 1]
    middle = row.grids[0, 2] / 2 - 0.5
    assert coords[coords[:, 0] > 0][:, 2].mean() > middle > coords[coords[:, 0] == 0][:, 2].mean()
    picture, _ = rows.picture(
        np.random.default_rng(0), int(plan.image_ids[0, 0]), tuple((4 * plan.grids[0, 0, 1:]).tolist())
    )
    level, y, x = coords[coords[:, 0] > 0][0]
    side = 2 ** int(level)
    top, left = (round(float(n + 0.5 - side / 2)) * 4 for n in (y, x))
    here = picture[top : top + 4 * side, left : left + 4 * side].astype(float)
    want = np.rint(block_sums(here, (side, side)) / side**2)
    got = row.patches[np.flatnonzero((row.segment_ids == 1) & (row.coords == [level, y, x]).all(-1))[0]]
    np.testing.assert_array_equal(got, want.ravel())


@pytest.mark.parametrize("rule", ["pi", "area"])
def test_the_front_door_packs_what_training_reads(rule):
    """The same partitions, places and bytes; mapped patches by two formulas, rounded to float16."""
    source, merge = images(), Merge(0.6, rule=rule)
    law, rows = Merged(Sides(24, 24), merge), rows_of(merge)[0]
    grids = law.grids(np.random.default_rng(0), source.manifest.sizes, PATCH)
    how = Preprocessing(Area(24), row_tokens=64, merge=preprocessing.Merge(0.6, 3, rule, Kernel(PATCH)))
    batch = pack(source.images, preprocessing=how, patch=PATCH)
    for i, coords in enumerate(unpack_tokens(batch, batch.coords)):
        want, _ = rows.tokens(0, i, grids[i], int(law.token_counts(grids)[i]), PATCH)
        np.testing.assert_array_equal(coords, want.coords)
        got = unpack_tokens(batch, batch.patches)[i]
        assert got.dtype == want.patches.dtype
        assert_close(got, want.patches, HALF if rule == "pi" else 0.0)
    with pytest.raises(ValueError, match="kernel"):
        pack(source.images, preprocessing=replace(how, merge=preprocessing.Merge()), patch=PATCH)


def test_images_that_cannot_be_read_leave_their_place():
    rows, plan = rows_of(DRAWN)
    rows.source = BrokenFirst(images(), int(plan.image_ids[0, 0]))
    got, want = rows[0], rows_of(DRAWN)[0][0]
    first = want.segment_ids == 1
    np.testing.assert_array_equal(got.patches[~first], want.patches[~first])
    assert not got.segment_ids[first].any()
    empty = rows.nothing(np.array(PATCH))
    assert empty.patches.shape == (0, 48) and empty.coords.shape == (0, 3)


class BrokenFirst(Arrays):
    """A source of which one image cannot be read."""

    def __init__(self, source: Arrays, bad: int):
        self.images, self.manifest, self.bad = source.images, source.manifest, bad

    def image(self, index: int, shrink: int = 1) -> np.ndarray:
        from data.errors import BadImage

        if index == self.bad:
            raise BadImage("broken")
        return super().image(index, shrink)


def test_patches_of_several_sizes_and_levels_share_a_row():
    """Images cut at another patch size than the kernel's are mapped to it, whatever the rule."""
    for rule in ("pi", "area"):
        rows, _ = rows_of(Merge(0.5, rule=rule), mapped=True)
        flat = replace(rows, source=Arrays([np.full((40, 40, 3), 51, np.uint8)] * COUNT, np.zeros(COUNT, int), ("a",)))
        image, _ = flat.tokens(0, 0, np.array([5, 6, 6]), 21, (6, 6))
        assert image.patches.shape == (21, 48) and image.patches.dtype == np.float16
        assert_close(image.patches, np.full((21, 48), 0.2 * 2 - 1), 4 * HALF)


def test_a_picture_shows_blocks_in_their_place():
    rows, plan = rows_of(Merge(0.0, rule="area"))
    row, plain = rows[0], rows_of(None)[0][0]
    want = unpatchify(plain.patches[plain.segment_ids == 1], plain.grids[0], PATCH)
    np.testing.assert_array_equal(image_of(row, 1, PATCH), want)
    assert (blocks(plain, 1)[:, 2] == 1).all()
    rows, plan = rows_of(Merge(1.0, rule="area"))
    shown, (picture, _) = (
        image_of(rows[0], 1, PATCH),
        rows.picture(np.random.default_rng(0), int(plan.image_ids[0, 0]), tuple((4 * plan.grids[0, 0, 1:]).tolist())),
    )
    assert shown.shape == picture.shape
    assert_close(shown.mean((0, 1)), picture.mean((0, 1)), 2 / 51)


# what does not go together -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "data", "more"),
    [
        ("not enlarged", {"packing": Packing(fill="resolution")}, {}),
        ("patches of one size", {"token_selection": ByContrast()}, {}),
        ("--data.merge.rule area", {"patch_sizes": PerStep()}, {"flexi": Flexi((8, 16))}),
    ],
)
def test_what_does_not_go_with_merging_is_refused(words, data, more):
    config = config_of(**more, **data, merge=Merge())
    with pytest.raises(ConfigError, match=words):
        merging(config, images_for(config))
    merging(replace(config, data=replace(config.data, merge=None)), images_for(config))


def test_merged_images_have_no_teacher():
    config = config_of(merge=Merge())
    with pytest.raises(ConfigError, match="have no teacher"):
        merging(replace(config, task=Distill("runs/teacher")), images_for(config))


def test_what_goes_with_merging():
    for data in ({"patch_sizes": PerImage()}, {"patch_sizes": PerStep(), "merge": Merge(rule="area")}):
        more: Any = {"merge": Merge(), "token_selection": Spread()} | data
        config = config_of(flexi=Flexi((8, 16)), **more)
        assert merging(config, images_for(config)) == (config, [])
    config = config_of(merge=Merge(scales=4))
    config = replace(config, model=replace(config.model, levels=Levels(3)))
    with pytest.raises(ConfigError, match=r"model\.levels has 3"):
        merging(config, images_for(config))
    for law in (Clips(Native()), WholeBlocks(Native())):
        with pytest.raises(ConfigError, match="data.merge .*: --data.merge none"):
            config_of(resolution=law, merge=Merge())
    with pytest.raises(DataError, match="Template"):
        plan_epoch(
            np.full((9, 2), 40), seed=0, epoch=0, patch_size=PATCH, resolution=Merged(SIZES, Merge()), longest_side=99,
            dropping=Constant(0.2), packing=Packing(40, 4, Template((10, 10, 10, 10))),
        )  # fmt: skip
    with pytest.raises(ValueError, match="lowest"):
        Merge(0.2, lowest=0.5)


def test_a_count_that_ignores_merging_is_caught(monkeypatch):
    """Plan and load would differ."""
    monkeypatch.setattr(Merged, "token_counts", lambda self, grids: grids[..., 1:].prod(-1))
    caught(test_what_is_planned_is_loaded, "area", Constant(0.0))
