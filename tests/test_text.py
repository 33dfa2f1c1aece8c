"""Text is an image with one axis: the same tower, packed, agrees on both sides; canonical form and bytes."""

from functools import lru_cache

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navit_eqx import text as fast
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.rows import Row as DeviceRow
from navit_eqx.weights.bridge import to_reference
from reference import model as slow_model
from reference import text as slow
from reference.rows import Row, pack
from tests.support.laws import caught
from tests.support.strategies import backbone, seeds
from tests.support.tolerances import FLOAT64, assert_close

LONGEST, ROW_TOKENS, ROW_TEXTS = 12, 40, 6
CONFIG = ModelConfig((1,), slow.VOCABULARY, 16, 2, 2, 24, posembed=Factorised(LONGEST, axes=1), dtype="float64")
texts = st.text(max_size=20) | st.sampled_from(["", "A small dog.", "snake_case", "ﬁne  ①", "straße", "İstanbul"])
lists = st.lists(texts, min_size=1, max_size=3)


@lru_cache
def tower():
    return eqx.filter_jit(backbone(0, CONFIG))


def row_of(captions: list[str]) -> Row:
    """Captions as one packed row."""
    return pack(
        [slow.tokens_of(slow.encode(caption, LONGEST)) for caption in captions],
        range(len(captions)),
        ROW_TOKENS,
        ROW_TEXTS,
    )


def forward(row: Row) -> np.ndarray:
    """The JAX tower on token ids."""
    return np.asarray(tower()(DeviceRow(*map(jnp.asarray, row))))


def reference(row: Row) -> np.ndarray:
    """The tower for images of the reference on one-hot patches."""
    return slow_model.forward(to_reference(backbone(0, CONFIG)), slow.with_one_hot(row, slow.VOCABULARY))


@given(captions=lists)
def test_a_text_is_an_image_of_one_axis(captions):
    row = row_of(captions)
    assert_close(forward(row), reference(row), FLOAT64)


@given(captions=lists)
def test_a_packed_text_is_the_text_alone(captions):
    packed_texts_are_texts_alone(forward, captions)


def packed_texts_are_texts_alone(forward, captions: list[str]) -> None:
    packed = forward(row_of(captions))
    for slot, caption in enumerate(captions):
        assert_close(packed[slot], forward(row_of([caption]))[0], FLOAT64)


def test_positions_that_continue_in_the_next_text_are_caught():
    def running(row: Row) -> np.ndarray:
        return forward(row._replace(coords=np.arange(ROW_TOKENS, dtype=np.int32)[:, None] % LONGEST))

    caught(packed_texts_are_texts_alone, running, ["a dog", "a cat"])


@given(text=st.text())
def test_both_sides_have_the_same_text(text):
    assert fast.canonicalize(text) == slow.canonicalize(text)
    assert fast.Bytes(LONGEST).encode(text) == slow.encode(text, LONGEST)


@given(text=st.text())
def test_the_canonical_form_is_final(text):
    canonical = slow.canonicalize(text)
    assert slow.canonicalize(canonical) == canonical
    assert canonical == " ".join(canonical.split()) and "_" not in canonical


def test_the_canonical_form_is_this():
    for text, want in [
        ("  A small, RED_apple! ", "a small red apple"),
        ("ﬁne ①", "fine 1"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("don't", "dont"),
        ("...", ""),
    ]:
        assert slow.canonicalize(text) == want


@given(text=st.text())
def test_ids_give_the_text_back(text):
    ids = slow.encode(text, 1 << 20)
    assert slow.decode(ids) == slow.canonicalize(text)
    assert ids[-1] == slow.EOS and 0 not in ids and max(ids) < slow.VOCABULARY


@given(text=st.text(), longest=st.integers(1, 30))
def test_a_text_that_is_cut_still_ends(text, longest):
    ends_where_it_is_cut(lambda text, longest: slow.encode(text, longest), text, longest)


def ends_where_it_is_cut(encode, text: str, longest: int) -> None:
    whole, cut = encode(text, 1 << 20), encode(text, longest)
    assert len(cut) == min(longest, len(whole)) and cut[-1] == slow.EOS
    assert cut[:-1] == whole[: len(cut) - 1]


def test_a_cut_that_loses_the_end_is_caught():
    caught(ends_where_it_is_cut, lambda text, longest: slow.encode(text, 1 << 20)[:longest], "a small dog", 5)


def test_a_text_starts_at_position_0():
    tokens = slow.tokens_of(slow.encode("a dog", LONGEST))
    assert tokens.coords[:, 0].tolist() == list(range(6)) and tokens.grid.tolist() == [6]


def test_the_empty_text_is_its_end_alone():
    assert slow.encode("", 9) == slow.encode("?!", 9) == [slow.EOS]
    assert np.isfinite(forward(row_of([""]))).all()


@given(seed=seeds)
def test_an_embedding_of_ids_is_linear_in_one_hot_patches(seed):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 9, (7, 1))
    w = rng.normal(size=(9, 4))
    assert_close(slow.one_hot(ids, 9) @ w, w[ids[:, 0]], FLOAT64)


@pytest.mark.parametrize("patch", [(2,), (), (16,)])
def test_patches_of_one_axis_other_than_text_are_refused(patch):
    with pytest.raises(ConfigError, match="model.patch"):
        ModelConfig(patch)
