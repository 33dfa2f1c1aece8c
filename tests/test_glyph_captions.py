"""Glyph fields: captions are true, pictures show the facts, six pairs of color and shape are held out."""

import pickle
import re
from functools import lru_cache

import numpy as np
import pytest

from data.sources import glyph_captions
from data.sources.glyph_captions import PLACES, GlyphCaptions, GlyphField
from data.sources.glyphs import BACKGROUNDS, COLORS, COUNTS, FACTS, GRAY, RGB, SHAPES, Glyphs, draw_glyphs
from tests.support.laws import caught

both = pytest.mark.parametrize("split", ("train", "val"))


@lru_cache
def source_of(split: str) -> GlyphField:
    return GlyphField(split, 300, 0)


def facts_in(text: str) -> tuple[int | None, ...]:
    """What a caption says, read from its words."""
    words = {word: (k, i) for k, values in enumerate(FACTS) for i, word in enumerate(values)}
    words |= {place: (4, i) for i, place in enumerate(PLACES)} | {f"{s}s": (0, i) for i, s in enumerate(SHAPES)}
    words["crosses"] = words["cross"]
    found: list[int | None] = [None] * len(FACTS)
    for word, (k, i) in words.items():
        if re.search(rf"\b{word}\b", text):
            assert found[k] in (None, i), text
            found[k] = i
    return tuple(found)


def says_the_truth(source) -> None:
    for row, truth in zip(source.manifest.labels, source.facts.tolist()):
        for k in row[row >= 0]:
            said = facts_in(source.manifest.classes[k])
            assert any(f is not None for f in said) and all(f in (None, t) for f, t in zip(said, truth)), (said, truth)


@both
def test_captions_are_true(split):
    says_the_truth(source_of(split))


def test_false_captions_are_caught(monkeypatch):
    for k in range(len(FACTS)):
        source = GlyphField("val", 60, 0)
        source.facts[:, k] = (source.facts[:, k] + 1) % len(FACTS[k])
        caught(says_the_truth, source)


@both
def test_entailment_is_what_the_words_say(split):
    source = source_of(split)
    found = source.entails()
    said = [facts_in(text) for text in source.manifest.classes]
    for i, truth in enumerate(source.facts[:40].tolist()):
        expected = [all(f in (None, t) for f, t in zip(facts, truth)) for facts in said]
        np.testing.assert_array_equal(found[i], expected)
        assert found[i, source.manifest.labels[i][source.manifest.labels[i] >= 0]].all()
    assert found.sum() > (source.manifest.labels >= 0).sum(), "captions are partial: true of other images too"


def holds_out_six_pairs(train) -> None:
    pairs = {tuple(pair) for pair in train.facts[:, :2].tolist()}
    assert pairs == {(s, c) for s in range(6) for c in range(6) if s != c}


def test_six_pairs_are_held_out():
    """Neither in images nor in captions; one of each color and of each shape; validation has them."""
    train, val = source_of("train"), source_of("val")
    holds_out_six_pairs(train)
    assert not any(said[0] is not None and said[0] == said[1] for said in map(facts_in, train.manifest.classes))
    *plain, seen, unseen = val.attributes
    assert (unseen.labels >= 0).sum() > 20 and ((seen.labels >= 0) != (unseen.labels >= 0)).all()
    for attribute in (seen, unseen):
        for i in np.flatnonzero(attribute.labels >= 0)[:40]:
            assert facts_in(attribute.values[attribute.labels[i]])[:2] == tuple(val.facts[i, :2])
    for k, attribute in enumerate(plain):
        assert attribute.values == FACTS[k]
        assert [facts_in(p)[k] for (p,) in attribute.prompts] == [*range(len(FACTS[k]))]
        np.testing.assert_array_equal(attribute.labels, val.facts[:, k])
    assert [a.name for a in source_of("train").attributes][-1] == "seen pairs"


def test_a_pair_that_is_not_held_out_is_caught(monkeypatch):
    monkeypatch.setattr(glyph_captions, "seen_color", lambda shape, draw: (draw * 6).astype(int))
    caught(holds_out_six_pairs, GlyphField("train", 300, 0))


