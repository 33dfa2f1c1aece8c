"""Rates of merging and dropping that follow the content of images: known before a row is read, on both sides."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.adaptive import PlannedBlocks
from data.complexity import cache_file, measure, with_complexity
from data.errors import BadImage, DataError
from data.plan import NOTHING, EpochPlans, plan_epoch
from data.rows import Pixels
from data.sampling.dropping import ByContent
from data.sampling.merge import Merge, MergeByContent, Merged, law_of
from data.sampling.packing import Packing
from data.sampling.resolution import Sides
from data.sources.digits import Digits
from data.sources.folder import Folder
from data.sources.moving_digits import MovingDigits
from data.sources.source import Arrays, Source
from data.stream import Epochs
from harness import lengths
from harness.content import content
from harness.evaluation.loaded import merging_of
from harness.lengths import Images, expected_lengths
from harness.presets import digits
from harness.run.loading import open_source
from navit_eqx import complexity as fast
from navit_eqx.images import ImageError, pack
from navit_eqx.preprocessing import Area, Kernel, Preprocessing
from reference.adaptive import most_quads
from reference.rows import unpack
from reference.sampling import complexity as slow
from tests.support.files import put
from tests.support.laws import caught
from tests.support.plans import per_image
from tests.support.strategies import seeds
from tests.support.tolerances import EXACT, assert_close
from tests.test_resolve import config_of, images_for

PATCH, T, COUNT = (4, 4), 128, 64
PACKING, SIZES = Packing(row_tokens=T, row_images=16), Sides(24, 36)


@lru_cache
def images() -> Source:
    """Noise of rising strength on gray: the last is the most complex."""
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, i + 1, (*rng.integers(20, 150, 2), 3)) for i in range(COUNT)]
    pictures = [(128 + x).clip(0, 255).astype(np.uint8) for x in noise]
    return with_complexity(Arrays(pictures, np.zeros(COUNT, int), ("a",)))


def complexity() -> np.ndarray:
    known = images().manifest.complexity
    assert known is not None
    return known


def quantiles() -> tuple[float, ...]:
    return tuple(slow.quantiles_of(complexity(), 16).tolist())


# the number ---------------------------------------------------------------------------------------------


@given(seed=seeds, size=st.tuples(st.integers(1, 300), st.integers(1, 300)), channels=st.sampled_from([1, 3]))
@settings(max_examples=10)
def test_complexity_is_the_error_of_boxes(seed, size, channels):
    """By loops, and by both sides, to the bit of bytes; whole boxes of about 64² pixels, never more than the image."""
    height, width = slow.complexity_size(size)
    assert fast.complexity_size(size) == (height, width) and not height % 4 and not width % 4
    assert height <= size[0] + 3 and width <= size[1] + 3
    assert height * width < 2 * 64**2 or 4 in (height, width)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)
    assert slow.complexity(image) == fast.complexity(image)
    error = 0.0
    for y, x, c in np.ndindex(height, width, channels):
        top, left = y // 4 * 4, x // 4 * 4
        error += (image[y, x, c] - image[top : top + 4, left : left + 4, c].mean()) ** 2
    assert_close(slow.complexity(image), np.sqrt(error / image.size), EXACT)
    assert slow.complexity(np.full_like(image, 77)) == 0


@given(seed=seeds, count=st.integers(1, 20), mean=st.floats(0, 1), spread=st.floats(0, 1), top=st.integers(1, 30))
@settings(max_examples=20)
def test_the_mean_rate_is_that_of_the_law(seed, count, mean, spread, top):
    """Over images at the quantiles, ties or not; no rate is outside [0, 1]; a more complex image loses no more."""
    q = np.sort(np.random.default_rng(seed).integers(0, top, count)).astype(float)
    rates = slow.rate_by_complexity(mean, spread, slow.ranks(q, q.tolist()))
    assert_close(rates.mean(), mean, EXACT)
    assert -EXACT <= rates.min() and rates.max() <= 1 + EXACT and (np.diff(rates) <= EXACT).all()
    one = [fast.rate_by_complexity(mean, spread, fast.rank(x, q.tolist())) for x in q.tolist()]
    assert_close(rates, one, EXACT)


def test_the_measure_sees_content_not_size():
    """Noise twice as strong is twice as complex, to rounding; an image of large pixels is the small one."""
    noise = np.random.default_rng(0).normal(0, 10, (64, 64, 3))
    weak, strong = ((128 + s * noise).clip(0, 255).astype(np.uint8) for s in (1, 2))
    enlarged, flat = weak.repeat(8, 0).repeat(8, 1), np.full((9, 700, 3), 5, np.uint8)
    one, two, large, none = (measure(Arrays([x], np.zeros(1, int), ("a",)), 0) for x in (weak, strong, enlarged, flat))
    assert 1.9 * one < two < 2.1 * one and none == 0
    assert 0.5 * one < large <= one  # bilinear, with a wider filter than a box


# plans --------------------------------------------------------------------------------------------------


def plan_of(merge: Merge | None, dropping: Any = NOTHING, seed: int = 3, packing: Packing = PACKING, **more):
    return plan_epoch(
        images().manifest.sizes, seed=seed, epoch=0, patch_size=PATCH, resolution=law_of(SIZES, merge),
        dropping=dropping, packing=packing, longest_side=99, complexity=complexity(), **more,
    )  # fmt: skip


def test_complex_images_keep_more_tokens():
    """k = ⌊rate · most⌋ with the rate of each image; the mean of the rates is that of the law."""
    merge = MergeByContent(0.5, spread=0.4, quantiles=quantiles())
    plan = plan_of(merge)
    grids = per_image(plan, plan.grids, COUNT)
    rates = slow.rate_by_complexity(0.5, 0.4, slow.ranks(complexity(), quantiles()))
    np.testing.assert_array_equal(grids[:, 0], np.floor(rates * most_quads(grids[:, 1:], 3) + 1e-9))
    assert abs(rates.mean() - 0.5) < 1 / COUNT
    order = np.argsort(complexity())
    assert rates[order[:8]].mean() > 0.85 and rates[order[-8:]].mean() < 0.15
    same, law = plan_of(Merge(0.5)), plan_of(replace(merge, spread=0.0))
    for one, other in zip(same[:4], law[:4]):  # without a spread it is `Merge`
        np.testing.assert_array_equal(one, other)


def test_plain_images_drop_more_tokens():
    plan, whole = plan_of(None, ByContent(0.2, 0.6, quantiles())), plan_of(None)
    kept, all_tokens = (per_image(p, p.kept, COUNT) for p in (plan, whole))
    rates = slow.rate_by_complexity(0.4, 0.2, slow.ranks(complexity(), quantiles()))
    np.testing.assert_array_equal(kept, np.maximum(1, np.floor(all_tokens * (1 - rates) + 1e-9)))
    assert abs(rates.mean() - 0.4) < 1 / COUNT and rates.min() >= 0.2 - EXACT and rates.max() <= 0.6 + EXACT


@pytest.mark.parametrize("seed", [0, 1])
def test_an_image_has_its_rate_wherever_it_stands(seed):
    """In any order, epoch and block of the plan."""
    merge = MergeByContent(0.5, quantiles=quantiles())
    how: Any = dict(seed=seed, packing=Packing(row_tokens=999, row_images=8))
    for each in (plan_of(merge, **how), *(plan_of(merge, **how, block=b, blocks=3) for b in range(3))):
        used = each.image_ids >= 0
        rates = slow.rate_by_complexity(0.5, 0.4, slow.ranks(complexity()[each.image_ids[used]], quantiles()))
        quads, grids = each.grids[used][:, 0], each.grids[used][:, 1:]
        np.testing.assert_array_equal(quads, np.floor(rates * most_quads(grids, 3) + 1e-9))


def test_what_is_planned_is_loaded():
    merge, source = MergeByContent(0.5, quantiles=quantiles(), rule="area"), images()
    sampling: dict[str, Any] = dict(seed=3, patch_size=PATCH, resolution=law_of(SIZES, merge), dropping=NOTHING)
    plans = EpochPlans(source, sampling | {"packing": PACKING, "longest_side": 99})
    rows = PlannedBlocks(source, Epochs(plans), 10**6, Pixels(PATCH), T, 3, None, merge=merge)
    plan = rows.epochs.planned(0)
    for r in range(0, len(plan.kept), 5):
        row = rows[r]
        assert [len(x) for x in unpack(row.coords, row.segment_ids)] == plan.kept[r][plan.kept[r] > 0].tolist()
    known = source.manifest
    other = replace(known, complexity=complexity()[::-1])
    assert known.digest != other.digest  # a run does not continue with other numbers


@pytest.mark.parametrize("rule", ["pi", "area"])
def test_the_front_door_merges_as_training_does(rule):
    """As many quads in each image, from its pixels alone."""
    source, merge = images(), MergeByContent(0.5, quantiles=quantiles(), rule=rule)
    law = replace(Merged(Sides(24, 24), merge), known=complexity())
    grids = law.grids(np.random.default_rng(0), source.manifest.sizes, PATCH)
    saved = merging_of(merge)
    how = Preprocessing(Area(24), row_tokens=64, merge=saved and replace(saved, kernel=Kernel(PATCH)))
    batch = pack(source.images, preprocessing=how, patch=PATCH)  # pyright: ignore[reportAttributeAccessIssue]
    found = {int(i): (batch.segment_ids[r] == s + 1).sum() for (r, s), i in np.ndenumerate(batch.image_ids) if i >= 0}
    assert [found[i] for i in range(COUNT)] == law.token_counts(grids).tolist()
    assert len({*found.values()}) > 10
    with pytest.raises(ImageError, match="finite"):
        pack([np.full((30, 30, 3), np.nan, np.float32)], preprocessing=how, patch=PATCH)


# measuring ----------------------------------------------------------------------------------------------


def test_files_are_measured_once(tmp_path, monkeypatch):
    """Read from the cache in the next run; again where a file changed, or the cache is damaged."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for i in range(4):
        put(tmp_path / f"images/train/{i % 2}/{i}.png", i)
    read = lambda: with_complexity(Folder().open(str(tmp_path / "images"), "train"))
    first = read().manifest
    monkeypatch.setattr("data.complexity.measure", lambda source, index: -1.0)
    np.testing.assert_array_equal(read().manifest.complexity, first.complexity)
    file = cache_file(replace(first, complexity=None))
    assert file is not None and file.exists()
    file.write_bytes(file.read_bytes()[:-30])
    assert (read().manifest.complexity == -1).all()
    assert cache_file(replace(first, complexity=None, stamp="other")) != file
    assert cache_file(images().manifest) is None  # arrays in memory may change unseen


