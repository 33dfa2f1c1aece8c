"""Contrastive losses: the reference is what the formulas say; the backend says the same in every form."""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navit_eqx.rows import micro_batches
from navit_eqx.tasks import pair_losses as fast
from reference.tasks import contrast as slow
from tests.support.contrast import (
    DUPLICATES,
    GRADIENTS,
    KINDS,
    LOSSES,
    TEXTS,
    agrees,
    distinct,
    scalars,
    slots_of,
    towers,
)
from tests.support.strategies import seeds
from tests.support.tolerances import EXACT, FINITE_DIFFERENCE, FLOAT64, GRADIENT64, STEP, assert_close

kinds = pytest.mark.parametrize("kind", KINDS)
duplicates = pytest.mark.parametrize("duplicates", DUPLICATES)

# (kind, duplicates, devices, blocks): few by default, since each is compiled
FEW = [
    ("sigmoid", "positive", 1, 1),
    ("softmax", "positive", 1, 3),
    ("sigmoid", "negative", 1, 3),
    ("softmax", "ignore", 4, 2),
]
BLOCKS = [(kind, "positive", 1, blocks) for kind in KINDS for blocks in range(1, TEXTS + 2)]


@pytest.mark.parametrize("form", FEW, ids=str)
@given(both=towers(), scalars=scalars)
def test_agrees(form, both, scalars):
    agrees(form, *both, *scalars)


@pytest.mark.slow
@pytest.mark.parametrize("form", BLOCKS, ids=str)
@given(both=towers(), scalars=scalars)
def test_every_number_of_blocks_agrees(form, both, scalars):
    """All divisors of the number of texts, all remainders, and more blocks than texts."""
    agrees(form, *both, *scalars)


# the reference ------------------------------------------------------------------------------------


@kinds
@duplicates
@given(both=towers(5, 4), scalars=scalars)
def test_gradients_are_finite_differences(kind, duplicates, both, scalars):
    """Of all vectors and both scalars, along a random direction each."""
    images, texts = (slots._replace(vectors=slow.vectors(slots)) for slots in both)
    arguments = images, texts, *scalars

    def mean(images, texts, log_scale, bias):
        total, count = LOSSES[kind](images, texts, log_scale, bias, duplicates)
        return total / max(count, 1)

    rng = np.random.default_rng(0)
    for place, gradient in enumerate(GRADIENTS[kind](*arguments, duplicates)):
        way = rng.normal(size=np.shape(gradient))

        def moved(step, place=place, way=way):
            old = arguments[place]
            new = old + step * way if place > 1 else old._replace(vectors=old.vectors + step * way)
            return mean(*arguments[:place], new, *arguments[place + 1 :])

        slope = (moved(STEP) - moved(-STEP)) / (2 * STEP)
        assert abs(slope - (gradient * way).sum()) <= FINITE_DIFFERENCE * max(1, abs(slope))


@kinds
@duplicates
@given(both=towers(), scalars=scalars, seed=seeds)
def test_slots_may_stand_in_any_order(kind, duplicates, both, scalars, seed):
    rng = np.random.default_rng(seed)
    mixed = [slow.Slots(*(leaf[order] for leaf in s)) for s in both for order in [rng.permutation(len(s.keys))]]
    want, got = (LOSSES[kind](*slots, *scalars, duplicates) for slots in (both, mixed))
    assert got[1] == want[1]
    assert abs(got[0] - want[0]) <= EXACT * max(1, abs(want[0]))


@kinds
@duplicates
@given(both=towers(), scalars=scalars, place=st.integers(0, TEXTS), seed=seeds)
def test_an_empty_slot_changes_nothing(kind, duplicates, both, scalars, place, seed):
    """Anywhere, in either tower, with NaN in it."""
    empty = slots_of(np.random.default_rng(seed), [-1])
    more = [slow.Slots(*(np.insert(a, place, b, 0) for a, b in zip(slots, empty))) for slots in both]
    want = LOSSES[kind](*both, *scalars, duplicates)
    for slots in ((more[0], both[1]), (both[0], more[1]), more):
        got = LOSSES[kind](*slots, *scalars, duplicates)
        assert got[1] == want[1] and abs(got[0] - want[0]) <= EXACT * max(1, abs(want[0]))


