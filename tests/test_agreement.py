"""Reference and backend agree: each layer, the backbone, every task, its loss and its gradient."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from navit_eqx import attention as fast_attention
from navit_eqx import layers as fast_layers
from navit_eqx import masks as fast_masks
from navit_eqx import tasks as fast_tasks
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Contrast, Embed, Segment, ZeroShot
from navit_eqx.tasks.config_detect import Detect
from navit_eqx.weights.bridge import from_reference, to_reference
from reference import attention, encoder, init, layers, masks, model, patches, pooling, tasks
from reference.evaluation.metrics import correct, precision_at_1
from reference.rows import Batch, pack
from tests.support import laws
from tests.support.rounding import call, rounded
from tests.support.strategies import CLASSES, CONFIG, I, T, backbone, rows, seeds, tokens_of
from tests.support.strategies import model as make_model
from tests.support.tasks import TASKS, every_task, fast_loss, mean_gradient, on_device, slow_loss, stacked, targets_of
from tests.support.tolerances import (
    BFLOAT16,
    CANCELLED64,
    FINITE_DIFFERENCE,
    FLOAT32,
    FLOAT64,
    STEP,
    assert_close,
)

FAST = backbone()
PARAMS = to_reference(FAST)
MODELS = {name: make_model(task=task) for name, task in TASKS.items()}
segments = st.lists(st.integers(0, I), min_size=T, max_size=T).map(lambda ids: np.array(ids, np.int32))


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@given(ids=segments)
def test_masks(ids):
    np.testing.assert_array_equal(call(fast_masks.same_image, jnp.asarray(ids)), masks.same_image(ids))
    for name in ("slot_tokens", "used_slots"):
        fast, slow = (getattr(side, name) for side in (fast_masks, masks))
        np.testing.assert_array_equal(call(fast, jnp.asarray(ids), I), slow(ids, I))
    for registers in (1, 3):
        got = call(fast_masks.register_ids, jnp.asarray(ids), I, registers)
        np.testing.assert_array_equal(got, masks.register_ids(ids, I, registers))


def test_mask_is_this_picture():
    np.testing.assert_array_equal(
        masks.same_image(np.array([1, 1, 2, 0])), [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        masks.slot_tokens(np.array([1, 1, 2, 0]), 3), [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(masks.used_slots(np.array([1, 1, 3, 0]), 4), [True, False, True, False])


@given(seed=seeds, ids=segments, scale=st.sampled_from([1.0, 1e4]), shift=st.sampled_from([0.0, -1e5]))
def test_masked_softmax(seed, ids, scale, shift):
    """However low the logits that may be seen: what is masked is lower."""
    logits, mask = scale * numbers(seed, T, T) + shift, masks.same_image(ids)
    got = call(fast_layers.masked_softmax, jnp.asarray(logits), jnp.asarray(mask))
    assert_close(got, layers.masked_softmax(logits, mask), FLOAT64)
    total = np.asarray(got).sum(-1)
    assert_close(total, (ids > 0).astype(float), FLOAT64)
    assert (np.asarray(got)[~mask] == 0).all()


@given(seed=seeds, shift=st.sampled_from([0.0, 1e4]))
def test_layer_norm(seed, shift):
    x = numbers(seed, T, CONFIG.width) + shift
    norm = jax.tree.map(lambda a: a[0], FAST.encoder.blocks.mlp_norm)
    assert_close(
        call(norm, jnp.asarray(x)), layers.layer_norm(to_reference(norm), x), CANCELLED64 if shift else FLOAT64
    )


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


def attention_gradient(attend, q, k, v, mask, g):
    """Of Σ g ∘ attend(q, k, v)."""
    return jax.grad(lambda *qkv: (g * attend(*qkv, mask, 0.5)).sum(), argnums=(0, 1, 2))(q, k, v)


compiled_gradient = jax.jit(attention_gradient, static_argnums=0)


def plainly(q, k, v, mask, scale):
    """Attention as autodiff sees it."""
    weights = fast_layers.masked_softmax(jnp.einsum("htk,hsk->hts", q, k) * scale, mask)
    return jnp.einsum("hts,hsk->htk", weights, v)


def has_the_gradient_of_autodiff(attend, seed, ids):
    q, k, v, g = (jnp.asarray(numbers(seed + i, 2, T, 3)) for i in range(4))
    mask = jnp.asarray(masks.same_image(ids))[None]
    got, want = (compiled_gradient(f, q, k, v, mask, g) for f in (attend, plainly))
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, FLOAT64)


@given(seed=seeds, ids=segments)
def test_attention_has_the_gradient_of_autodiff(seed, ids):
    has_the_gradient_of_autodiff(fast_attention.dot_product_attention, seed, ids)


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


@given(packed=rows())
@settings(max_examples=8)
def test_hidden_states(packed):
    """Tokens before the first block and after each, image by image; the last ones, through the norm, are the tokens."""
    row = to_device(packed.row)
    got, tokens = call(lambda model, row: (model.hidden_states(row), model.tokens(row)), FAST, row)
    for slot, image in enumerate(packed.images):
        mine = packed.row.segment_ids == slot + 1
        want = model.image_hidden_states(PARAMS, image)
        assert_close(np.asarray(got)[:, mine], want, FLOAT64)
        assert_close(np.asarray(tokens)[mine], layers.norm(PARAMS["encoder"]["norm"], want[-1]), FLOAT64)


# tasks ----------------------------------------------------------------------------------------------


def test_every_task_is_on_both_sides():
    """But those of images and texts, whose losses are no sum over rows (tests/test_contrast.py), and those that read
    tokens in place of pooled vectors (tests/test_detect.py, tests/test_segment.py)."""
    others = (Contrast, ZeroShot, Detect, Segment)
    of_rows = {config: task for config, task in fast_tasks.TASKS.items() if config not in others}
    assert {config.__name__ for config in of_rows} == set(tasks.TASKS)
    for config, task in of_rows.items():
        assert task.Targets._fields == tasks.TASKS[config.__name__].Targets._fields
        assert config is Embed or config in {type(task) for task in TASKS.values()}  # features have no loss


@every_task
@given(packed=st.tuples(rows(), rows()), seed=seeds)
def test_tasks(name, packed, seed):
    """Logits, loss, count and measures of a batch are those of its rows in the reference."""
    task, module = TASKS[name], MODELS[name]
    params = to_reference(module)
    batches = [Batch(p.row, targets_of(task, p.row, seed + n)) for n, p in enumerate(packed)]
    total, count, extras = fast_loss(module, on_device(task, stacked(batches)))
    want = [slow_loss(params, batch) for batch in batches]
    assert int(count) == sum(n for _, n in want)
    assert_close(total, sum(part for part, _ in want), FLOAT64)
    outputs = [outputs_of(params, batch.row) for batch in batches]
    assert {key: int(value) for key, value in extras.items()} == measures(task, outputs, batches)
    assert_close(call(module, to_device(batches[0].row)), outputs[0], FLOAT64)


def outputs_of(params, row):
    task = tasks.TASKS[params["task"]["kind"]]
    return task.predict(params["task"], model.forward(params["backbone"], row))


def measures(task, outputs, batches) -> dict[str, int]:
    """Other sums of a task, by the metrics of the reference."""
    hits = 0
    for logits, (row, targets) in zip(outputs, batches):
        used = masks.used_slots(row.segment_ids, I)
        match type(task).__name__:
            case "Classify":
                name, hit = "accuracy", correct(logits, targets.labels)
            case "MultiLabel":
                truth = tasks.multi_label.multi_hot(targets.label_sets, CLASSES).astype(bool)
                name, hit = "precision_at_1", precision_at_1(logits, truth)
            case "Distill":
                name, hit = "agreement", correct(logits, targets.teacher_logits.argmax(-1))
        hits += int((hit & used).sum())
    return {name: hits}


# pixels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "channels, mean, std",
    [(3, (0.5,), (0.5,)), (1, (0.2,), (0.3,)), (3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
     (4, (0.1, 0.2, 0.3, 0.4), (0.5,)), (6, (0.5,), (0.2, 0.3, 0.4, 0.5, 0.6, 0.7))],
)  # fmt: skip
def test_pixels_are_normalized_alike(channels, mean, std):
    """Channel by channel, the last axis of a patch fastest; numbers that are not bytes stay as they are."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, channels), np.uint8)
    want = (pixels / 255 - np.array(mean)) / np.array(std)
    flat = pixels.reshape(5, -1)
    assert_close(patches.normalize(flat, mean, std), want.reshape(5, -1), FLOAT64)
    assert_close(fast_layers.normalize(jnp.asarray(flat), mean, std), want.reshape(5, -1), FLOAT32)
    real = np.random.default_rng(1).normal(size=(5, 6 * channels))
    np.testing.assert_array_equal(patches.normalize(real, mean, std), real)
    np.testing.assert_array_equal(fast_layers.normalize(jnp.asarray(real), mean, std), real)


