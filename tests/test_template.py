"""Rows cut into the same windows: nothing of an image is lost, counts follow the law, and the mask is not missed."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.plan import plan_epoch
from data.rows import in_place
from data.sampling.dropping import Beta, ByResolution, Constant
from data.sampling.packing import Packing, Template
from data.sampling.patch_size import PerStep
from data.sampling.resolution import Sides
from harness.digit_presets import large_digits
from harness.resolve import template
from harness.run.attention import shape_for
from navit_eqx.config import Dense, ModelConfig, Windows
from navit_eqx.errors import ConfigError
from navit_eqx.kernels import packed_attention, windows
from reference.packing import exact_fit
from reference.rows import pack
from reference.sampling.dropping import kept_tokens
from reference.template import enlarged, template_rows, windows_of
from tests.support.laws import caught
from tests.support.strategies import seeds, tokens_of
from tests.support.tolerances import FLOAT64, GRADIENT64, assert_close

WINDOWS = (5, 4, 4, 2, 1)
T, SLOTS = sum(WINDOWS), len(WINDOWS)
LAWS = {"beta": Beta(0.5, 0.9), "constant": Constant(0.4), "by_resolution": ByResolution(0.2, 0.7, 8, 200)}


def images(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that images have, and would keep."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 9, count)
    return np.maximum(1, (tokens * rng.random(count)).astype(int)), tokens


# rows ---------------------------------------------------------------------------------------------------


def every_window_has_one_image(kept, tokens, rows_of) -> None:
    """All images once; row after row the windows in order, only the last row may lack some; counts are windows."""
    rows, now = rows_of(kept, tokens, WINDOWS)
    assert sorted(sum(rows, [])) == list(range(len(kept)))
    assert all(now[row].tolist() == list(WINDOWS[: len(row)]) for row in rows)
    assert all(len(row) == SLOTS for row in rows[:-1])


def only_images_that_lack_are_enlarged(kept, tokens, rows_of) -> None:
    """Where enough images are as large as each window, none keeps more than it has."""
    rows, now = rows_of(kept, tokens, WINDOWS)
    needed = np.cumsum([sum(len(row) > j for row in rows) for j in range(SLOTS)])
    if all((tokens >= window).sum() >= count for window, count in zip(WINDOWS, needed)):
        assert (now <= tokens).all()
    grids = enlarged(np.stack([tokens, np.ones_like(tokens)], -1), now)
    assert (grids.prod(-1) >= now).all() and (grids.prod(-1)[now <= tokens] == tokens[now <= tokens]).all()


def larger_counts_get_larger_windows(kept, tokens, rows_of) -> None:
    """Of images that are as large as any window, one that would keep more never keeps less."""
    now = rows_of(kept, tokens + max(WINDOWS), WINDOWS)[1]
    order = np.argsort(kept, kind="stable")
    groups = [now[kept == n] for n in np.unique(kept[order])]
    assert all(small.max() <= large.min() for small, large in zip(groups, groups[1:]))


@given(seeds, st.integers(1, 40))
def test_rows(seed, count):
    kept, tokens = images(seed, count)
    every_window_has_one_image(kept, tokens, template_rows)
    only_images_that_lack_are_enlarged(kept, tokens, template_rows)
    larger_counts_get_larger_windows(kept, tokens, template_rows)


def test_wrong_rows_are_caught():
    kept, tokens = images(3, 40)

    def changed(change):
        def rows_of(kept, tokens, windows):
            rows, now = template_rows(kept, tokens, windows)
            return change([list(row) for row in rows], now.copy(), kept)

        return rows_of

    def twice(rows, now, kept):
        rows[1][0] = rows[0][0]
        return rows, now

    caught(every_window_has_one_image, kept, tokens, changed(twice))
    caught(every_window_has_one_image, kept, tokens, changed(lambda rows, now, kept: (rows[::-1][1:], now)))
    caught(every_window_has_one_image, kept, tokens, changed(lambda rows, now, kept: (rows, kept)))
    blind = lambda kept, tokens, windows: template_rows(kept, np.full_like(tokens, 99), windows)
    caught(only_images_that_lack_are_enlarged, kept, np.maximum(tokens, 1 + (np.arange(40) % 8)), blind)
    backward = lambda kept, tokens, windows: template_rows(-kept, tokens, windows)
    caught(larger_counts_get_larger_windows, kept, tokens, backward)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_counts_follow_the_law(law):
    """4,000 images in eight windows: mean tokens within 3 %, drop rates within 3 points, order nearly the drawn one."""
    rng = np.random.default_rng(0)
    tokens = np.square(rng.integers(4, 15, 4000)) * 3 // 4
    kept = kept_tokens(tokens, law.rates(rng, tokens, np.arange(4000)))
    found = windows_of(kept, tokens, 8)
    assert list(found) == sorted(found, reverse=True)
    now = template_rows(kept, tokens, found)[1]
    assert abs(now.mean() / kept.mean() - 1) < 0.03
    assert abs((now / tokens).mean() - (kept / tokens).mean()) < 0.03
    assert np.corrcoef(now, kept)[0, 1] > 0.95 and (now > tokens).mean() < 0.01


def test_a_plan_has_no_padding():
    """But in its last row; grids have the tokens that are kept, images that fit nowhere are named."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(24, 130, (203, 2))
    sizes[:, 1] = np.minimum(sizes[:, 1], 2 * sizes[:, 0])
    sizes[:, 0] = np.minimum(sizes[:, 0], 2 * sizes[:, 1])
    sizes[5] = 8, 4000
    packing = Packing(T, SLOTS, Template(WINDOWS))
    plan = partial(
        plan_epoch, sizes, seed=0, epoch=0, resolution=Sides(16, 48), dropping=Beta(0.5, 0.9), longest_side=9
    )
    planned = plan(patch_size=(8, 8), packing=packing)
    assert (planned.kept.sum(-1)[:-1] == T).all() and [index for index, _ in planned.left_out] == [5]
    ids = planned.image_ids[planned.image_ids >= 0]
    assert sorted(ids.tolist()) == [i for i in range(203) if i != 5]
    assert (planned.kept <= planned.grids.prod(-1)).all()
    with pytest.raises(DataError, match="without a patch size per step"):
        plan(patch_size=PerStep((8, 16)), packing=packing)
    with pytest.raises(DataError, match="a window of 900 tokens is larger"):
        plan(patch_size=(8, 8), packing=Packing(900, 1, Template((900,))))