@given(seed=seeds, scalars=scalars, count=st.integers(1, 8))
def test_distinct_keys_give_the_published_losses(seed, scalars, count):
    """SigLIP: −1/N Σ log σ(z (s + b)); CLIP: the mean of both cross-entropies with the diagonal."""
    log_scale, bias = scalars
    images, texts = distinct(count, seed)
    s = np.exp(log_scale) * images.vectors @ texts.vectors[np.argsort(texts.keys)].T
    z = 2 * np.eye(count) - 1
    siglip = -np.log(1 / (1 + np.exp(-z * (s + bias)))).sum() / count
    log_p = [np.diag(s) - np.log(np.exp(s).sum(axis)) for axis in (0, 1)]
    for how in DUPLICATES:
        total, n = slow.sigmoid_loss(images, texts, log_scale, bias, how)
        assert_close(total / n, siglip, GRADIENT64)
        total, n = slow.softmax_loss(images, texts, log_scale, bias, how)
        assert abs(total / n + np.mean(log_p)) <= GRADIENT64


@duplicates
def test_duplicates_are_what_they_are_called(duplicates):
    """Two images of one caption, each with its own copy of it, and a third pair."""
    keys, ids = np.array([0, 0, 1], np.int32), np.arange(3, dtype=np.int32)
    slots = slow.Slots(np.eye(3), keys, ids)
    for side, own in (slow, slots), (fast, fast.Slots(*map(jnp.asarray, slots))):
        counts, positive = side.weigh(own, own, duplicates)
        twin = (0, 1)
        assert bool(counts[twin]) == (duplicates != "ignore")
        assert bool(positive[twin]) == (duplicates == "positive")
        assert np.diag(positive).all() and np.asarray(counts)[:2, 2].all() and not positive[0, 2]


@given(both=towers())
def test_both_sides_weigh_alike(both):
    for how in DUPLICATES:
        want = slow.weigh(*both, how)
        got = fast.weigh(*(fast.Slots(*map(jnp.asarray, slots)) for slots in both), how)
        np.testing.assert_array_equal(got, want)


# start --------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("count", [1, 2, 3, 82])
def test_loss_of_the_start(kind, count):
    """With all similarities 0, and the bias at its start, whose slope is 0 there."""
    images, texts = distinct(count, 0)
    images, texts = (slots._replace(vectors=np.zeros((count, 2))) for slots in (images, texts))
    bias = slow.bias_init(count)
    total, n = LOSSES[kind](images, texts, np.log(10), bias)
    assert_close(total / n + 1, slow.start_loss(kind, count) + 1, EXACT)
    assert bias == fast.bias_init(count)
    if count > 1:
        assert abs(GRADIENTS[kind](images, texts, np.log(10), bias).bias) <= EXACT


def test_the_scale_is_clipped_at_100():
    for t in (-1.0, 0.0, 4.0, 5.0, 100.0):
        assert_close(fast.clip_log_scale(jnp.asarray(t)), slow.clip_log_scale(t), EXACT)
        assert np.exp(slow.clip_log_scale(t)) == pytest.approx(min(np.exp(t), 100))


# what the backend adds ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FEW, ids=str)
def test_nothing_to_compare_gives_zero(form):
    """No images, no texts, neither: gradients are 0, not NaN."""
    images, texts = distinct(TEXTS, 0)
    nobody = slow.Slots(np.full_like(images.vectors, np.nan), *[np.full(TEXTS, -1, np.int32)] * 2)
    pad = lambda slots, n: slow.Slots(*(np.resize(leaf, (n, *leaf.shape[1:])) for leaf in slots))
    for one, other in ((images, nobody), (nobody, texts), (nobody, nobody)):
        agrees(form, pad(one, 9), pad(other, TEXTS), 1.0, -1.0)


