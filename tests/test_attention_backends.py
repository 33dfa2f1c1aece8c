"""Every program for attention means the dense mask: docs/attention.md. On a CPU, kernels run interpreted."""

import typing
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import export
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from benchmarks.contest.stream import sizes, tokens
from navit_eqx import kernels
from navit_eqx.attention import attend
from navit_eqx.config import Backend, CuDNN, Dense, Loop, Mean, NoPositions, Pallas, Rope
from navit_eqx.kernels import cudnn, loop, packed_attention
from navit_eqx.kernels import tiles as pallas
from navit_eqx.kernels.splash import splash_mask
from navit_eqx.rows import to_device
from navit_eqx.training import attention_choice as choice
from navit_eqx.training.sharding import with_mesh
from reference.packing import exact_fit
from reference.rows import Row, pack
from tests.support.devices import mesh_of
from tests.support.laws import caught
from tests.support.strategies import CONFIG, I, backbone, seeds, tokens_of
from tests.support.strategies import T as MODEL_T
from tests.support.tolerances import ATTENTION16, FLOAT32, FLOAT64, GRADIENT64, assert_close

B, H, T, K, SLOTS, TILE = 2, 2, 48, 8, 6, 16
FAST, LOOP = Pallas(TILE), Loop(3)
BACKENDS = [Dense(), LOOP, FAST, Pallas(32)]  # T is no multiple of the last one's tile


@st.composite
def packings(draw, apart: bool = False) -> np.ndarray:
    """Segment ids of two rows: images of any length, single tokens among them, gaps, empty slots, empty rows."""
    ids = np.zeros((B, T), np.int32)
    for row in ids:
        place = 0
        for slot in draw(st.permutations(range(1, SLOTS + 1))):
            start = place + draw(st.integers(0, 4))
            place = start + draw(st.integers(0, 20))
            row[start:place] = slot
        if apart and draw(st.booleans()):
            row[:] = np.random.default_rng(draw(seeds)).permutation(row)
    return ids


def numbers(seed: int, dtype="float64") -> list[jax.Array]:
    """q, k, v, and what the outputs are multiplied with."""
    return [jnp.asarray(x, dtype) for x in np.random.default_rng(seed).normal(size=(4, B, H, T, K))]


def outputs_and_gradients(attention, q, k, v, g, ids):
    out, pull = jax.vjp(lambda *qkv: attention(*qkv, ids, SLOTS, 0.5), q, k, v)
    return out, *pull(g)


@cache
def compiled(backend):
    return jax.jit(partial(outputs_and_gradients, partial(packed_attention, backend)))


def run(backend, seed, ids):
    return [np.asarray(x) for x in compiled(backend)(*numbers(seed), jnp.asarray(ids))]


def alone(q, k, v, ids):
    """What each image gives by itself, in NumPy; 0 for padding."""
    out = np.zeros(q.shape)
    for row in range(B):
        for slot in range(1, SLOTS + 1):
            mine = ids[row] == slot
            logits = 0.5 * np.einsum("htk,hsk->hts", q[row][:, mine], k[row][:, mine])
            weights = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
            weights /= weights.sum(-1, keepdims=True)
            out[row][:, mine] = np.einsum("hts,hsk->htk", weights, v[row][:, mine])
    return out


def gives_what_the_mask_gives(backend):
    """Outputs alone, which compile sooner; sabotaged before tracing."""
    q, k, v, _ = numbers(0)
    got = jax.jit(lambda q, k, v: packed_attention(backend, q, k, v, jnp.asarray(GAPPY), SLOTS, 0.5))(q, k, v)
    assert_close(got, run(Dense(), 0, GAPPY)[0], FLOAT64)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@given(ids=packings(apart=True), seed=seeds)
def test_equals_the_dense_mask_in_values_and_gradients(backend, ids, seed):
    for got, want in zip(run(backend, seed, ids), run(Dense(), seed, ids), strict=True):
        assert_close(got, want, GRADIENT64)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@given(ids=packings(), seed=seeds)
