"""Packing: nothing lost, doubled or split; each rule does what its name says."""

import grain
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reference.packing import RULES, close_row, exact_fit, first_fit, fullest_row, padding
from reference.rows import pack, unpack
from tests.support import laws
from tests.support.strategies import I, T, rows

lengths = st.lists(st.integers(1, T), min_size=1, max_size=80)
windows = st.integers(1, 20)
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


@rules
@given(lengths=lengths, window=windows, images=st.integers(1, 6))
@example(lengths=[T] * 5, window=3, images=1)
@example(lengths=[1] * 50, window=4, images=6)
def test_every_image_once(rule, lengths, window, images):
    laws.packs_everything_once(rule(lengths, T, images, window), lengths, T, images)


@rules
def test_no_images_no_rows(rule):
    assert rule([], T, I, 4) == []


@rules
@pytest.mark.parametrize("bad", [0, T + 1])
def test_an_image_that_fits_no_row_is_named(rule, bad):
    with pytest.raises(ValueError, match=f"image 1 has {bad} tokens"):
        rule([3, bad, 2], T, I, 4)


@given(lengths=lengths, window=windows)
def test_first_fit_takes_the_first_row_with_room(lengths, window):
    """Replayed image by image: no earlier open row had room."""
    packed = first_fit(lengths, T, I, window)
    place = {i: r for r, row in enumerate(packed) for i in row}
    first_open, load = 0, [0] * len(packed)
    held = [0] * len(packed)
    for i, n in enumerate(lengths):
        if place[i] - first_open >= window:
            first_open = place[i]
        for r in range(first_open, place[i]):
            assert load[r] + n > T or held[r] == I
        load[place[i]] += n
        held[place[i]] += 1


@given(lengths=lengths, window=st.integers(1, 6))
def test_first_fit_is_that_of_grain(lengths, window):
    """The same rows, in the same order, as Grain's own packer makes of the same stream."""
    data = [{"tokens": np.full(n, i), "image": np.array([i])} for i, n in enumerate(lengths)]
    packer = grain.experimental.FirstFitPackIterDataset(
        grain.MapDataset.source(data).to_iter_dataset(),
        length_struct={"tokens": T, "image": I},
        num_packing_bins=window,
        shuffle_bins=False,
    )
    theirs = [r["image"][r["image_segment_ids"] > 0].tolist() for r in packer]
    assert [row for row in theirs if row] == first_fit(lengths, T, I, window)


@given(lengths=st.lists(st.integers(1, T), min_size=1, max_size=9), images=st.integers(1, 4))
def test_fullest_row_is_the_best_of_all_subsets(lengths, images):
    """Against every subset that holds the first image."""
    chosen = fullest_row(lengths, T, images)
    assert chosen[0] == 0 and chosen == sorted(set(chosen)) and len(chosen) <= images
    best = 0
    for bits in range(1 << len(lengths) - 1):
        company = [0, *(k for k in range(1, len(lengths)) if bits >> k - 1 & 1)]
        total = sum(lengths[k] for k in company)
        if len(company) <= images and total <= T:
            best = max(best, total)
    assert sum(lengths[k] for k in chosen) == best


@given(lengths=lengths, window=windows)
def test_exact_fit_starves_nobody(lengths, window):
    """The oldest waiting image is always taken, and nobody from beyond the window."""
    waiting = list(range(len(lengths)))
    for row in exact_fit(lengths, T, I, window):
        assert row[0] == waiting[0]
        assert set(row) <= set(waiting[:window])
        waiting = [i for i in waiting if i not in row]


def test_exact_fit_leaves_almost_no_padding():
    """On the token counts of the paper's setting (P 16, R ~ U(64, 256), half dropped, T 256)."""
    rng = np.random.default_rng(0)
    tokens = (rng.uniform(64, 256, 5000) / 16).astype(int) ** 2 // 2
    counts = np.maximum(tokens, 1).tolist()
    waste = {name: padding(counts, rule(counts, 256, 16, 64), 256) for name, rule in RULES.items()}
    assert waste["exact_fit"] < 1e-3 < waste["best_fit"] <= waste["first_fit"]


@given(packed=rows())
def test_unpack_inverts_pack(packed):
    for field in ("patches", "coords"):
        parts = unpack(getattr(packed.row, field), packed.row.segment_ids)
        assert len(parts) == len(packed.images)
        for part, image in zip(parts, packed.images):
            np.testing.assert_array_equal(part, getattr(image, field))
    count = len(packed.images)
    np.testing.assert_array_equal(packed.row.grids[:count], [image.grid for image in packed.images] or np.zeros((0, 2)))
    laws.gives_slots_their_labels(packed.row, {k: int(packed.row.labels[k]) for k in range(count)})


def test_pack_refuses_what_does_not_fit():
    from tests.support.strategies import tokens_of

    image = tokens_of(np.random.default_rng(0), (5, 5), keep=20)
    with pytest.raises(ValueError, match="2 images of 40 tokens do not fit"):
        pack([image, image], [0, 0], [0, 1], T, I)


@given(data=st.data(), count=st.integers(1, I))
def test_close_row_fills_with_dropped_tokens_alone(data, count):
    kept = np.array(data.draw(st.lists(st.integers(1, T // I), min_size=count, max_size=count)))
    tokens = kept + np.array(data.draw(st.lists(st.integers(0, T), min_size=count, max_size=count)))
    closed = close_row(kept, tokens, T)
    assert (closed >= kept).all() and (closed <= tokens).all()
    assert closed.sum() == min(T, tokens.sum())
