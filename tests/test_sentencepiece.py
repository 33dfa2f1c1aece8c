"""Pieces of words: trained the same every time, lossless, stored with the model, never exchanged for others."""

import pickle
from pathlib import Path

import jax.random as jr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.texts import Texts
from navit_eqx import Model, ModelInfo, load_model, save_model
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.sentencepiece import FILE, SentencePiece, train_tokenizer
from navit_eqx.tasks import prepare
from navit_eqx.tasks.config import Contrast, TextTower
from navit_eqx.text import EOS, Bytes, canonicalize
from tests.support.laws import caught

CAPTIONS = [f"{n} {c} {s} on the {p}" for n in ("one", "Two") for c in ("red", "blue") for s in ("Ring", "star")
            for p in ("left.", "right!")]  # fmt: skip
DATA = train_tokenizer(CAPTIONS, 320)
texts = st.text(max_size=30) | st.sampled_from(
    ["", "One red Ring", "snake_case", "ﬁne  ①", "İstanbul 猫 🍎", "<pad> </s>"]
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "words.model"
    path.write_bytes(DATA)
    return str(path)


def test_the_same_captions_give_the_same_bytes():
    assert train_tokenizer(CAPTIONS, 320) == DATA == train_tokenizer([c.upper() for c in CAPTIONS], 320)
    assert train_tokenizer(CAPTIONS[:-1] + ["one more"], 320) != DATA


def test_pieces_are_fewer_than_bytes(file):
    tokenizer = SentencePiece(file)
    assert 256 < tokenizer.vocabulary <= 320
    assert len(tokenizer.encode(CAPTIONS[0])) < 0.5 * len(Bytes().encode(CAPTIONS[0]))
    assert SentencePiece(file, size=1).vocabulary == tokenizer.vocabulary


def keeps_everything(tokenizer, text: str) -> None:
    """Ids lie in the vocabulary, never 0; the last and only the last is EOS; the canonical text comes back."""
    ids = tokenizer.encode(text)
    assert all(0 < i < tokenizer.vocabulary for i in ids) and ids.index(EOS) == len(ids) - 1
    assert tokenizer.decode(ids) == canonicalize(text).encode("utf-8", "replace").decode()


@given(text=texts)
def test_any_text_comes_back(file, text):
    keeps_everything(SentencePiece(file, max_length=400), text)


@given(text=texts, length=st.integers(1, 12))
def test_a_text_that_is_cut_ends_as_any_other(file, text, length):
    """And what is kept is the beginning."""
    whole, ids = SentencePiece(file, max_length=400).encode(text), SentencePiece(file, max_length=length).encode(text)
    assert ids == [*whole[:-1][: length - 1], EOS]


def test_a_tokenizer_that_loses_something_is_caught(file):
    class Careless(SentencePiece):
        def encode(self, text: str) -> list[int]:
            return [*self._model.encode(text), EOS]  # not canonical

    keeps_everything(SentencePiece(file, max_length=400), "A RED star.")
    caught(keeps_everything, Careless(file, max_length=400), "A RED star.")
    for changed in ([], [2], [EOS]):
        wrong = type("Wrong", (SentencePiece,), {"encode": lambda self, text, c=changed: c + [EOS] * (c != [EOS])})
        caught(keeps_everything, wrong(file), "A RED star.")


def test_workers_and_keys_read_it_like_bytes(file):
    tokenizer = pickle.loads(pickle.dumps(SentencePiece(file).resolved(())))
    found = Texts(["One red ring", "one RED ring!", "two"], tokenizer)
    assert found.keys.tolist() == [0, 0, 2] and found.tokens(2).patches.ravel().tolist() == tokenizer.encode("two")


def test_another_model_is_refused_by_its_digest(file, tmp_path):
    good = SentencePiece(file).resolved(())
    other = tmp_path / "other.model"
    other.write_bytes(train_tokenizer(["something else"], 320))
    wrong = SentencePiece(str(other), digest=good.digest)
    for use in (wrong.encode, wrong.located, lambda _: wrong.vocabulary, wrong.resolved):
        with pytest.raises(ConfigError, match="has digest|cannot be read"):
            use("a")


@pytest.mark.parametrize(
    "content, message", [(None, "cannot be read, No such file"), (b"", "no SentencePiece model|end of text"),
                         (b"garbage", "is no SentencePiece model")]
)  # fmt: skip
def test_a_damaged_model_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "t.model").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        SentencePiece(str(tmp_path / "t.model")).encode("a")


def test_what_cannot_be_trained_is_named():
    with pytest.raises(ConfigError, match="no tokenizer of 100 pieces can be trained .* 100 vs 2"):
        train_tokenizer(CAPTIONS, 100)
    with pytest.raises(ConfigError, match="none of these has a word"):
        train_tokenizer(["", "..."], 300)
    with pytest.raises(ConfigError, match="has no model: name its file"):
        SentencePiece().encode("a")


# ---- in a run and in a saved model

IMAGES = ModelConfig((4, 4), 3, 16, 1, 2, 24, posembed=Factorised(8))


def model_with(config: Contrast) -> Model:
    info = ModelInfo(classes=())
    return Model(IMAGES, config, info, key=jr.key(0))


def test_without_a_file_it_is_trained_on_the_captions_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    config = prepare(Contrast(tokenizer=SentencePiece(size=320)), CAPTIONS, load_model).config
    assert config.tokenizer.file == "" and config.tokenizer.encode("red")[-1] == EOS
    assert prepare(Contrast(tokenizer=SentencePiece(size=320)), CAPTIONS, load_model).config == config
    assert prepare(config, ["other captions"], load_model).config == config, "trained once"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two"))
    assert prepare(config, CAPTIONS, load_model).config == config, "the same where it is trained again"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "three"))
    with pytest.raises(ConfigError, match="training on these captions gives the tokenizer .* that of the model is"):
        prepare(config, CAPTIONS[:3], load_model)


def test_a_saved_model_has_its_tokenizer(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tower = TextTower(width=16, depth=1, heads=2, mlp_width=24)
    config = prepare(Contrast(tokenizer=SentencePiece(size=320), text=tower), CAPTIONS, load_model).config
    save_model(tmp_path / "model", model_with(config), ModelInfo(classes=()))
    ids = config.tokenizer.encode("Red ring")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    (tmp_path / "model").rename(tmp_path / "moved")
    loaded = load_model(tmp_path / "moved")
    tokenizer = loaded.task.config.tokenizer
    assert tokenizer.encode("Red ring") == ids and tokenizer.digest
    save_model(tmp_path / "again", loaded, ModelInfo(classes=()))
    names = [Path(f"{place}/{FILE}") for place in ("moved", "again")]
    assert (tmp_path / names[0]).read_bytes() == (tmp_path / names[1]).read_bytes() == DATA
    configs = [(tmp_path / f"{place}/config.json").read_text() for place in ("moved", "again")]
    assert configs[0] == configs[1] and str(tmp_path) not in configs[0]
    (tmp_path / "moved" / FILE).write_bytes(train_tokenizer(["other"], 320))
    with pytest.raises(ConfigError, match="has digest .*, the tokenizer of the model"):
        load_model(tmp_path / "moved")
