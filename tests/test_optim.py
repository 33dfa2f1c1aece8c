"""Initialization and optimizer: layers differ, scales are sane, decay goes where it belongs."""

import dataclasses
from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from navit_eqx import Row
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import Model, reconfigured
from navit_eqx.training.config import Adafactor, AdamW, Cosine, Muon, OptimConfig, Rsqrt
from navit_eqx.training.optim import decay_groups, direction, optimizer, schedule
from tests.support import laws
from tests.support.tolerances import DECAY, FLOAT32, GRADIENT32, assert_close

CONFIG = ModelConfig((4, 4), width=64, depth=4, heads=4, mlp_width=256, posembed=Factorised(8), dtype="float32")

DECAYED = {
    "backbone.patch_embedding.w", "task.head.w",
    *(f"backbone.encoder.blocks.attention.{n}" for n in "qkvo"),
    "backbone.encoder.blocks.mlp.grow.w", "backbone.encoder.blocks.mlp.shrink.w",
    *(f"backbone.pool.attention.{n}" for n in "qkvo"), "backbone.pool.mlp.grow.w", "backbone.pool.mlp.shrink.w",
}  # fmt: skip
FREE = {
    "task.head.b",
    *(f"backbone.{name}" for name in (
        "patch_embedding.b", "posembed.tables", "pool.probe", "encoder.norm.scale", "pool.norm.scale",
        "encoder.blocks.attention_norm.scale", "encoder.blocks.mlp_norm.scale",
        "encoder.blocks.attention.q_norm.scale", "encoder.blocks.attention.k_norm.scale",
        "encoder.blocks.mlp.grow.b", "encoder.blocks.mlp.shrink.b",
        "pool.attention.q_norm.scale", "pool.attention.k_norm.scale", "pool.mlp.grow.b", "pool.mlp.shrink.b",
    )),
}  # fmt: skip


@lru_cache
def fresh() -> Model:
    return eqx.filter_jit(lambda key: Model(CONFIG, Classify(classes=10), key=key))(jax.random.key(0))


RULES = (AdamW(), Muon())


@pytest.fixture(autouse=True)
def promotion():
    """Optax multiplies floats by integer step counts."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_every_parameter_and_its_group():
    leaves = jax.tree_util.tree_leaves_with_path(decay_groups(fresh()))
    groups = {".".join(k.name for k in path): group for path, group in leaves}
    assert {name for name, group in groups.items() if group != "none"} == DECAYED
    assert {name for name, group in groups.items() if group == "none"} == FREE
    assert {name for name, group in groups.items() if group == "head"} == {"task.head.w"}


@pytest.mark.parametrize("rule", [AdamW(), Adafactor(), Muon()])
def test_body_and_head_decay_apart(rule):
    """Without a gradient, only decay moves a parameter: by lr times its group's rate."""
    arrays = jax.tree.map(jnp.ones_like, eqx.filter(fresh(), eqx.is_inexact_array))
    config = OptimConfig(rule=rule, lr=0.1, schedule=Cosine(), warmup=0.0, weight_decay=0.5, head_decay=0.25)
    tx = optimizer(config, 10)
    zeros = jax.tree.map(jnp.zeros_like, arrays)
    update = jax.jit(tx.update)
    updates, _ = update(zeros, tx.init(arrays), arrays)  # without a warm-up the rate starts at its peak
    changes = {
        ".".join(k.name for k in path): float(u.mean()) for path, u in jax.tree_util.tree_leaves_with_path(updates)
    }
    for name, change in changes.items():
        rate = 0.0 if name in FREE else 0.25 if name == "task.head.w" else 0.5
        assert abs(change + 0.1 * rate) <= DECAY * 0.1, name


def test_adafactor_keeps_half_the_bytes():
    stacked = {"w": jnp.zeros((4, 64, 64), jnp.float32)}
    size = {rule: bytes_of(direction(rule).init(stacked)) for rule in (AdamW(), Adafactor())}
    assert size[AdamW()] >= 2 * bytes_of(stacked)
    assert size[Adafactor()] < 0.6 * bytes_of(stacked)


