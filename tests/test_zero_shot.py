"""Classes and captions as texts: which one is the most similar, and what cannot be told apart is no right answer."""

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings

from data.sources.source import Attribute, Foils
from harness.evaluation.predictions import Predictions
from navit_eqx.tasks.config import Bytes, Contrast, TextTower
from navit_eqx.tasks.model import abstract_model
from tests.support.strategies import CONFIG, seeds

# Their packages have functions under these names.
study, front = map(import_module, ("harness.evaluation.studies.zeroshot", "navit_eqx.zero_shot"))
WIDTH, TOKENIZER, ROUNDING = 4, Bytes(8), 1e-7
READER = abstract_model(CONFIG, Contrast(text=TextTower(8, 1, 1, 8), tokenizer=TOKENIZER, embedding=WIDTH))
WORDS = ("dog", "cat", "Cat!", "bird", "a very long one", "a very long two")  # the last are cut to the same


def vector(text: str) -> np.ndarray:
    """A unit vector for all texts with the same ids, up to rounding."""
    of = lambda key: np.random.default_rng(list(key)).normal(size=WIDTH)
    found = of(TOKENIZER.encode(text)) + ROUNDING * of(text.encode())
    return found / np.linalg.norm(found)


@pytest.fixture(autouse=True, scope="module")
def embedded():
    with pytest.MonkeyPatch.context() as patch:
        for module in (study, front):
            patch.setattr(module, "embed_texts", lambda _, texts: np.stack([vector(text) for text in texts]))
        yield


def images_of(seed: int, count: int = 40) -> Predictions:
    """Vectors of images, of which every third cannot be read."""
    ids = np.array([i for i in range(count) if i % 3])
    vectors = np.random.default_rng(seed).normal(size=(len(ids), WIDTH))
    zeros = np.zeros(len(ids))
    return Predictions(ids, zeros, vectors, zeros.astype(int), zeros, 1.0, 0, count - len(ids), {})


@given(seed=seeds)
@settings(max_examples=5)
def test_a_true_caption_is_compared_with_a_false_one(seed):
    found = images_of(seed)
    asked, true, false = np.random.default_rng(seed).integers(0, (40, len(WORDS), len(WORDS)), (60, 3)).T
    foils = Foils("words", asked, *(tuple(WORDS[k] for k in side) for side in (true, false)))
    place = {image: k for k, image in enumerate(found.image_ids.tolist())}
    wins = [
        TOKENIZER.encode(WORDS[a]) != TOKENIZER.encode(WORDS[b])
        and found.outputs[place[i]] @ vector(WORDS[a]) > found.outputs[place[i]] @ vector(WORDS[b])
        for i, a, b in zip(asked.tolist(), true, false)
        if i in place
    ]
    row = study.of_foils(READER, foils, found)
    assert row["images"] == len(wins) > 0 and row["accuracy"] == pytest.approx(np.mean(wins))


@given(seed=seeds)
@settings(max_examples=5)
def test_classes_with_the_same_texts_are_one_class(seed):
    """Whatever rounding makes of them; the others are told apart."""
    found = images_of(seed)
    labels = np.random.default_rng(seed).integers(-1, len(WORDS), 40)
    alike = [TOKENIZER.encode(word) for word in WORDS]
    best = [alike[k] for k in (found.outputs @ np.stack([vector(word) for word in WORDS]).T).argmax(1)]
    right = [alike[y] == b for y, b in zip(labels[found.image_ids].tolist(), best) if y >= 0]
    row = study.of_attribute(READER, Attribute("words", WORDS, labels), found)
    assert row["images"] == len(right) and row["accuracy"] == row["class_name_only"] == pytest.approx(np.mean(right))


def test_no_label_is_no_question():
    row = study.of_attribute(READER, Attribute("none", WORDS, np.full(40, -1)), images_of(0))
    assert row["accuracy"] is None and row["images"] == 0
