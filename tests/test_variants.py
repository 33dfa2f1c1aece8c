"""Every switch of the architecture obeys the laws: both sides agree, and packing is not observable."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from navit_eqx import encoder as fast_encoder
from navit_eqx import layers as fast_layers
from navit_eqx import masks as fast_masks
from navit_eqx import model as fast_model
from navit_eqx import rope as fast_rope
from navit_eqx.config import (
    Gated,
    Local,
    Map,
    Max,
    Mean,
    ModelConfig,
    NoPositions,
    NormedMean,
    ResidualMap,
    Rope,
    Table,
    Token,
)
from navit_eqx.errors import ConfigError
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference import encoder, layers, rope
from reference import model as slow
from reference.patches import raster
from reference.rows import pack
from tests.support import laws
from tests.support.laws import caught
from tests.support.strategies import CONFIG, I, Packed, T, backbone, rows, seeds, tokens_of
from tests.support.tolerances import CANCELLED64, EPSILON, FLOAT64, UNIT32, assert_close

VARIANTS = {
    "rope, registers, rms, biases": {
        "rope": Rope(), "registers": 2, "norm": "rms", "qk_norm": "rms", "biases": True, "activation": "gelu",
    },
    "mean, layer scale, stochastic depth": {"pool": Mean(), "layer_scale": 0.3, "stochastic_depth": 0.6},
    "class token, no qk norm": {"pool": Token(), "registers": 1, "qk_norm": "none", "logit_scale": "one"},
    "residual query, rope, stochastic depth": {
        "pool": ResidualMap(), "posembed": NoPositions(), "rope": Rope(10.0), "logit_scale": "one",
        "stochastic_depth": 0.5, "registers": 1,
    },
    "max, biases, windows": {"pool": Max(), "biases": True, "local": Local((2, 3), (2,))},
    "gated, norms, centered rope, cubic table": {
        "mlp": Gated(), "activation": "silu", "embedding_norm": True, "final_norm": False, "pool": NormedMean(),
        "rope": Rope(50.0, coordinate="centered"), "posembed": Table(3), "registers": 1, "eps": 1e-3,
    },
    "quick gelu, gated pool, wide heads, one norm for all": {
        "mlp": Gated(norm=True), "activation": "quick_gelu", "posembed": Table(4, "bucket"), "rope": Rope(20.0),
        "head_size": 12, "qk_norm": "whole", "norm": "rms",
    },
}  # fmt: skip
CONFIGS = {name: dataclasses.replace(CONFIG, **fields) for name, fields in VARIANTS.items()}
variants = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
jitted = eqx.filter_jit(lambda model, row, gates: model(row, gates))
gates_of = eqx.filter_jit(lambda model, key, ids: model.gates(key, ids))
few = settings(max_examples=8)


def at(config: ModelConfig, key: int):
    """The model, its parameters for the reference, row → vectors, and row → what stochastic depth draws."""
    fast = backbone(config=config)

    def gates(row):
        return gates_of(fast, jr.key(key), jnp.asarray(row.image_ids))

    return fast, to_reference(fast), lambda row: np.asarray(jitted(fast, to_device(row), gates(row))), gates


@variants
@few
@given(packed=rows(), key=seeds)
def test_agrees(config, packed, key):
    _, params, forward, gates = at(config, key)
    gate = gates(packed.row)
    want = slow.forward(params, packed.row, None if gate is None else np.asarray(gate, float))
    assert_close(forward(packed.row), want, FLOAT64)


@variants
@few
@given(packed=rows(least=1), key=seeds)
def test_packed_is_alone(config, packed, key):
    """Also in training, with the same draw of stochastic depth."""
    _, params, forward, gates = at(config, key)
    gate, vectors = gates(packed.row), forward(packed.row)
    for slot, image in enumerate(packed.images):
        alone = slow.forward_image(params, image, None if gate is None else np.asarray(gate, float)[:, slot, None])
        assert_close(vectors[slot], alone, FLOAT64)


@variants
@few
@given(packed=rows(least=1), key=seeds, rubbish=st.sampled_from([np.nan, -1e30]))
def test_order_and_padding_do_not_matter(config, packed, key, rubbish):
    _, _, forward, _ = at(config, key)
    order = np.random.default_rng(key).permutation(len(packed.images)).tolist()
    laws.does_not_see_order(forward, packed, order)
    laws.ignores_padding(forward, packed, rubbish)
    laws.empty_slots_are_finite(forward, packed)


@variants
def test_gradients(config):
    """Finite everywhere with NaN in padding, zero between images, and none is missing."""
    packed = some_row()
    fast, _, _, gates = at(config, 3)
    row = to_device(packed.row)
    rubbish = row._replace(patches=jnp.where((row.segment_ids > 0)[:, None], row.patches, jnp.nan))

    @eqx.filter_jit
    def gradients(model, row):
        def loss(arrays, patches):
            vectors = eqx.combine(arrays, static)(row._replace(patches=patches), gate)
            return (vectors[0] ** 2).sum()

        arrays, static = eqx.partition(model, eqx.is_inexact_array)
        return jax.grad(loss, argnums=(0, 1))(arrays, row.patches)

    gate = gates(packed.row)
    for_parameters, for_pixels = gradients(fast, rubbish)
    for path, leaf in jax.tree_util.tree_leaves_with_path(for_parameters):
        name = jax.tree_util.keystr(path)
        # The same bias on all keys moves all logits of a query alike, which softmax does not see.
        assert np.isfinite(leaf).all() and (np.abs(leaf).max() > 0 or name.endswith(".k_norm.bias")), name
    own = packed.row.segment_ids == 1
    assert np.abs(for_pixels[own]).max() > 0
    assert (np.asarray(for_pixels)[~own] == 0).all()


def some_row() -> Packed:
    rng = np.random.default_rng(5)
    images = [tokens_of(rng, (3, 3)), tokens_of(rng, (2, 5), keep=7)]
    return Packed(pack(images, [0, 1], T, I), images)


# norms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["layer", "rms"])
@given(seed=seeds)
def test_norms(kind, seed):
    rng = np.random.default_rng(seed)
    x, scale, bias = rng.normal(size=(5, 8)), rng.normal(size=8), rng.normal(size=8)
    module = fast_layers.NORMS[kind](jnp.asarray(scale), jnp.asarray(bias))
    assert_close(module(jnp.asarray(x)), layers.norm(to_reference(module), x), FLOAT64)
    plain = fast_layers.NORMS[kind](jnp.ones(8), None)(jnp.asarray(x))
    assert_close((np.asarray(plain) ** 2).mean(-1), np.ones(5), EPSILON)
    assert layers.norm(None, x) is x
    if kind == "layer":
        assert_close(module(jnp.asarray(x + 3)), module(jnp.asarray(x)), CANCELLED64)


# rotary positions ------------------------------------------------------------------------------------------


@given(seed=seeds, move=st.tuples(st.integers(-3, 9), st.integers(-3, 9)))
def test_rope_sees_differences_alone(seed, move):
    """Moving all coordinates changes no product of a query and a key, and lengths stay."""
    rng = np.random.default_rng(seed)
    params = {"size": 8, "theta": 100.0, "coordinate": "absolute", "frequencies": "shared"}
    coords = raster((3, 4))
    q, k = rng.normal(size=(2, len(coords), 2, 8))

    def logits(coords):
        angles = rope.rope(params, coords, coords)
        return np.einsum("thk,shk->hts", rope.apply_rotary(q, angles), rope.apply_rotary(k, angles))

    assert_close(logits(coords + np.array(move)), logits(coords), FLOAT64)
    assert_close((rope.apply_rotary(q, rope.rope(params, coords, coords)) ** 2).sum(-1), (q**2).sum(-1), FLOAT64)
    assert np.abs(logits(coords) - logits(0 * coords)).max() > 1e-3
    fast = fast_rope.Rope(8, 100.0)(jnp.asarray(coords), jnp.asarray(coords))
    assert_close(fast, rope.rope(params, coords, coords), FLOAT64)


def test_rope_turns_each_axis_apart():
    coords = np.array([[1, 0], [0, 1], [2, 3]])
    angles = rope.rope({"size": 8, "theta": 100.0, "coordinate": "absolute", "frequencies": "shared"}, coords, coords)
    assert_close(angles, [[1, 0.1, 0, 0], [0, 0, 1, 0.1], [2, 0.2, 3, 0.3]], FLOAT64)


# stochastic depth ------------------------------------------------------------------------------------------


def test_gates_have_mean_one_and_their_rates():
    rates = encoder.skip_rates(0.6, 4)
    assert_close(rates, [0, 0.2, 0.4, 0.6], FLOAT64)
    np.testing.assert_array_equal(fast_encoder.skip_rates(0.6, 4), rates)
    ids = jnp.arange(20_000).reshape(2, -1)
    for gates in (
        encoder.sample_gates(np.random.default_rng(0), rates, ids.size),
        np.asarray(fast_encoder.sample_gates(jr.key(0), rates, ids)).reshape(4, -1),
    ):
        skipped = (gates == 0).mean(-1)
        assert (np.abs(skipped - rates) <= 4 * np.sqrt(rates * (1 - rates) / ids.size)).all()
        assert_close(gates.max(-1), 1 / (1 - rates), 4 * UNIT32)
        pairs = np.corrcoef(gates[1:] == 0)
        assert np.abs(pairs - np.eye(3)).max() < 0.05, "layers skip together"


@given(seed=seeds, order=st.permutations(range(6)))
def test_gates_belong_to_images_not_to_places(seed, order):
    assume(order != sorted(order))
    rates, ids = encoder.skip_rates(0.5, 3), jnp.arange(6)
    gates = fast_encoder.sample_gates(jr.key(seed), rates, ids)
    moved = fast_encoder.sample_gates(jr.key(seed), rates, ids[jnp.asarray(order)])
    np.testing.assert_array_equal(moved, gates[:, jnp.asarray(order)])


def test_without_gates_nothing_is_skipped():
    fast, params, _, _ = at(CONFIGS["mean, layer scale, stochastic depth"], 0)
    packed = some_row()
    assert_close(jitted(fast, to_device(packed.row), None), slow.forward(params, packed.row), FLOAT64)


# the configuration -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"pool": Token()}, "set model.registers"),
        ({"stochastic_depth": 1.0}, r"stochastic_depth=1.0 must be in \[0, 1\)"),
        ({"rope": Rope(), "width": 12, "heads": 2}, "multiple of 4"),
        ({"registers": -1}, "registers=-1 must be in"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **fields)
    assert isinstance(CONFIG.pool, Map)


# the laws can fail -----------------------------------------------------------------------------------------


def register_ids_shared(segment_ids, slots, registers):
    """All registers belong to the first image."""
    return jnp.ones((*segment_ids.shape[:-1], slots * registers), segment_ids.dtype)


def register_ids_shifted(segment_ids, slots, registers):
    """Registers belong to the next slot."""
    return jnp.roll(fast_masks.register_ids(segment_ids, slots, registers), registers, axis=-1)


@pytest.mark.parametrize("wrong", [register_ids_shared, register_ids_shifted])
def test_registers_of_other_images_are_caught(monkeypatch, wrong):
    monkeypatch.setattr(fast_model, "register_ids", wrong)
    fails(CONFIGS["class token, no qk norm"])


def test_turning_by_the_wrong_axis_is_caught(monkeypatch):
    call = fast_rope.Rope.__call__
    monkeypatch.setattr(fast_rope.Rope, "__call__", lambda self, coords, grids: call(self, coords[..., ::-1], grids))
    fails(CONFIGS["rope, registers, rms, biases"])


def test_gates_of_other_images_are_caught(monkeypatch):
    def by_place(gates, segment_ids):
        return fast_encoder.token_gates(jnp.roll(gates, 1, axis=-1), segment_ids)

    monkeypatch.setattr(fast_model, "token_gates", by_place)
    fails(CONFIGS["mean, layer scale, stochastic depth"])


def fails(config):
    """The central law does not hold for what was sabotaged."""
    packed, fast = some_row(), backbone(config=config)
    gate = gates_of(fast, jr.key(3), jnp.asarray(packed.row.image_ids))
    vectors = jax.jit(lambda row, gate: fast(row, gate))(to_device(packed.row), gate)

    def is_alone():
        for slot, image in enumerate(packed.images):
            own = None if gate is None else np.asarray(gate, float)[:, slot, None]
            assert_close(vectors[slot], slow.forward_image(to_reference(fast), image, own), FLOAT64)

    caught(is_alone)
