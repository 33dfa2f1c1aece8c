"""Images and texts are packed so that no pair is split, and both rows are full."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sampling.packing import ExactFit
from reference import pairs
from reference.packing import exact_fit
from reference.pairs import Group, Room, pack_pairs
from tests.support.laws import caught
from tests.support.strategies import seeds

FIT = partial(exact_fit, window=8)
IMAGES, TEXTS = Room(3, 20, 6), Room(2, 24, 8)
lengths = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 24)), max_size=60)


def every_pair_is_whole(groups: list[Group], image_lengths, text_lengths) -> None:
    """Each pair is in one group, once among its images and once among its texts, and all of it fits."""
    seen = []
    for group in groups:
        sides = [sorted(i for row in rows for i in row) for rows in group]
        assert sides[0] == sides[1], "a pair is split"
        seen += sides[0]
        for rows, sizes, room in zip(group, (image_lengths, text_lengths), (IMAGES, TEXTS)):
            assert len(rows) <= room.rows
            for row in rows:
                assert sum(sizes[i] for i in row) <= room.tokens and len(row) <= room.slots
    assert sorted(seen) == list(range(len(image_lengths)))


@given(lengths=lengths)
def test_no_pair_is_split(lengths):
    images, texts = [a for a, _ in lengths], [b for _, b in lengths]
    every_pair_is_whole(pack_pairs(images, texts, IMAGES, TEXTS, FIT), images, texts)
    every_pair_is_whole(pack_pairs(images, texts, IMAGES, TEXTS, ExactFit(8).rows), images, texts)


@given(lengths=lengths)
def test_rows_that_are_packed_already_may_be_given(lengths):
    images, texts = [a for a, _ in lengths], [b for _, b in lengths]
    rows = FIT(images, *IMAGES[1:])
    every_pair_is_whole(pack_pairs(images, texts, IMAGES, TEXTS, FIT, rows), images, texts)


def test_a_split_pair_is_caught(monkeypatch):
    images, texts = [5] * 30, [11] * 30
    monkeypatch.setattr(pairs, "Group", lambda images, texts: Group(images, texts[:-1]))
    caught(every_pair_is_whole, pack_pairs(images, texts, IMAGES, TEXTS, FIT), images, texts)


@given(seed=seeds, rows=st.integers(1, 5), groups=st.integers(1, 6), more=st.integers(0, 4))
def test_rows_are_dealt_fairly(seed, rows, groups, more):
    """Every row is dealt once, and the needs of the groups differ by less than the largest row."""
    rng = np.random.default_rng(seed)
    need = rng.integers(1, 50, rows * groups + min(more, rows - 1)).tolist()
    dealt = pairs.deal([[i] for i in range(len(need))], need, rows)
    assert sorted(i for group in dealt for row in group for i in row) == list(range(len(need)))
    whole = [sum(need[i] for row in group for i in row) for group in dealt if len(group) == rows]
    assert len(whole) == groups and max(whole) - min(whole) <= max(need)


@given(seed=seeds, turns=st.integers(1, 3), groups=st.integers(1, 6))
def test_needs_in_even_steps_are_dealt_evenly(seed, turns, groups):
    """There and back: what a group lacks on the way there it gets on the way back."""
    need = np.random.default_rng(seed).permutation(2 * turns * groups).tolist()
    dealt = pairs.deal([[i] for i in range(len(need))], need, 2 * turns)
    assert len({sum(need[i] for row in group for i in row) for group in dealt}) == 1


def test_rows_of_both_kinds_are_full():
    """20,000 pairs as in the simulation of docs/contrastive.md: less than 1 % and 4 % padding."""
    rng = np.random.default_rng(0)
    sides = np.round(rng.uniform(3, 12, 20_000))
    images = np.maximum(1, sides**2 * (1 - 0.9 * rng.beta(2, 2, 20_000))).astype(int)
    texts = np.clip(np.round(rng.normal(45, 12, 20_000)), 8, 72).astype(int)
    mean = 16 * 144 / images.mean() * texts.mean()
    image_room, text_room = Room(16, 144, 24), Room(8, int(np.ceil(1.03 * mean / 8)), 24)
    groups = pack_pairs(images.tolist(), texts.tolist(), image_room, text_room, ExactFit().rows)
    assert 1 - images.sum() / (len(groups) * 16 * 144) < 0.01
    assert 1 - texts.sum() / (len(groups) * 8 * text_room.tokens) < 0.04


@pytest.mark.parametrize("late", [1, 5])
def test_texts_that_do_not_fit_come_later(late):
    """Long texts in every row: each group holds what it can, and nothing is lost."""
    images, texts = [4] * (10 * late), [20] * (10 * late)
    groups = pack_pairs(images, texts, IMAGES, TEXTS, FIT)
    every_pair_is_whole(groups, images, texts)
    assert all(sum(map(len, group.texts)) <= 2 for group in groups)