@pytest.mark.parametrize("form", FEW, ids=str)
def test_a_scale_above_the_limit_comes_back(form):
    """Its gradient is not zero, as it would be behind a clip."""
    both = distinct(TEXTS, 1)
    above = float(np.log(slow.LARGEST_SCALE)) + 0.1
    agrees(
        form,
        *(slow.Slots(*(np.resize(leaf, (n, *leaf.shape[1:])) for leaf in s)) for s, n in zip(both, (9, 7))),
        above,
        -1.0,
    )


def test_a_unit_vector_of_nothing_is_nothing():
    x = jnp.asarray([[3.0, 4.0], [0.0, 0.0]], "float32")
    assert_close(fast.unit(x), [[0.6, 0.8], [0, 0]], 1e-6)
    gradient = jax.grad(lambda x: (fast.unit(x) * jnp.asarray([[1.0, 2.0], [0.0, 0.0]], "float32")).sum())(x)
    assert np.isfinite(gradient).all() and np.abs(gradient[0] @ x[0]) < 1e-6
    assert fast.unit(x.astype("bfloat16")).dtype == jnp.float32


def test_embedded_in_parts_is_embedded_at_once():
    """Loss and gradient of all images with all texts, though only a part is embedded at a time."""
    rng = np.random.default_rng(0)
    rows, weights = jnp.asarray(rng.normal(size=(6, 3, 5))), jnp.asarray(rng.normal(size=(5, 4)))
    keys = jnp.arange(18, dtype=jnp.int32)
    embed = lambda weights, rows: fast.unit(jnp.tanh(rows @ weights))

    @jax.jit
    def both(weights):
        def loss(weights, parts):
            found = embed(weights, rows)
            if parts:
                found = fast.embed_twice(lambda part: embed(weights, part), micro_batches(rows, parts, "task.parts"))
            slots = fast.Slots(found.reshape(18, 4), keys, keys)
            return fast.contrastive_loss("sigmoid", slots, slots, jnp.log(10.0), jnp.asarray(-3.0))[0]

        return [jax.value_and_grad(loss)(weights, parts) for parts in (0, 3)]

    assert_close(
        fast.embed_twice(partial(embed, weights), micro_batches(rows, 3, "task.parts")), embed(weights, rows), EXACT
    )
    (want, slope), (got, found) = both(weights)
    assert_close(got, want, FLOAT64)
    assert_close(found, slope, FLOAT64)
    with pytest.raises(ValueError, match="6 rows cannot be cut into 4 equal parts"):
        micro_batches(rows, 4, "task.parts")


def test_a_part_stores_its_input_alone():
    """What is computed on the way to an embedding, here 100 numbers each, is computed again."""
    weights = jnp.ones((3, 100))
    embed = lambda weights, rows: jnp.tanh(jnp.sin(rows @ weights)).sum(-1)
    back = jax.vjp(lambda w: fast.embed_twice(partial(embed, w), jnp.ones((4, 5, 3))), weights)[1]
    assert sum(leaf.size for leaf in jax.tree.leaves(back)) < 4 * 5 * 100


@kinds
def test_similarities_are_exact_whatever_the_towers_compute_in(kind):
    """float32 from bfloat16 vectors, and no product at the lower precision of accelerators."""
    slots = fast.Slots(jnp.ones((4, 2), "bfloat16"), *[jnp.arange(4, dtype=jnp.int32)] * 2)

    def mean(vectors, scalar):
        total, *_ = fast.contrastive_loss(kind, slots._replace(vectors=vectors), slots, scalar, scalar, blocks=2)
        return total

    scalar = jnp.asarray(1.0, "float32")
    program = str(jax.make_jaxpr(jax.grad(mean))(slots.vectors, scalar))
    products = re.findall(r":(\w+)\[[\d,]+\] = dot_general\[(.*?)\n *\]", program, re.DOTALL)
    assert len(products) == 4
    for dtype, options in products:
        assert dtype == "f32" and "precision=(Precision.HIGHEST, Precision.HIGHEST)" in options


# The page.

PAGE = Path(__file__).parent.parent / "docs" / "contrastive.md"


def test_the_code_on_the_page_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 5
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {})


def test_the_tests_named_on_the_page_exist():
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert len(named) >= 5
    there = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert named <= set(re.findall(r"^def (test_\w+)", there, re.MULTILINE))