def test_every_byte_has_a_number_of_its_own():
    """From −1 for black to 1 for white, and back without loss."""
    pixels = np.arange(256, dtype=np.uint8).reshape(-1, 1)
    numbers = patches.normalize(pixels)
    assert numbers[[0, 255], 0].tolist() == [-1.0, 1.0]
    np.testing.assert_array_equal(np.rint((numbers + 1) * 127.5), pixels)
    assert_close(fast_layers.normalize(jnp.asarray(pixels)), numbers, FLOAT32)


# gradients ------------------------------------------------------------------------------------------


@every_task
@given(packed=rows(), seed=seeds)
@settings(max_examples=10)
def test_gradient_is_that_of_the_numpy_model(name, packed, seed):
    """jax.grad of the backend, along a random direction, against central differences of the reference."""
    rng = np.random.default_rng(seed)
    module, batch = MODELS[name], Batch(packed.row, targets_of(TASKS[name], packed.row, seed))
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), eqx.filter(module, eqx.is_array))
    gradient, _ = mean_gradient(module, on_device(TASKS[name], batch))
    slope = sum(float((g * d).sum()) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction)))

    def at(step):
        shifted = jax.tree.map(lambda a, d: np.asarray(a) + step * d, eqx.filter(module, eqx.is_array), direction)
        total, count = slow_loss(to_numpy(module, shifted), batch)
        return total / max(count, 1)

    size = float(np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(gradient))))
    assert abs((at(STEP) - at(-STEP)) / (2 * STEP) - slope) <= FINITE_DIFFERENCE * max(1.0, size)