def test_packed_is_alone(backend, ids, seed):
    q, k, v, _ = map(np.asarray, numbers(seed))
    assert_close(run(backend, seed, ids)[0], alone(q, k, v, ids), FLOAT64)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@given(ids=packings(), seed=seeds, rubbish=st.sampled_from([-1e6, 0.0, 1e6]))
def test_padding_is_silent(backend, ids, seed, rubbish):
    """It changes no bit, and gives zeros."""
    pad = (ids == 0)[:, None, :, None]
    loud = [jnp.where(pad, rubbish, x) for x in numbers(seed)[:3]]
    got = compiled(backend)(*loud, numbers(seed)[3], jnp.asarray(ids))
    for a, b in zip(got, run(backend, seed, ids), strict=True):
        np.testing.assert_array_equal(a, b)
        assert (np.where(pad, b, 0) == 0).all()


@pytest.mark.parametrize("dtype, limit", [("float32", FLOAT32), ("bfloat16", ATTENTION16)])
def test_rounding(dtype, limit):
    """float32 differs by the order of sums, bfloat16 by that of the weights, which are 8 bits."""
    ids = jnp.asarray(np.repeat(choice.gappy(T, SLOTS)[:1], B, 0))
    inputs = numbers(0, dtype)
    exact = compiled(Dense())(*(x.astype("float64") for x in inputs), ids)
    for got, want in zip(compiled(FAST)(*inputs, ids), exact, strict=True):
        assert got.dtype == dtype
        assert_close(got.astype("float32"), want, limit)


# A loop over images -------------------------------------------------------------------------------


@given(length=st.integers(1, 2000), count=st.integers(1, 12))
def test_every_length_has_a_window(length, count):
    """Growing up to the row, and no more of them than asked for."""
    windows = loop.sizes(length, count)
    assert windows[-1] == length and len(windows) <= count and windows[0] >= 1
    assert all(a < b for a, b in pairwise(windows))


@jax.jit
def windows_seen(ids):
    """For each token the size of the window that its image is computed in."""
    x = loop.loop_mask(ids, SLOTS, 3)
    size = lambda mine, zeros: (jnp.full_like(zeros, len(mine)),)
    where = x.segment_ids, x.start, x.end
    return loop.each_image(size, (jnp.zeros((B, 1, T, 1)),), 1, where, x.windows)[0][:, 0, :, 0]


@given(ids=packings(apart=True))
def test_an_image_is_computed_in_the_smallest_window_that_holds_it(ids):
    """From its first token to its last; padding in none."""
    for row, seen in zip(ids, np.asarray(windows_seen(jnp.asarray(ids)))):
        assert (seen[row == 0] == 0).all()
        for slot in np.unique(row[row > 0]):
            places = np.flatnonzero(row == slot)
            spread = places[-1] + 1 - places[0]
            assert (seen[places] == next(size for size in (16, 32, 48) if size >= spread)).all()


@pytest.mark.parametrize("backend, largest", [(Dense(), B * H * T * T), (LOOP, B * H * T * K)], ids=str)
def test_pairs_are_not_kept(backend, largest):
    """For the gradient; the dense mask keeps its weights."""
    look = lambda q, k, v: packed_attention(backend, q, k, v, jnp.asarray(GAPPY), SLOTS, 0.5)
    kept = jax.eval_shape(lambda *qkv: jax.vjp(look, *qkv)[1], *numbers(0)[:3])
    assert max(leaf.size for leaf in jax.tree.leaves(kept)) == largest


def test_a_window_without_its_mask_is_caught(monkeypatch):
    gives_what_the_mask_gives(LOOP)
    honest = loop.dot_product_attention_fwd
    monkeypatch.setattr(loop, "dot_product_attention_fwd", lambda q, k, v, mine, scale: honest(q, k, v, None, scale))
    caught(gives_what_the_mask_gives, LOOP)


