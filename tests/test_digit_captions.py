"""Captions of digit strips: true of their strip, drawn from its index alone, silent about what cannot be seen."""

import pickle
import re
from functools import lru_cache

import numpy as np
import pytest

from data.sources import digit_captions
from data.sources.digit_captions import CAPTIONS, DIRECTIONS, NUMBERS, PLACES, CaptionedStrips, DigitCaptions
from tests.support.laws import caught

both = pytest.mark.parametrize("split", ("train", "val"))


@lru_cache
def source_of(split: str) -> CaptionedStrips:
    return CaptionedStrips(split, 300, 0)


def facts_in(text: str) -> dict[str, int]:
    """What a caption says, read from its words: direction, count, place, digit."""
    found = {}
    for k, word in enumerate(DIRECTIONS):
        found |= {"direction": k} if re.search(rf"\b{word}\b", text) else {}
    for k, word in enumerate(PLACES):
        found |= {"place": k} if re.search(rf"\b{word}\b", text) else {}
    for k, word in enumerate(NUMBERS):
        found |= {"digit": k} if re.search(rf"\ban? {word}\b", text) else {}
        found |= {"count": k} if re.search(rf"\b({word}|{k}) digits?\b|strip of {k}\b", text) else {}
    return found


def says_the_truth(source) -> None:
    """Every caption of a strip says something, and all it says is true of the strip."""
    strips, manifest = source.strips, source.manifest
    for i in range(len(manifest)):
        truth = {"direction": int(not strips.horizontal[i]), "count": int(strips.digits[i])}
        truth |= {"place": int(strips.lit[i]), "digit": int(strips.manifest.labels[i])}
        truth = {k: v for k, v in truth.items() if strips.digits[i] > 1 or k in ("count", "digit")}
        said = [facts_in(manifest.classes[k]) for k in manifest.labels[i] if k >= 0]
        assert said and all(said), manifest.labels[i]
        assert all(fact.items() <= truth.items() for fact in said), (said, truth)


@both
def test_captions_are_true(split):
    says_the_truth(source_of(split))


@pytest.mark.parametrize("fact", range(4))
def test_a_false_caption_is_caught(monkeypatch, fact):
    real, other = digit_captions.codes, np.eye(6, dtype=int)[2 + fact]
    monkeypatch.setattr(digit_captions, "codes", lambda *a: np.where((c := real(*a)) > 1, c - other, c))
    caught(says_the_truth, CaptionedStrips("val", 300, 0))


@pytest.mark.parametrize("fact", [0, 2])
def test_a_fact_that_one_digit_cannot_show_is_caught(monkeypatch, fact):
    """A single digit is a square: no image tells a row of it from a column, nor has it a place."""
    real, said = digit_captions.codes, np.eye(6, dtype=int)[2 + fact]
    monkeypatch.setattr(
        digit_captions, "codes", lambda facts, key: np.maximum(real(facts, key), said * (facts[:, 1:2, None] == 1))
    )
    caught(says_the_truth, CaptionedStrips("val", 300, 0))


@both
def test_captions_depend_on_the_index_alone(split):
    source, fewer, other = source_of(split), CaptionedStrips(split, 40, 0), CaptionedStrips(split, 300, 1)
    texts = lambda source: [[source.manifest.classes[k] for k in row if k >= 0] for row in source.manifest.labels]
    assert texts(source)[:40] == texts(fewer) and texts(source) != texts(other)
    assert texts(source_of("train")) != texts(source_of("val"))
    np.testing.assert_array_equal(source.image(7), source.strips.image(7))


def test_wording_tells_nothing_of_the_digit():
    """Templates and mentions are the same for any digits."""
    rng = np.random.default_rng(0)
    facts = rng.integers(1, 9, (2000, 4))
    other = facts.copy()
    other[:, 3] = rng.integers(1, 11, 2000)
    one, two = (digit_captions.codes(f, [0, 1]) for f in (facts, other))
    np.testing.assert_array_equal(one[..., :5], two[..., :5])
    np.testing.assert_array_equal(one[..., 5] > 0, two[..., 5] > 0)
    seen = (one[facts[:, 1] > 1][..., 2:] > 0).mean((0, 1))
    *others, digit = digit_captions.MENTIONED
    expected = [*others, digit + (1 - digit) * np.prod(1 - np.array(others))]  # what would say nothing names the digit
    np.testing.assert_allclose(seen, expected, atol=0.02)


@both
def test_classes_are_the_captions_as_they_occur(split):
    manifest = source_of(split).manifest
    flat = manifest.labels[manifest.labels >= 0]
    _, first = np.unique(flat, return_index=True)
    assert len(first) == len(manifest.classes) == len(set(manifest.classes)) and (np.diff(first) > 0).all()
    assert manifest.labels.shape == (300, CAPTIONS)
    for row in manifest.labels:
        assert len({*row[row >= 0]}) == (row >= 0).sum() and (np.diff((row < 0).astype(int)) >= 0).all()


@both
def test_attributes_name_what_is_in_the_strip(split):
    source = source_of(split)
    digit, count, orientation = source.attributes
    assert [(a.name, len(a.prompts)) for a in source.attributes] == [("digit", 10), ("count", 8), ("orientation", 2)]
    np.testing.assert_array_equal(digit.labels, source.strips.manifest.labels)
    height, width = source.manifest.sizes.T
    np.testing.assert_array_equal(count.labels + 1, np.maximum(height, width) // 20)
    np.testing.assert_array_equal(orientation.labels, np.where(height == width, -1, height > width))
    for attribute, fact in zip(source.attributes, ("digit", "count", "direction")):
        first = 1 if fact == "count" else 0
        assert [facts_in(p) for (p,) in attribute.prompts] == [{fact: first + k} for k in range(len(attribute.prompts))]


def test_texts_are_short_and_many():
    """All fit 72 bytes with their end, and there is more than a dozen templates."""
    texts, _ = digit_captions.captions()
    assert max(map(len, texts)) <= 71 and len(digit_captions.SCENES) * len(digit_captions.MARKS) >= 12


def test_workers_draw_captions_again():
    source = DigitCaptions(300, 20).open("", "train")
    data = pickle.dumps(source)
    assert len(data) < 200 and pickle.loads(data).manifest.digest == source_of("train").manifest.digest
