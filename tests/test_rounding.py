"""Rounding against float64 on the very same numbers, by a stated model of its error.

The unit of rounding is 2⁻²⁴ in float32 and 2⁻⁸ in bfloat16: tests/support/tolerances.py. A product of matrices may be
wrong by a few units of |A| |B|, entry by entry, on numbers of random sign: a bound that needs no tolerance for
cancellation. Sums, norms and softmax in bfloat16 are float32 rounded once. The whole model, forward: `test_rounding`
in test_agreement.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from navit_eqx import layers as fast
from navit_eqx import pooling as fast_pooling
from navit_eqx.weights.bridge import from_reference
from reference import layers, masks, pooling
from reference.rows import Batch
from tests.support.laws import caught
from tests.support.rounding import call, rounded
from tests.support.strategies import CONFIG, I, T, model, rows, seeds
from tests.support.tasks import TASKS, mean_gradient, on_device, targets_of
from tests.support.tolerances import (
    FLOAT32,
    GRADIENT16,
    GRADIENT32,
    PRODUCT16,
    PRODUCT32,
    UNIT32,
    assert_close,
    assert_rounded_once,
)

product = jax.jit(fast.matmul)


def within(got, a, b, limit: float) -> None:
    """|C − A B| ≤ limit |A| |B|, entry by entry."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    ratio = np.max(np.abs(np.asarray(got, np.float64) - a @ b) / (np.abs(a) @ np.abs(b)))
    assert ratio <= limit, f"the error is {ratio / UNIT32:.3g} u |A| |B|, allowed are {limit / UNIT32:.3g}"


@pytest.mark.parametrize("inner", [16, 256, 4096])
@given(seed=seeds)
@settings(max_examples=5)
def test_products(inner, seed):
    """In float32; and in bfloat16 with both inputs and the result rounded, the sum not."""
    a, b = np.random.default_rng(seed).normal(size=(2, inner, 32)).astype(np.float32)
    a = np.ascontiguousarray(a.T)
    within(product(jnp.asarray(a), jnp.asarray(b)), a, b, PRODUCT32)
    short = product(jnp.asarray(a, "bfloat16"), jnp.asarray(b))
    assert short.dtype == jnp.bfloat16
    within(short, a, b, PRODUCT16)


def test_a_coarse_product_is_caught():
    """Inputs rounded to the 10 bits of TF32, as accelerators do by default."""
    a, b = np.random.default_rng(0).normal(size=(2, 64, 64)).astype(np.float32)
    short = [jax.lax.reduce_precision(jnp.asarray(x), 8, 10) for x in (a, b)]
    with pytest.raises(AssertionError, match="allowed are 8"):
        within(product(*short), a, b, PRODUCT32)


@given(seed=seeds, shift=st.sampled_from([0.0, 1e2, 1e4]))
def test_a_norm_far_from_zero(seed, shift):
    """An error of the mean, a few roundings of its size: the variance is not the difference of two large numbers."""
    x = (np.random.default_rng(seed).normal(size=(24, CONFIG.width)) + shift).astype(np.float32)
    norm = fast.LayerNorm(jnp.ones(CONFIG.width, "float32"), None)
    want = layers.layer_norm({"scale": np.ones(CONFIG.width), "bias": None, "eps": CONFIG.eps}, x.astype(np.float64))
    assert_close(call(norm, jnp.asarray(x)), want, FLOAT32 + 8 * shift * UNIT32)


# in bfloat16: read off the program, or run an operation at a time; a compiler may keep more bits ---------


def short(seed, *shape):
    """Numbers that bfloat16 holds, in it and in float64."""
    x = jnp.asarray(np.random.default_rng(seed).normal(size=shape), "bfloat16")
    return x, np.asarray(x, np.float64)