def test_an_unreadable_image_leaves_a_gap():
    tokens = [tokens_of(np.random.default_rng(i), (n, 1)) for i, n in enumerate((3, 4, 2))]
    whole = pack(tokens, range(3), 12, 4)
    row = in_place(pack([tokens[0], tokens[2]], [0, 2], 12, 4), [0, 7])
    np.testing.assert_array_equal(row.segment_ids, [1, 1, 1, 0, 0, 0, 0, 2, 2, 0, 0, 0])
    for name in ("patches", "coords"):
        np.testing.assert_array_equal(getattr(row, name)[7:], getattr(whole, name)[7:])
        assert not getattr(row, name)[3:7].any()


# attention ----------------------------------------------------------------------------------------------


def rows_in(windows: tuple[int, ...], used: list[list[int]]) -> jax.Array:
    """Segment ids of rows whose windows hold an image, or, where `used` is 0, nothing."""
    ids = [np.repeat(np.cumsum(row) * np.array(row), windows) for row in used]
    return jnp.asarray(np.stack(ids), jnp.int32)


@partial(jax.jit, static_argnums=0)
def pulled(backend, q, k, v, ids, g):
    """Attention where there are tokens, and its gradients."""
    real = (ids > 0)[:, None, :, None]
    attend = lambda *qkv: jnp.where(real, packed_attention(backend, *qkv, ids, SLOTS, 0.5), 0)
    out, pull = jax.vjp(attend, q, k, v)
    return out, pull(g)