@pytest.mark.parametrize("texts", [30, 81, 120])
def test_few_captions_are_shared(texts):
    """So many different ones in training, each true, one an image; images and held-out pairs are as without a limit."""
    few, val = (GlyphField(split, 3000, 0, texts) for split in ("train", "val"))
    assert len(few.manifest.classes) == texts and few.manifest.labels.shape == (3000, 1)
    shares = np.bincount(few.manifest.labels.ravel()) / 3000
    assert shares.max() < 0.05
    for source in (few, val):
        says_the_truth(source)
    assert len(val.manifest.classes) == texts + 6
    np.testing.assert_array_equal(few.facts[:300], source_of("train").facts)
    assert pickle.loads(pickle.dumps(few)).manifest.digest == few.manifest.digest


def test_a_number_of_captions_that_cannot_be_is_refused():
    for wrong in (31, 29, 123):
        with pytest.raises(ValueError, match="texts="):
            GlyphCaptions(texts=wrong)


@both
def test_images_depend_on_the_index_alone(split):
    source, fewer = source_of(split), GlyphField(split, 40, 0)
    texts = lambda source: [[source.manifest.classes[k] for k in row if k >= 0] for row in source.manifest.labels]
    assert texts(source)[:40] == texts(fewer) and texts(source) != texts(GlyphField(split, 300, 1))
    for i in (0, 39):
        np.testing.assert_array_equal(source.image(i), fewer.image(i))
        assert source.image(i).shape == (*source.manifest.sizes[i], 3)
    aspect = source.manifest.sizes[:, 1] / source.manifest.sizes[:, 0]
    assert 1 / 3.1 < aspect.min() < 0.6 and 1.6 < aspect.max() < 3.1
    assert (abs(np.log(aspect)) > np.log(1.2)).mean() > 0.5


def blobs(mask: np.ndarray) -> int:
    """Connected parts with more than a few pixels, by flood fill."""
    left, count = {*map(tuple, np.argwhere(mask).tolist())}, 0
    while left:
        stack, size = [left.pop()], 0
        while stack:
            y, x = stack.pop()
            size += 1
            near = {(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            stack += near
        count += size > 3
    return count


@pytest.mark.parametrize("size", [(40, 60), (90, 36)])
def test_pictures_show_the_facts(size):
    """Plain shapes of every kind: their number, color, side of the canvas, and background, from the pixels."""
    rng = np.random.default_rng(0)
    for shape in range(len(SHAPES)):
        for count in range(len(COUNTS)):
            color, position, scale, ground = (int(rng.integers(n)) for n in (6, 5, 3, 3))
            image = draw_glyphs(rng, Glyphs(shape, color, 0, scale, position, count, ground), size).astype(float)
            assert abs(np.median(image) - GRAY[ground]) < 12, BACKGROUNDS[ground]
            mask = abs(image - np.median(image)).max(-1) > 60
            assert blobs(mask) == count + 1
            strong = abs(image - GRAY[ground]).sum(-1)
            inks = image[strong > np.percentile(strong[mask], 60)].mean(0)
            assert COLORS[int(abs(RGB - inks).sum(-1).argmin())] == COLORS[color]
            y, x = (np.argwhere(mask).mean(0) + 0.5) / size - 0.5
            side = {1: -x, 2: x, 3: -y, 4: y}.get(position)
            assert side > 0.08 if side is not None else max(abs(y), abs(x)) < 0.15


def test_sizes_and_textures_differ():
    rng = np.random.default_rng(0)
    draw = lambda texture, size: draw_glyphs(rng, Glyphs(1, 0, texture, size, 0, 0, 0), (60, 60)).astype(float)
    ink = [(abs(draw(0, size) - 235).max(-1) > 60).sum() for size in range(3)]
    assert ink[0] < 0.6 * ink[1] and ink[1] < 0.65 * ink[2]
    dark = [(draw(texture, 2).max(-1) < 100).sum() for texture in range(3)]
    assert dark[0] == 0 and min(dark[1:]) > 20


def test_workers_draw_again():
    data = pickle.dumps(GlyphCaptions(300, 20).open("", "train"))
    assert len(data) < 200 and pickle.loads(data).manifest.digest == source_of("train").manifest.digest
    assert max(map(len, source_of("train").manifest.classes)) <= 71


def test_a_mask_is_where_the_paint_is():
    """Pixels closer to the paint than to the ground, but for noise at the outlines."""
    source = source_of("val")
    for i in np.flatnonzero(source.facts[:, 2] == 0)[:12].tolist():
        image, mask = source.image(i).astype(float), source.mask(i) > 0
        ground, paint = (np.median(image[where], 0) for where in (~mask, mask))
        painted = (image - (ground + paint) / 2) @ (paint - ground) > 0
        assert (painted == mask).mean() > 0.98 and 0 < mask.mean() < 1
