"""Packing: nothing lost, doubled or split; each rule does what its name says."""

import grain
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data import exact_fit as fast
from reference.masks import used_slots
from reference.packing import PACKINGS as SLOW
from reference.packing import close_row, exact_fit, first_fit, fullest_row, padding
from reference.rows import pack, unpack
from tests.support import laws
from tests.support.strategies import I, T, rows, tokens_of

lengths = st.lists(st.integers(1, T), min_size=1, max_size=80)
windows = st.integers(1, 20)
RULES = SLOW | {"exact_fit, bit sets": fast.exact_fit}
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


FULLEST = {"textbook": fullest_row, "bit sets": fast.fullest_row}


def is_a_row_of_the_first(chosen: list[int], lengths: list[int], images: int) -> int:
    """Its tokens: different places in order, the first image among them, no more than T and I allow."""
    assert chosen[0] == 0 and chosen == sorted(set(chosen)) and len(chosen) <= images
    total = sum(lengths[k] for k in chosen)
    assert total <= T
    return total


def is_the_best_of_all_subsets(fullest, lengths: list[int], images: int) -> None:
    """No subset that holds the first image, of so many images, has more tokens within T."""
    best = 0
    for bits in range(1 << len(lengths) - 1):
        subset = [0, *(k for k in range(1, len(lengths)) if bits >> k - 1 & 1)]
        total = sum(lengths[k] for k in subset)
        if len(subset) <= images and total <= T:
            best = max(best, total)
    assert is_a_row_of_the_first(fullest(lengths, T, images), lengths, images) == best


few = st.lists(st.integers(1, T), min_size=1, max_size=9)


@pytest.mark.parametrize("fullest", FULLEST.values(), ids=FULLEST)
@given(lengths=few, images=st.integers(1, 9))
@example(lengths=[12, 1, 1, 1, 1, 8, 9], images=3)
def test_fullest_row_is_the_best_of_all_subsets(fullest, lengths, images):
    is_the_best_of_all_subsets(fullest, lengths, images)


@given(lengths=st.lists(st.integers(1, T), min_size=1, max_size=64), images=st.integers(1, 12))
@example(lengths=[1] * 64, images=5)
@example(lengths=[2, *[7, 5, 3] * 9], images=4)
def test_bit_sets_fill_a_row_as_the_textbook_does(lengths, images):
    """They may choose other images, of as many tokens."""
    slow, quick = (is_a_row_of_the_first(f(lengths, T, images), lengths, images) for f in FULLEST.values())
    assert slow == quick


def greedy(lengths, row_tokens, row_images):
    """Each next image that fits."""
    chosen, total = [0], lengths[0]
    for k in range(1, len(lengths)):
        if total + lengths[k] <= row_tokens and len(chosen) < row_images:
            chosen, total = [*chosen, k], total + lengths[k]
    return chosen


def without_the_first(lengths, row_tokens, row_images):
    return [k + 1 for k in fullest_row(lengths[1:], row_tokens, row_images)]


def of_any_number(lengths, row_tokens, row_images):
    """Limited in tokens alone, then cut."""
    return fullest_row(lengths, row_tokens, len(lengths))[:row_images]


def most_images_first(lengths, row_tokens, row_images):
    """For each total the most images instead of the fewest, so that the limit of images comes too soon."""
    most = {lengths[0]: [0]}
    for k in range(1, len(lengths)):
        for total, chosen in list(most.items()):
            larger = total + lengths[k]
            if larger <= row_tokens and len(chosen) < row_images and len(chosen) + 1 > len(most.get(larger, [])):
                most[larger] = [*chosen, k]
    return most[max(most)]


@pytest.mark.parametrize("wrong", [greedy, without_the_first, of_any_number, most_images_first])
def test_a_row_that_is_not_the_fullest_is_caught(wrong):
    cases = [([9, 1, 14, 15], 4), ([8, 2, 3, 1, 12], 2), ([6, 2, 2, 1, 14], 3), ([1, 1, 1, 2, 21], 3)]

    def holds_everywhere():
        for lengths, images in cases:
            is_the_best_of_all_subsets(wrong, lengths, images)

    laws.caught(holds_everywhere)


@pytest.mark.parametrize("rule", [exact_fit, fast.exact_fit], ids=["textbook", "bit sets"])
@given(lengths=lengths, window=windows)
def test_exact_fit_takes_the_oldest_and_fills_its_row_best(rule, lengths, window):
    """The oldest queued image is always taken, none from beyond the window; the rest are the subset that fills best."""
    queue = list(range(len(lengths)))
    for row in rule(lengths, T, I, window):
        assert row[0] == queue[0]
        assert set(row) <= set(queue[:window])
        ahead = [lengths[i] for i in queue[:window]]
        assert sum(lengths[i] for i in row) == sum(ahead[k] for k in fullest_row(ahead, T, I))
        queue = [i for i in queue if i not in row]
    assert not queue


def test_exact_fit_leaves_almost_no_padding():
    """On the token counts of the paper's setting (P 16, R ~ U(64, 256), half dropped, T 256)."""
    rng = np.random.default_rng(0)
    tokens = (rng.uniform(64, 256, 5000) / 16).astype(int) ** 2 // 2
    counts = np.maximum(tokens, 1).tolist()
    waste = {name: padding(counts, rule(counts, 256, 16, 64), 256) for name, rule in RULES.items()}
    assert max(waste["exact_fit"], waste["exact_fit, bit sets"]) < 1e-3 < waste["best_fit"] <= waste["first_fit"]


@given(packed=rows())
def test_unpack_inverts_pack(packed):
    for field in ("patches", "coords"):
        parts = unpack(getattr(packed.row, field), packed.row.segment_ids)
        assert len(parts) == len(packed.images)
        for part, image in zip(parts, packed.images):
            np.testing.assert_array_equal(part, getattr(image, field))
    count = len(packed.images)
    np.testing.assert_array_equal(packed.row.grids[:count], [image.grid for image in packed.images] or np.zeros((0, 2)))
    for slot in range(I):
        assert (packed.row.segment_ids == slot + 1).any() == (slot < count)
        assert packed.row.image_ids[slot] == (slot if slot < count else -1)
    np.testing.assert_array_equal(used_slots(packed.row.segment_ids, I), np.arange(I) < count)


def test_pack_refuses_what_does_not_fit():
    image = tokens_of(np.random.default_rng(0), (5, 5), keep=20)
    with pytest.raises(ValueError, match="2 images of 40 tokens do not fit"):
        pack([image, image], [0, 1], T, I)


@given(data=st.data(), count=st.integers(1, I))
def test_close_row_fills_with_dropped_tokens_alone(data, count):
    kept = np.array(data.draw(st.lists(st.integers(1, T // I), min_size=count, max_size=count)))
    tokens = kept + np.array(data.draw(st.lists(st.integers(0, T), min_size=count, max_size=count)))
    closed = close_row(kept, tokens, T)
    assert (closed >= kept).all() and (closed <= tokens).all()
    assert closed.sum() == min(T, tokens.sum())
