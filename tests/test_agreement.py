"""Reference and backend agree: each layer, the whole model, its gradient."""

import dataclasses
from functools import lru_cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import navit_eqx
from navit_eqx import attention as fast_attention
from navit_eqx import layers as fast_layers
from navit_eqx import masks as fast_masks
from navit_eqx.rows import to_device
from navit_eqx.tasks import loss_sum
from navit_eqx.tasks.config import Softmax
from navit_eqx.weights.bridge import from_reference, to_reference
from reference import attention, encoder, layers, masks, model, patches, pooling
from reference.tasks.classify import softmax_cross_entropy, targets
from tests.support.strategies import CONFIG, I, T, filled, rows, seeds
from tests.support.strategies import model as make_model
from tests.support.tolerances import BFLOAT16, FINITE_DIFFERENCE, FLOAT32, FLOAT64, GRADIENT64, assert_close

FAST = make_model()
PARAMS = to_reference(FAST)
segments = st.lists(st.integers(0, I), min_size=T, max_size=T).map(lambda ids: np.array(ids, np.int32))
call = eqx.filter_jit(lambda f, *args: f(*args))


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@given(ids=segments)
def test_masks(ids):
    np.testing.assert_array_equal(call(fast_masks.same_image, jnp.asarray(ids)), masks.same_image(ids))
    np.testing.assert_array_equal(call(fast_masks.slot_tokens, jnp.asarray(ids), I), masks.slot_tokens(ids, I))