def test_a_window_that_is_too_small_is_caught(monkeypatch):
    honest = loop.sizes
    monkeypatch.setattr(loop, "sizes", lambda *a: (*(size - 1 for size in honest(*a)[:-1]), honest(*a)[-2]))
    caught(gives_what_the_mask_gives, LOOP)


def test_a_gradient_of_other_images_is_caught(monkeypatch):
    """That what is not of the image asks for nothing is the gradient's business, not the mask's."""
    honest = loop.dot_product_attention_bwd
    monkeypatch.setattr(loop, "dot_product_attention_bwd", lambda scale, kept, g: honest(scale, kept, g + 1))
    assert choice.disagreement(partial(packed_attention, LOOP), CONFIG, T, SLOTS) > 0.1


# Tiles --------------------------------------------------------------------------------------------


def needed(ids, tile=TILE):
    """For each tile of a row, which others hold a token of its images; a pair of tokens at a time."""
    same = (ids[:, None] == ids[None, :]) & (ids[:, None] > 0)
    count = len(ids) // tile
    return same.reshape(count, tile, count, tile).any((1, 3))


bounds_of = jax.jit(lambda ids: pallas.bounds(ids, SLOTS, TILE))


@given(ids=packings(apart=True))
def test_tiles_reach_as_far_as_their_images(ids):
    """No tile with a pair is missed; where images stand together, none more is visited."""
    bounds = np.asarray(bounds_of(jnp.asarray(ids)))
    for row, table in zip(ids, bounds):
        for want, (lo, hi) in zip(needed(row), table):
            places = np.flatnonzero(want)
            assert (lo, hi) == ((places[0], places[-1] + 1) if len(places) else (0, 0))


@given(ids=packings())
def test_tiles_visited_are_those_needed(ids):
    bounds = np.asarray(bounds_of(jnp.asarray(ids)))
    gaps = [needed(row)[n, lo:hi].sum() < hi - lo for row, t in zip(ids, bounds) for n, (lo, hi) in enumerate(t)]
    visited, pairs = (bounds[..., 1] - bounds[..., 0]).sum(), sum(needed(row).sum() for row in ids)
    assert visited >= pairs and (visited == pairs or any(gaps))


