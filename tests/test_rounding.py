"""Rounding against float64 on the very same numbers, by a stated model of its error.

u = 2⁻²⁴ is the unit of rounding in float32, 2⁻⁸ in bfloat16. A product of matrices may be wrong by 8u |A| |B|, entry by
entry, on numbers of random sign: a bound that needs no tolerance for cancellation. The whole model, forward:
`test_rounding` in test_agreement.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from navit_eqx import layers as fast
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import from_reference
from reference import layers
from tests.support.strategies import CONFIG, filled, rows, seeds
from tests.test_agreement import call, fast_gradient, rounded
from tests.support.tolerances import FLOAT32, GRADIENT16, GRADIENT32, assert_close

UNIT32, UNIT16 = 2.0**-24, 2.0**-8
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
    within(product(jnp.asarray(a), jnp.asarray(b)), a, b, 8 * UNIT32)
    short = product(jnp.asarray(a, "bfloat16"), jnp.asarray(b))
    assert short.dtype == jnp.bfloat16
    within(short, a, b, 3 * UNIT16 + 8 * UNIT32)


def test_a_coarse_product_is_caught():
    """Inputs rounded to the 10 bits of TF32, as accelerators do by default."""
    a, b = np.random.default_rng(0).normal(size=(2, 64, 64)).astype(np.float32)
    short = [jax.lax.reduce_precision(jnp.asarray(x), 8, 10) for x in (a, b)]
    with pytest.raises(AssertionError, match="allowed are 8"):
        within(product(*short), a, b, 8 * UNIT32)


@given(seed=seeds, shift=st.sampled_from([0.0, 1e2, 1e4]))
def test_a_norm_far_from_zero(seed, shift):
    """An error of the mean, a few roundings of its size: the variance is not the difference of two large numbers."""
    x = (np.random.default_rng(seed).normal(size=(24, CONFIG.width)) + shift).astype(np.float32)
    norm = fast.LayerNorm(jnp.ones(CONFIG.width, "float32"), None)
    want = layers.layer_norm({"scale": np.ones(CONFIG.width), "bias": None}, x.astype(np.float64))
    assert_close(call(norm, jnp.asarray(x)), want, FLOAT32 + 8 * shift * 2**-24)


def errors(got, want) -> dict[str, float]:
    """For each leaf the norm of the error over that of the leaf, which counts as no less than a hundredth of all."""
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
    model, exact = rounded(dtype)
    row = packed.row._replace(patches=packed.row.patches.astype(np.float32))
    got = fast_gradient(model, to_device(row))
    double = from_reference(exact, filled(CONFIG, 0, "float64"))
    want = fast_gradient(double, to_device(row._replace(patches=row.patches.astype(np.float64))))
    for name, error in errors(got, want).items():
        assert error <= limit, f"{name}: {error:.3g}, allowed {limit:.3g}"