def test_mask_is_this_picture():
    np.testing.assert_array_equal(
        masks.same_image(np.array([1, 1, 2, 0])), [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        masks.slot_tokens(np.array([1, 1, 2, 0]), 3), [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    )


@given(seed=seeds, ids=segments, scale=st.sampled_from([1.0, 1e4]), shift=st.sampled_from([0.0, -1e5]))
def test_masked_softmax(seed, ids, scale, shift):
    """However low the logits that may be seen: what is masked is lower."""
    logits, mask = scale * numbers(seed, T, T) + shift, masks.same_image(ids)
    got = call(fast_layers.masked_softmax, jnp.asarray(logits), jnp.asarray(mask))
    assert_close(got, layers.masked_softmax(logits, mask), FLOAT64)
    total = np.asarray(got).sum(-1)
    np.testing.assert_allclose(total, (ids > 0).astype(float), atol=1e-12)
    assert (np.asarray(got)[~mask] == 0).all()


@given(seed=seeds, shift=st.sampled_from([0.0, 1e4]))
def test_layer_norm(seed, shift):
    x = numbers(seed, T, CONFIG.width) + shift
    norm = jax.tree.map(lambda a: a[0], FAST.encoder.blocks.mlp_norm)
    assert_close(call(norm, jnp.asarray(x)), layers.layer_norm(to_reference(norm), x), 1e-8 if shift else FLOAT64)


@given(seed=seeds)
def test_gelu_and_mlp(seed):
    x = 3 * numbers(seed, T, CONFIG.width)
    assert_close(jax.nn.gelu(jnp.asarray(x), approximate=True), layers.gelu_tanh(x), FLOAT64)
    assert_close(jax.nn.gelu(jnp.asarray(x), approximate=False), layers.gelu_exact(x), FLOAT64)
    mlp = FAST.pool.mlp
    assert_close(call(mlp, jnp.asarray(x)), layers.mlp(to_reference(mlp), x), FLOAT64)


@given(seed=seeds, ids=segments)
def test_attention(seed, ids):
    x, context = numbers(seed, T, CONFIG.width), numbers(seed + 1, T, CONFIG.width)
    mask = masks.same_image(ids)
    layer = FAST.pool.attention
    got = call(layer, jnp.asarray(x), jnp.asarray(context), jnp.asarray(mask))
    assert_close(got, attention.attention(to_reference(layer), x, context, mask), FLOAT64)


def attention_gradient(look, q, k, v, mask, g):
    """Of Σ g ∘ look(q, k, v)."""
    return jax.grad(lambda *qkv: (g * look(*qkv, mask, 0.5)).sum(), argnums=(0, 1, 2))(q, k, v)


def plainly(q, k, v, mask, scale):
    """Attention as autodiff sees it."""
    weights = fast_layers.masked_softmax(jnp.einsum("htk,hsk->hts", q, k) * scale, mask)
    return jnp.einsum("hts,hsk->htk", weights, v)


def has_the_gradient_of_autodiff(look, seed, ids):
    q, k, v, g = (jnp.asarray(numbers(seed + i, 2, T, 3)) for i in range(4))
    mask = jnp.asarray(masks.same_image(ids))[None]
    got, want = (call(partial(attention_gradient, f), q, k, v, mask, g) for f in (look, plainly))
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, FLOAT64)


@given(seed=seeds, ids=segments)
def test_attention_has_the_gradient_of_autodiff(seed, ids):
    has_the_gradient_of_autodiff(fast_attention.look, seed, ids)


def test_a_wrong_gradient_of_attention_is_caught():
    def forgetful(scale, kept, g):
        """Without the sum over keys."""
        q, k, v, w = kept
        ds = scale * w * jnp.einsum("htk,hsk->hts", g, v)
        return (
            jnp.einsum("hts,hsk->htk", ds, k),
            jnp.einsum("hts,htk->hsk", ds, q),
            jnp.einsum("hts,htk->hsk", w, g),
            None,
        )

    sabotaged = jax.custom_vjp(plainly, nondiff_argnums=(4,))
    sabotaged.defvjp(fast_attention.dot_product_attention_fwd, forgetful)
    with pytest.raises(AssertionError):
        has_the_gradient_of_autodiff(sabotaged, 0, np.ones(T, np.int32))


def test_attention_of_a_single_token_is_its_value():
    layer = to_reference(FAST.pool.attention)
    x = numbers(0, 1, CONFIG.width)
    value = np.einsum("td,dhk,hke->te", x, layer["v"], layer["o"])
    assert_close(attention.attention(layer, x, x, None), value, FLOAT64)


def test_heads_first_is_its_own_inverse():
    x = jnp.asarray(numbers(0, 3, 4, 5, 6))
    np.testing.assert_array_equal(fast_attention.heads_first(fast_attention.heads_first(x)), x)


@given(seed=seeds, ids=segments)
def test_encoder_and_pool(seed, ids):
    x, mask = numbers(seed, T, CONFIG.width), masks.same_image(ids)
    got = call(FAST.encoder, jnp.asarray(x), jnp.asarray(mask))
    want = encoder.encoder(PARAMS["encoder"], x, mask)
    assert_close(got, want, FLOAT64)
    slots = masks.slot_tokens(ids, I)
    none = np.zeros((I, 0, CONFIG.width))
    pooled = call(FAST.pool, jnp.asarray(x), jnp.asarray(slots), jnp.asarray(none))
    assert_close(pooled, pooling.map_pool(PARAMS["pool"], x, slots, none), FLOAT64)
    assert (np.asarray(pooled)[~slots.any(-1)] == 0).all()


@given(packed=rows())
def test_model(packed):
    got = call(FAST, to_device(packed.row))
    assert_close(got, model.forward(PARAMS, packed.row), FLOAT64)


def test_uint8_pixels_are_normalised_alike():
    pixels = np.arange(256, dtype=np.uint8)
    got = navit_eqx.patches.normalize(jnp.asarray(pixels))
    assert_close(got, patches.normalize(pixels), FLOAT32)
    assert patches.normalize(pixels)[[0, 255]].tolist() == [-1.0, 1.0]
    np.testing.assert_array_equal(np.rint((patches.normalize(pixels) + 1) * 127.5), pixels)


def slow_mean_loss(params, row):
    target = targets(row.labels, row.partners, row.weights, CONFIG.classes, 0.1)
    total, count = softmax_cross_entropy(model.forward(params, row), target, row.labels)
    return total / max(count, 1)


@eqx.filter_jit
@eqx.filter_grad
def fast_gradient(module, row):
    total, count = loss_sum(Softmax(0.1), module(row), row)
    return total / jnp.maximum(count, 1).astype(total.dtype)


@given(packed=rows(), seed=seeds)
def test_gradient_is_that_of_the_numpy_model(packed, seed):
    """jax.grad of the backend, along a random direction, against central differences of the reference."""
    rng = np.random.default_rng(seed)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), eqx.filter(FAST, eqx.is_array))
    gradient = fast_gradient(FAST, to_device(packed.row))
    slope = sum(float((g * d).sum()) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction)))

    def at(step):
        ema_update = eqx.apply_updates(FAST, jax.tree.map(lambda d: step * d, direction))
        return slow_mean_loss(to_reference(ema_update), packed.row)

    h = 1e-5
    size = float(np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(gradient))))
    assert abs((at(h) - at(-h)) / (2 * h) - slope) <= FINITE_DIFFERENCE * max(1.0, size)