@given(ids=packings(), seed=seeds, tile=st.integers(0, T // TILE - 1))
def test_other_tiles_are_never_read(ids, seed, tile):
    """NaN there, in all that a kernel is given, changes no bit of what this tile gives: they are not just masked."""
    lo, hi = np.asarray(bounds_of(jnp.asarray(ids)))[0, tile]
    place = np.arange(T) // TILE
    outside, here = ((place < lo) | (place >= hi)) & (place != tile), place == tile
    for got, want in zip(spoilt(seed, ids, outside), spoilt(seed, ids, np.zeros(T, bool)), strict=True):
        np.testing.assert_array_equal(got[0, here], want[0, here])


def spoilt(seed, ids, where):
    """Outputs and gradients, B T H K, of kernels that are given NaN at these places; of both rows."""
    return _spoilt([x.swapaxes(1, 2) for x in numbers(seed)], jnp.asarray(ids), jnp.asarray(where))


@jax.jit
def _spoilt(qkvg, ids, where):
    q, k, v, g = qkvg
    bounds, options = pallas.bounds(ids, SLOTS, TILE), (0.5, TILE, True)
    _, (*_, out, norm) = pallas._forward(q, k, v, ids, bounds, *options)
    q, k, v, g, out = (jnp.where(where[:, None, None], jnp.nan, x) for x in (q, k, v, g, out))
    norm = jnp.where(where, jnp.nan, norm)
    again, _ = pallas._forward(q, k, v, ids, bounds, *options)
    return again, *pallas._backward(*options, (q, k, v, ids, bounds, out, norm), g)[:3]


def test_work_on_the_rows_of_the_contest():
    """Pairs in visited tiles over pairs of the same image, photographs of 64 to 256 pixels in rows of 1,024 tokens:
    the numbers of docs/attention.md."""
    n = tokens(sizes("mixed", np.random.default_rng(0), 4000))
    rows = exact_fit(n.tolist(), 1024, 64, 64)[:400]
    ids = np.stack([np.repeat(np.arange(1, len(row) + 1, dtype=np.int32), n[row]) for row in rows])
    ideal = sum((n[row] ** 2).sum() for row in rows)
    assert abs(ids.size * 1024 / ideal / 6.53 - 1) < 0.01  # the dense mask
    for tile, want in ((32, 1.35), (64, 1.73), (128, 2.50)):
        table = np.asarray(jax.jit(pallas.bounds, static_argnums=(1, 2))(jnp.asarray(ids), 64, tile))
        assert abs((table[..., 1] - table[..., 0]).sum() * tile**2 / ideal / want - 1) < 0.01


GAPPY = choice.gappy(T, SLOTS)


@pytest.mark.parametrize("edge, by", [(0, 1), (1, -1)], ids=["first tile", "last tile"])
def test_bounds_off_by_one_are_caught(monkeypatch, edge, by):
    honest = pallas.bounds
    monkeypatch.setattr(pallas, "bounds", lambda *a: honest(*a).at[..., edge].add(by))
    caught(gives_what_the_mask_gives, FAST)


def test_a_tile_without_its_mask_is_caught(monkeypatch):
    gives_what_the_mask_gives(FAST)
    monkeypatch.setattr(pallas, "same", lambda mine, others: jnp.ones((len(mine), len(others)), bool))
    caught(gives_what_the_mask_gives, FAST)


def test_a_wrong_gradient_is_caught(monkeypatch):
    honest = pallas.backward_kernel
    monkeypatch.setattr(pallas, "backward_kernel", lambda *refs, scale, tile: honest(*refs, scale=2 * scale, tile=tile))
    assert choice.disagreement(partial(packed_attention, FAST), CONFIG, T, SLOTS) > 0.1


# The whole model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [FAST, LOOP], ids=str)
def test_the_model_is_the_same(fast):
    """Vectors and gradients of all parameters, with registers, which stand apart from their image."""
    config = replace(CONFIG, registers=2, rope=Rope(), posembed=NoPositions(), pool=Mean())
    rng = np.random.default_rng(0)
    images = [[tokens_of(rng, grid) for grid in grids] for grids in ([(2, 3), (1, 1), (3, 4)], [(4, 5)])]
    rows = [pack(images, range(len(images)), MODEL_T, I) for images in images]
    batch = to_device(Row(*map(np.stack, zip(*rows))))

    def gradient(model):
        weigh = lambda model: (vectors := model(batch), (vectors**2).sum())[::-1]
        (_, vectors), grads = eqx.filter_value_and_grad(weigh, has_aux=True)(model)
        return vectors, grads

    got, want = (
        eqx.filter_jit(gradient)(backbone(config=replace(config, attention=backend))) for backend in (fast, Dense())
    )
    for a, b in zip(*(jax.tree.leaves(eqx.filter(x, eqx.is_array)) for x in (got, want)), strict=True):
        assert_close(a, b, GRADIENT64)


@pytest.mark.parametrize("fast", [FAST, LOOP], ids=str)
def test_one_row_without_a_batch(fast):
    q, k, v, _ = (x[0] for x in numbers(0))
    got = jax.jit(lambda q, k, v: packed_attention(fast, q, k, v, jnp.asarray(GAPPY[0]), SLOTS, 0.5))(q, k, v)
    assert_close(got, run(fast, 0, GAPPY)[0][0], FLOAT64)


@pytest.mark.parametrize("fast", [FAST, LOOP], ids=str)
def test_each_device_runs_its_rows(fast):
    """On two devices nothing is gathered."""
    mesh = mesh_of(2)
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    step = with_mesh(partial(outputs_and_gradients, partial(packed_attention, fast)), mesh)
    inputs = jax.device_put([*numbers(0), jnp.asarray(GAPPY)], place)
    program = jax.jit(step).lower(*inputs).compile()
    assert "all-gather" not in str(program.as_text())
    for a, b in zip(program(*inputs), run(fast, 0, GAPPY), strict=True):
        assert_close(a, b, FLOAT64)


# Kernels of others --------------------------------------------------------------------------------


def test_splash_interpreted():
    """In float32, as it computes."""
    ids = jnp.asarray(GAPPY[:1])
    inputs = [x[:1] for x in numbers(0, "float32")]
    look = lambda q, k, v, ids, slots, scale: attend(q, k, v, splash_mask(ids, slots, 24, 128), scale)
    got = jax.jit(partial(outputs_and_gradients, look))(*inputs, ids)
    for a, b in zip(got, compiled(Dense())(*inputs, ids), strict=True):
        assert_close(a, b, FLOAT32)


def test_splash_gives_nan_where_an_image_outgrows_the_window():
    ids = jnp.asarray(GAPPY)
    fits = splash_mask(ids, SLOTS, 24, 128).fits
    assert fits[0].all() and not fits[1].any()


def like_cudnn(q, k, v, bias, mask, q_lengths, kv_lengths, q_starts, kv_starts, *, scale, qkv_layout):
    """What its documentation says, by a mask; NaN in padding, for what it leaves there is undefined."""
    assert qkv_layout == "BTNH" and q_starts.shape[-1] == q_lengths.shape[-1] + 1
    place = jnp.arange(q.shape[1], dtype="int32")[None, None]
    start, length = q_starts[:, :-1, None], q_lengths[:, :, None]
    owns = (start >= 0) & (place >= start) & (place < start + length)  # B I T
    may = jnp.einsum("bit,bis->bts", owns.astype("int32"), owns.astype("int32")) > 0
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    out = attend(q, k, v, may, scale).swapaxes(1, 2)
    return jnp.where(owns.any(1)[:, :, None, None], out, jnp.nan)


@given(ids=packings(), seed=seeds)
def test_cudnn_is_told_where_images_are(ids, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cudnn, "private", lambda: like_cudnn)
        got = run(CuDNN(), seed, ids)
    for a, b in zip(got, run(Dense(), seed, ids), strict=True):
        assert_close(a, b, GRADIENT64)


PROGRAMS = {
    "cuda": ("__gpu$xla.gpu.triton", lambda ids: pallas.tile_mask(ids, SLOTS, 64, interpret=False)),
    "tpu": ("tpu_custom_call", lambda ids: splash_mask(ids, SLOTS, 272, 128, interpret=False)),
}


@pytest.mark.parametrize("platform", PROGRAMS)
def test_lowers_for_an_accelerator(platform):
    """Forward and backward kernel in bfloat16, as far as that goes without one: to Triton or Mosaic, not to code."""
    target, mask = PROGRAMS[platform]
    gradient = jax.grad(lambda q, k, v, ids: attend(q, k, v, mask(ids), 0.125).astype("float32").sum(), (0, 1, 2))
    tokens = jax.ShapeDtypeStruct((2, 3, 320, 64), "bfloat16")
    unchecked = [export.DisabledSafetyCheck.custom_call(target)]
    h200 = AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")  # which later versions of JAX ask
    one = AbstractMesh((1,), ("data",), axis_types=(AxisType.Auto,), abstract_device=h200)
    with jax.enable_x64(False), jax.sharding.use_abstract_mesh(one):
        program = export.export(jax.jit(gradient), platforms=[platform], disabled_checks=unchecked)
        text = program(tokens, tokens, tokens, jax.ShapeDtypeStruct((2, 320), "int32")).mlir_module()
    assert text.count(f"@{target}") == 2
    assert "320x320" not in text


def test_every_backend_is_in_the_table():
    assert set(kernels.TABLE) == set(typing.get_args(Backend))