@given(seeds, st.lists(st.lists(st.integers(0, 1), min_size=SLOTS, max_size=SLOTS), min_size=2, max_size=2))
def test_windows_are_the_dense_mask(seed, used):
    ids = rows_in(WINDOWS, used)
    q, k, v, g = (jnp.asarray(x) for x in np.random.default_rng(seed).normal(size=(4, 2, 2, T, 4)))
    real = (ids > 0)[:, None, :, None]
    (out, grads), (want, want_grads) = (pulled(backend, q, k, v, ids, g) for backend in (Windows(WINDOWS), Dense()))
    assert_close(out, want, FLOAT64)
    for got, expected in zip(grads, want_grads):
        assert_close(jnp.where(real, got, 0), jnp.where(real, expected, 0), GRADIENT64)


def wrong_rows_give_nan(fits) -> None:
    """An image over two windows, two images in one window, an image beside padding."""
    ids = rows_in(WINDOWS, [[1] * SLOTS] * 3)
    wrong = ids.at[0, 5:9].set(1).at[1, 4].set(2).at[2, 3].set(0)
    assert fits(ids, WINDOWS).all() and not fits(wrong, WINDOWS).all(-1).any()


def test_wrong_rows_give_nan_and_not_a_wrong_answer():
    wrong_rows_give_nan(windows.fits_windows)
    caught(wrong_rows_give_nan, lambda ids, windows: jnp.ones(ids.shape, bool))
    caught(wrong_rows_give_nan, lambda ids, windows: ids >= 0)
    q = jnp.ones((1, 1, T, 4))
    ids = rows_in(WINDOWS, [[1] * SLOTS]).at[0, 4].set(2)
    assert jnp.isnan(packed_attention(Windows(WINDOWS), q, q, q, ids, SLOTS, 1.0)[0, 0, :5]).all()
    with pytest.raises(ValueError, match="windows of 9 tokens in all"):
        packed_attention(Windows((5, 4)), q, q, q, ids, SLOTS, 1.0)


def test_windows_of_one_size_are_one_product():
    assert list(windows.runs((8, 8, 8, 5, 5, 1))) == [(0, 3, 8), (24, 2, 5), (34, 1, 1)]


# choice -------------------------------------------------------------------------------------------------


def test_windows_are_chosen_from_the_data_and_attention_from_them(tmp_path):
    config = large_digits()
    auto = replace(config, data=replace(config.data, packing=Packing(rule=Template(count=3))))
    lengths = np.array([4, 9, 17, 25, 33, 40])
    found, notes = template(auto, auto.data.packing.rule, lengths, lengths)
    assert found.data.packing == Packing(64, 3, Template((33, 17, 4), 3)) or notes
    assert found.data.packing.shape == (sum(found.data.packing.rule.windows), 3) and "rule.windows = " in notes[0]
    assert template(found, found.data.packing.rule, lengths, lengths) == (found, [])
    plan = plan_epoch(
        np.full((6, 2), 32), seed=0, epoch=0, patch_size=(8, 8), resolution=Sides(32, 32), dropping=Constant(0.0),
        packing=Packing(32, 2, Template((16, 16))), longest_side=9,
    )  # fmt: skip
    shape, notes = shape_for(found, plan)
    assert shape.attention == Windows(found.data.packing.rule.windows) and "no mask" in notes[0]
    with pytest.raises(ConfigError, match="row-tokens auto"):
        template(
            replace(auto, data=replace(auto.data, packing=Packing(96, rule=Template()))), Template(), lengths, lengths
        )
    with pytest.raises(ConfigError, match="chosen by data.packing.rule=Template"):
        shape_for(replace(config, model=replace(config.model, attention=Windows((96,)))), plan)
    with pytest.raises(ConfigError, match="registers are not"):
        ModelConfig(registers=2, attention=Windows((8,)))
    with pytest.raises(DataError, match="the largest first"):
        Template((3, 5))


def test_a_template_costs_no_more_padding_than_exact_fit():
    kept, tokens = images(0, 400)
    rows, now = template_rows(kept, tokens, WINDOWS)
    assert 1 - now.sum() / (len(rows) * T) <= 1 / len(rows)
    assert len(exact_fit(now.tolist(), T, SLOTS, 64)) >= len(rows)