def to_numpy(module, arrays) -> dict:
    """The parameters of a module with other arrays, as the reference reads them."""
    return to_reference(eqx.combine(jax.tree.map(jnp.asarray, arrays), eqx.filter(module, eqx.is_array, inverse=True)))


@every_task
@given(packed=rows(), seed=seeds)
@settings(max_examples=10)
def test_gradient_of_a_row_is_the_sum_over_its_images(name, packed, seed):
    """The mean's gradient times its count, since each row alone is divided by its own."""

    def gradient(batch):
        _, count = slow_loss(to_reference(MODELS[name]), batch)
        leaves = jax.tree.leaves(mean_gradient(MODELS[name], on_device(TASKS[name], batch))[0])
        return [count * np.asarray(leaf) for leaf in leaves]

    laws.gradient_is_the_sum_over_images(gradient, packed, targets_of(TASKS[name], packed.row, seed))


# precision ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, limit", [("float32", FLOAT32), ("bfloat16", BFLOAT16)])
@given(packed=rows(least=1))
def test_rounding(dtype, limit, packed):
    """Low precision against the float64 reference on the very same parameters and pixels."""
    module, exact = rounded(dtype)
    row = packed.row._replace(patches=packed.row.patches.astype(np.float32))
    got = call(module, to_device(row))
    assert got.dtype == jnp.float32
    want = outputs_of(exact, row._replace(patches=row.patches.astype(np.float64)))
    count = len(packed.images)
    assert_close(got[:count], want[:count], limit)


# the bridge -----------------------------------------------------------------------------------------


def test_bridge_goes_both_ways():
    module = MODELS["softmax"]
    back = from_reference(to_reference(module), module)
    jax.tree.map(np.testing.assert_array_equal, eqx.filter(back, eqx.is_array), eqx.filter(module, eqx.is_array))
    broken = to_reference(module)
    weights = broken["task"]["head"].pop("w")
    with pytest.raises(ValueError, match="task.head.w is missing"):
        from_reference(broken, module)
    broken["task"]["head"]["w"] = weights[:, :-1]
    with pytest.raises(ValueError, match="task.head.w has shape"):
        from_reference(broken, module)


def test_reference_init_has_the_tree_of_the_backend():
    fresh = init.init(
        np.random.default_rng(0), patch_dim=CONFIG.patch_dim, width=CONFIG.width, depth=CONFIG.depth,
        heads=CONFIG.heads, mlp_width=CONFIG.mlp_width, positions=CONFIG.posembed.size,
    )  # fmt: skip
    like = from_reference(fresh, FAST)
    assert shapes(fresh) == shapes(to_reference(like))
    row = pack([tokens_of(np.random.default_rng(0), (2, 3))], [0], T, I)
    assert_close(call(like, to_device(row)), model.forward(fresh, row), FLOAT64)
    head = init.init_head(CONFIG.width, CLASSES)
    assert shapes(head) == shapes(to_reference(MODELS["softmax"].task.head))


def shapes(params: dict, path: str = "") -> dict[str, tuple[int, ...]]:
    """Every array of a nested dict by its path."""
    found = {}
    for key, value in params.items():
        if isinstance(value, dict):
            found |= shapes(value, f"{path}.{key}")
        elif isinstance(value, np.ndarray):
            found[f"{path}.{key}"] = value.shape
    return found