def test_muon_moves_all_directions_of_a_matrix_alike():
    """The update of a matrix is nearly orthogonal, layer by layer, as large as Adam's; other parameters take Adam's."""
    arrays = eqx.filter(fresh(), eqx.is_inexact_array)
    keys = iter(jax.random.split(jax.random.key(1), 99))
    gradient = jax.tree.map(lambda a: jax.random.normal(next(keys), a.shape), arrays)
    first = {rule: jax.jit(direction(rule).update)(gradient, direction(rule).init(arrays), arrays)[0] for rule in RULES}
    attention, want = first[Muon()].backbone.encoder.blocks.attention, first[AdamW()]
    for flat in (
        attention.q.reshape(4, 64, 64),
        attention.o.reshape(4, 64, 64),
        first[Muon()].backbone.encoder.blocks.mlp.grow.w,
    ):
        spectrum = np.linalg.svd(np.asarray(flat), compute_uv=False)
        assert (spectrum[:, 0] < 2.5 * spectrum[:, -7]).all()  # of a random square matrix a few are next to nothing
        np.testing.assert_allclose(np.sqrt((flat**2).mean((1, 2))), 0.2, rtol=0.25)
    nesterov = 0.9 * (1 - 0.9) / (1 - 0.9**2) + 1  # Optax's Muon looks a step ahead in its Adam as well
    assert_close(first[Muon()].task.head.w, nesterov * want.task.head.w, GRADIENT32)


def bytes_of(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def test_layers_start_different():
    for leaf in (fresh().backbone.encoder.blocks.attention.q, fresh().backbone.encoder.blocks.mlp.grow.w):
        laws.layers_differ(np.asarray(leaf))
    attention = fresh().backbone.encoder.blocks.attention
    laws.layers_differ(np.stack([attention.q[0], attention.k[0], attention.v[0]]))


def test_scale_at_the_start():
    """Tokens, each hidden state and vectors have a scale near one; logits are zero."""
    rng = np.random.default_rng(0)
    ids = np.repeat([1, 2], 16).astype(np.int32)
    row = Row(
        jnp.asarray(rng.integers(0, 256, (32, 48)).astype(np.uint8)),
        jnp.asarray(rng.integers(0, 8, (32, 2)).astype(np.int32)),
        jnp.asarray(ids), jnp.full((4, 2), 8, jnp.int32), jnp.asarray([0, 1, -1, -1], jnp.int32),
    )  # fmt: skip
    embedded = fresh().backbone.patch_embedding(jnp.asarray(rng.normal(size=(32, 48)), jnp.float32))
    assert 0.8 < float(embedded.std()) < 1.2
    states, vectors, logits = eqx.filter_jit(lambda model, row: outputs(model, row))(fresh(), row)
    assert len(states) == CONFIG.depth + 1
    for state in states:
        assert 0.5 < float(state.std()) < 3
    assert 0.3 < float(vectors[:2].std()) < 3
    assert np.abs(np.asarray(logits)).max() == 0


def outputs(model, row):
    """Hidden states, vectors and logits."""
    return model.backbone.hidden_states(row), model.backbone(row), model(row)


@pytest.mark.parametrize("shape", [Cosine(), Rsqrt(100, 0.2)])
def test_schedule(shape):
    config = OptimConfig(lr=2.0, schedule=shape, warmup=0.1)
    rate = np.array([float(schedule(config, 1000)(n)) for n in range(1001)])
    assert abs(rate[99] - 2.0) < FLOAT32 and rate.argmax() == 99
    assert (np.diff(rate[:100]) > 0).all() and (np.diff(rate[99:]) < 0).all()
    assert abs(rate[1000]) < FLOAT32 and rate[999] > 0, "the last step learns"
    assert_close(rate[:100], np.linspace(0, 2, 101)[1:], FLOAT32)  # the first step learns
    if shape == Rsqrt(100, 0.2):
        assert_close(rate[399], 2 / np.sqrt(1 + 300 / 100), FLOAT32)


def test_the_update_is_clipped_before_adam():
    """A gradient a thousand times larger gives the same update once both exceed the clip."""
    tx = optimizer(OptimConfig(clip=1.0, weight_decay=0.0), 10)
    arrays = eqx.filter(fresh(), eqx.is_inexact_array)
    gradient = jax.tree.map(jnp.ones_like, arrays)

    update = jax.jit(tx.update)

    def momentum(scale):
        _, after = update(jax.tree.map(lambda g: scale * g, gradient), tx.init(arrays), arrays)
        return optax.tree.norm(optax.tree.get(after, "mu"))

    assert_close(momentum(1.0), momentum(1e3), GRADIENT32)


@pytest.mark.parametrize("change", [{"unroll": 4}, {"remat": True}])
def test_scan_unroll_and_remat_change_nothing(change):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 64)), jnp.float32)
    other = reconfigured(fresh(), dataclasses.replace(CONFIG, **change))
    gradients = (encoder_gradient(model.backbone.encoder, x) for model in (fresh(), other))
    for want, got in zip(*map(jax.tree.leaves, gradients), strict=True):
        assert_close(got, want, GRADIENT32)


@eqx.filter_jit
@eqx.filter_grad
def encoder_gradient(encoder, x):
    return (encoder(x, None) ** 2).sum()