class Broken(Arrays):
    def image(self, index: int, shrink: int = 1) -> np.ndarray:
        if index == 1:
            raise BadImage("broken")
        return super().image(index, shrink)


def test_what_cannot_be_measured():
    """An image that cannot be read is as plain as can be; clips have no complexity."""
    some = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    known = with_complexity(Broken([*some], np.zeros(2, int), ("a",))).manifest.complexity
    assert known is not None and known[0] > 1 and known[1] == 0
    with pytest.raises(DataError, match="clips"):
        with_complexity(MovingDigits().open("", "val"))


def test_quantiles_are_those_of_the_training_images():
    """And lengths are expected by them."""
    manifest = images().manifest
    laws: list[dict[str, Any]] = [{"merge": MergeByContent(0.5)}, {"dropping": ByContent()}]
    for data in laws:
        config = config_of(**data)
        some = Images(manifest, images_for(config).task)
        after, notes = content(config, some)
        (law,) = [x for x in (after.data.merge, after.data.dropping) if isinstance(x, MergeByContent | ByContent)]
        assert_close(law.quantiles, quantiles(), 1e-3)
        assert len(notes) == 1 and content(after, some) == (after, [])
        after = replace(after, data=replace(after.data, resolution=Sides(160, 160)))
        tokens = expected_lengths(after, manifest)
        assert np.corrcoef(tokens, complexity())[0, 1] > 0.5
    for wrong in (lambda: MergeByContent(0.5, quantiles=(2.0, 1.0)), lambda: ByContent(quantiles=(2.0, 1.0))):
        with pytest.raises(ValueError, match="rise"):
            wrong()
    assert [MergeByContent(r, spread=0.3).highest for r in (0.1, 0.5, 0.9)] == [0.2, 0.8, 1.0]


@pytest.mark.parametrize(
    "data, measured", [({"merge": MergeByContent()}, True), ({"dropping": ByContent()}, True), ({}, False)]
)
def test_what_follows_complexity_is_measured(data, measured):
    config = digits()
    config = replace(config, data=replace(config.data, source=Digits(4, 2), **data))
    assert all((open_source(config, split).manifest.complexity is not None) == measured for split in ("train", "val"))


def test_of_many_images_sizes_and_complexity_are_those_of_the_same(monkeypatch):
    known = images().manifest
    manifest = replace(known, complexity=known.sizes.prod(-1).astype(np.float32))
    for enough in (10, COUNT, 2 * COUNT):
        monkeypatch.setattr(lengths, "ENOUGH", enough)
        some = lengths.complexity_of(manifest)
        assert some is not None and len(some) <= enough
        np.testing.assert_array_equal(some, lengths.enough(manifest).prod(-1))


def test_a_plan_that_shuffles_images_without_their_complexity_is_caught(monkeypatch):
    import data.plan as plans

    right = plans.of_images
    monkeypatch.setattr(plans, "of_images", lambda law, c: right(law, np.sort(c)))
    caught(test_an_image_has_its_rate_wherever_it_stands, 0)