def arithmetic(jaxpr) -> set[str]:
    """Primitives of a program that compute with bfloat16, those of inner programs too."""
    found = set()
    for equation in jaxpr.eqns:
        inner = [p for p in equation.params.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
        for program in inner:
            found |= arithmetic(getattr(program, "jaxpr", program))
        if not inner and any(getattr(v.aval, "dtype", None) == jnp.bfloat16 for v in equation.invars):
            found.add(equation.primitive.name)
    return found - {"convert_element_type"}


def norms_in_float32(seed):
    for kind, norm in fast.NORMS.items():
        x, exact = short(seed, T, 64)
        scale, wide = short(seed + 1, 64)
        want = layers.NORMS[norm.__name__]({"scale": wide, "bias": None, "eps": CONFIG.eps}, exact)
        apply = norm(scale.astype("float32"), None)
        assert not arithmetic(jax.make_jaxpr(apply)(x).jaxpr), kind
        got = jax.jit(lambda x, apply=apply: apply(x))(x)
        assert got.dtype == jnp.bfloat16, kind
        assert_rounded_once(got, want)


def softmax_in_float32(seed):
    """With a mask and without: weights are one rounding from those of float64."""
    logits, exact = short(seed, T, 300)
    ids = np.random.default_rng(seed).integers(0, 3, 300)
    mask = np.equal.outer(np.arange(T) % 3, ids)
    for m in (None, mask):
        with jax.disable_jit():
            got = fast.masked_softmax(logits, None if m is None else jnp.asarray(m))
        assert got.dtype == jnp.bfloat16
        assert_rounded_once(got, layers.masked_softmax(exact, m))


COUNT = 300  # tokens of the first image: integers above 256 have no place of their own in bfloat16


def mean_in_float32(seed, pool=None):
    """Two images, one of 300 tokens, and padding; ones have the mean one, exactly."""
    ids = np.repeat([1, 0, 2], [COUNT, 5, 7]).astype(np.int32)
    mask, none = masks.slot_tokens(ids, 3), np.zeros((3, 0, 8))
    run = jax.jit(lambda x: (pool or fast_pooling.MeanPool())(x, jnp.asarray(mask), jnp.asarray(none, x.dtype)))
    np.testing.assert_array_equal(run(jnp.ones((len(ids), 8), "bfloat16"))[:2], np.ones((2, 8)))
    x, exact = short(seed, len(ids), 8)
    assert_rounded_once(run(x + 1), pooling.mean_pool({}, np.asarray(x + 1, np.float64), mask, none))


LAWS = (norms_in_float32, softmax_in_float32, mean_in_float32)


@pytest.mark.parametrize("law", LAWS)
@given(seed=seeds)
@settings(max_examples=5)
def test_sums_are_in_float32(law, seed):
    law(seed)


@pytest.mark.parametrize("law", LAWS)
def test_sums_in_bfloat16_are_caught(monkeypatch, law):
    """All that stands between them is `full`."""
    for module in (fast, fast_pooling):
        monkeypatch.setattr(module, "full", lambda x: x)
    jax.clear_caches()  # `jax.checkpoint` keeps what it traced
    caught(law, 0)
    jax.clear_caches()


def test_a_count_in_bfloat16_is_caught():
    def careless(x, mask, registers):
        one = jnp.ones((), x.dtype)
        count, _ = jax.lax.scan(
            lambda n, here: (n + here * one, None), jnp.zeros(len(mask), x.dtype), mask.T.astype(x.dtype)
        )
        return (mask.astype("float32") @ x.astype("float32") / count[:, None].astype("float32")).astype(x.dtype)

    caught(mean_in_float32, 0, careless)


# gradients ------------------------------------------------------------------------------------------


def errors(got, want) -> dict[str, float]:
    """Norm of the error of each leaf over that of the leaf, which counts as no less than a hundredth of all."""
    total = np.sqrt(sum(float((np.asarray(x) ** 2).sum()) for x in jax.tree.leaves(want)))
    paths = jax.tree_util.tree_leaves_with_path(want)
    return {
        jax.tree_util.keystr(path): float(
            np.linalg.norm(np.asarray(a, np.float64) - b) / max(np.linalg.norm(b), 1e-2 * total)
        )
        for a, (path, b) in zip(jax.tree.leaves(got), paths, strict=True)
    }


@pytest.mark.parametrize("dtype, limit", [("float32", GRADIENT32), ("bfloat16", GRADIENT16)])
@given(packed=rows(least=1))
@settings(max_examples=10)
def test_gradients(dtype, limit, packed):
    """Of every leaf, in low precision, against the same parameters and pixels in float64."""
    module, exact = rounded(dtype)
    targets = targets_of(TASKS["softmax"], packed.row, 0)._replace(labels=np.arange(I, dtype=np.int32))
    row = packed.row._replace(patches=packed.row.patches.astype(np.float32))
    got, _ = mean_gradient(module, on_device(TASKS["softmax"], Batch(row, targets)))
    double = from_reference(exact, model(task=TASKS["softmax"]))
    row = row._replace(patches=row.patches.astype(np.float64))
    want, _ = mean_gradient(double, on_device(TASKS["softmax"], Batch(row, targets)))
    for name, error in errors(got, want).items():
        assert error <= limit, f"{name}: {error:.3g}, allowed {limit:.3g}"