@given(packed=rows())
def test_gradient_of_a_row_is_the_sum_over_its_images(packed):
    """Loss and gradient of a packed row equal those of its images, each alone in a row."""
    from reference.rows import pack

    total = jax.tree.map(jnp.zeros_like, eqx.filter(FAST, eqx.is_array))
    for slot, image in enumerate(packed.images):
        alone = pack([image], [int(packed.row.labels[slot])], [slot], T, I)
        gradient = fast_gradient(FAST, to_device(alone))
        total = jax.tree.map(jnp.add, total, gradient)
    together = fast_gradient(FAST, to_device(packed.row))
    scale = max(len(packed.images), 1)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(together))
    for got, want in zip(jax.tree.leaves(together), jax.tree.leaves(total)):
        error = float(jnp.abs(got - want / scale).max())
        assert error <= GRADIENT64 * max(largest, 1e-300) + 1e-15


@pytest.mark.parametrize("dtype, limit", [("float32", FLOAT32), ("bfloat16", BFLOAT16)])
@given(packed=rows())
def test_rounding(dtype, limit, packed):
    """Low precision against the float64 reference on the very same parameters and pixels."""
    model_at, exact = rounded(dtype)
    row = packed.row._replace(patches=packed.row.patches.astype(np.float32))
    got = call(model_at, to_device(row))
    assert got.dtype == jnp.float32
    want = model.forward(exact, row._replace(patches=row.patches.astype(np.float64)))
    count = len(packed.images)
    if count:
        assert_close(got[:count], want[:count], limit)


@lru_cache
def rounded(dtype):
    """The model with float32 parameters that computes in `dtype`, and those parameters for the reference."""
    like = filled(dataclasses.replace(CONFIG, dtype=dtype), 0, "float32")
    at = from_reference(PARAMS, like)
    as64 = jax.tree.map(lambda a: a.astype(np.float64) if isinstance(a, np.ndarray) else a, to_reference(at))
    return at, as64


def test_bridge_goes_both_ways():
    back = from_reference(to_reference(FAST), FAST)
    jax.tree.map(np.testing.assert_array_equal, eqx.filter(back, eqx.is_array), eqx.filter(FAST, eqx.is_array))
    broken = to_reference(FAST)
    weights = broken["head"].pop("w")
    with pytest.raises(ValueError, match="head.w is missing"):
        from_reference(broken, FAST)
    broken["head"]["w"] = weights[:, :-1]
    with pytest.raises(ValueError, match="head.w has shape"):
        from_reference(broken, FAST)


def test_reference_init_has_the_tree_of_the_backend():
    fresh = model.init(
        np.random.default_rng(0), patch_dim=CONFIG.patch_dim, width=CONFIG.width, depth=CONFIG.depth,
        heads=CONFIG.heads, mlp_width=CONFIG.mlp_width, classes=CONFIG.classes, positions=CONFIG.posembed.size,
    )  # fmt: skip
    like = from_reference(fresh, FAST)
    assert to_reference(like).keys() >= fresh.keys()
    got = call(like, to_device(_some_row()))
    np.testing.assert_array_equal(got, model.forward(fresh, _some_row()))


def _some_row():
    from reference.rows import pack
    from tests.support.strategies import tokens_of

    return pack([tokens_of(np.random.default_rng(0), (2, 3))], [1], [0], T, I)
