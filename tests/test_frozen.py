"""Frozen parameters and rates by layer: what is frozen keeps every bit and has no state, the rest has its rate."""

from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.rows import Batch, Row
from navit_eqx.tasks.config import Bytes, Classify, Contrast, TextTower
from navit_eqx.tasks.model import Model
from navit_eqx.training import frozen as module
from navit_eqx.training.config import AdamW, Backbone, Cosine, LayerDecay, Muon, OptimConfig, Parts
from navit_eqx.training.frozen import merge, partition
from navit_eqx.training.optim import layer_rates, optimizer
from navit_eqx.training.step import init, train_step
from reference.layer_decay import layer_rates as reference_rates
from tests.support.laws import caught
from tests.support.runs import bits_of, same_bits
from tests.support.strategies import filled
from tests.support.tolerances import DECAY, FLOAT32, assert_close

DEPTH = 3
CONFIG = ModelConfig((4, 4), width=8, depth=DEPTH, heads=2, mlp_width=8, posembed=Factorised(4), registers=1)
OPTIM = OptimConfig(lr=0.1, schedule=Cosine(), warmup=0.0, weight_decay=0.1)
BATCH = Batch(
    Row(
        jnp.zeros((1, 4, 48), jnp.uint8), jnp.zeros((1, 4, 2), jnp.int32), jnp.ones((1, 4), jnp.int32),
        jnp.full((1, 1, 2), 2, jnp.int32), jnp.zeros((1, 1), jnp.int32),
    ),
    None,
)  # fmt: skip


class Pulled(Model):
    """A model whose loss pulls every parameter to one."""

    def loss(self, batch, key):
        arrays = jax.tree.leaves(eqx.filter(self, eqx.is_inexact_array))
        return sum(((a - 1) ** 2).sum() for a in arrays), jnp.ones((), jnp.int32), {}


MODEL = filled(
    eqx.filter_eval_shape(lambda key: Pulled(CONFIG, Classify(classes=3), key=key), jax.random.key(0)), 0, "float64"
)
ARRAYS = eqx.filter(MODEL, eqx.is_inexact_array)

FROZEN = {
    Backbone(): lambda name: DEPTH if name.startswith("backbone.") else 0,
    Backbone(2): lambda name: DEPTH - 2 if is_block(name) else DEPTH * is_before(name),
    Backbone(DEPTH): lambda name: DEPTH * is_before(name),
    Parts(("backbone.encoder", "task.head.b")): lambda name: (
        DEPTH if name.startswith("backbone.encoder") or name == "task.head.b" else 0
    ),
}


def is_block(name: str) -> bool:
    return name.startswith(("backbone.encoder.blocks.", "task.text.encoder.blocks."))


def is_before(name: str) -> bool:
    return name.removeprefix("backbone.").startswith(("patch_embedding", "posembed", "registers"))


@pytest.fixture(autouse=True)
def promotion():
    """Optax multiplies floats by integer step counts."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def named(tree) -> dict:
    return {".".join(k.name for k in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def frozen_stays(optim: OptimConfig, model=MODEL, steps: int = 3, frozen=FROZEN) -> None:
    """After some steps frozen parameters have the same bits, others have moved, and only these have a state."""
    tx = optimizer(optim, steps + 6)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    step = jax.jit(partial(train_step, static=static, optimizer=tx, config=optim, seed=0))
    state = init(model, tx, optim)
    moments, trained = (sum(x.size for x in jax.tree.leaves(t) if x.ndim) for t in (state.optimizer, state.model))
    for _ in range(steps):
        state, _ = step(state, BATCH)
    for name, before in named(arrays).items():
        after = named(state.model)[name]
        rows = frozen[optim.frozen](name)
        kept = rows if is_block(name) else before.size if rows else 0
        after, before = (np.asarray(x) if is_block(name) else np.ravel(x) for x in (after, before))
        np.testing.assert_array_equal(bits_of(after[:kept]), bits_of(before[:kept]), err_msg=name)
        assert (np.asarray(after[kept:] != before[kept:]) | (np.asarray(before[kept:]) == 1)).all(), name
        trained -= before[:kept].size
    assert moments == 2 * trained


@pytest.mark.parametrize("frozen", FROZEN)
def test_frozen_parameters_keep_every_bit_and_have_no_state(frozen):
    frozen_stays(replace(OPTIM, frozen=frozen))


TOWERS = {
    Parts(("task.text",)): lambda name: DEPTH if name.startswith("task.text.") else 0,
    Parts(("backbone", "task.text"), last_n=1): lambda name: (
        DEPTH - 1 if is_block(name) else DEPTH * is_before(name.removeprefix("task.text."))
    ),
}


def contrastive(key) -> Pulled:
    return Pulled(CONFIG, Contrast(text=TextTower(8, DEPTH, 2, 8), tokenizer=Bytes(4), embedding=4), key=key)


@pytest.mark.parametrize("frozen", TOWERS)
def test_of_a_tower_of_texts_the_last_blocks_are_trained(frozen):
    """And all that comes after them, as of the backbone."""
    arrays = eqx.filter(
        filled(eqx.filter_eval_shape(contrastive, jax.random.key(0)), 0, "float64"), eqx.is_inexact_array
    )
    trained, fixed = (named(part) for part in partition(arrays, frozen))
    for name, leaf in named(arrays).items():
        rows = TOWERS[frozen](name) if is_block(name) else len(leaf) * bool(TOWERS[frozen](name)) if leaf.ndim else 0
        for part, want in ((fixed, leaf[:rows] if rows else None), (trained, leaf[rows:] if rows else leaf)):
            there = part.get(name)
            assert (want is None or not want.size) if there is None else np.array_equal(there, want), name


@pytest.mark.slow
@pytest.mark.parametrize("frozen", TOWERS)
def test_a_locked_tower_of_texts_keeps_every_bit(frozen):
    """For ten steps, without state and decay, as the backbone; with both towers and the last blocks of each as well."""
    model = eqx.filter_jit(contrastive)(jax.random.key(0))
    frozen_stays(replace(OPTIM, frozen=frozen), model, steps=10, frozen=TOWERS)


def test_frozen_parameters_that_move_are_caught(monkeypatch):
    def one_more(path, leaf, frozen):
        trained, fixed = split(path, leaf, frozen)
        return (leaf, None) if path[-1].name == "probe" else (trained, fixed)

    split = module.split
    monkeypatch.setattr(module, "split", one_more)
    caught(frozen_stays, replace(OPTIM, frozen=Backbone()))


@pytest.mark.parametrize("frozen", [None, *FROZEN])
def test_the_parts_make_the_whole(frozen):
    same_bits(merge(*partition(ARRAYS, frozen)), ARRAYS)


@pytest.mark.parametrize(
    "frozen, words",
    [
        (Parts(("backbone.encode",)), "no part 'backbone.encode', it has backbone, backbone.encoder"),
        (Parts(("backbone", "task")), "leaves nothing to train"),
        (Backbone(DEPTH + 1), "last_n=4, but the backbone has 3 blocks"),
        (Parts(("task.head",), last_n=1), "last_n=1, but task.head is no tower of blocks"),
    ],
)
def test_what_does_not_fit_is_refused(frozen, words):
    with pytest.raises(ConfigError, match=words):
        partition(ARRAYS, frozen)


@pytest.mark.parametrize("frozen", [None, Backbone(2), Backbone()])
@pytest.mark.parametrize("rule", [AdamW(), Muon()])
def test_the_rate_of_a_layer_is_that_of_the_reference(rule, frozen):
    """Without a gradient only decay moves a matrix: by lr, times weight decay, times the rate of its layer."""
    rates = reference_rates(DEPTH, 0.5)
    assert rates.tolist() == [0.5**4, 0.5**3, 0.5**2, 0.5, 1]
    tx = optimizer(replace(OPTIM, rule=rule, frozen=frozen, layers=LayerDecay(0.5)), 9)
    trained = jax.tree.map(jnp.ones_like, partition(ARRAYS, frozen)[0])
    updates, _ = jax.jit(tx.update)(jax.tree.map(jnp.zeros_like, trained), tx.init(trained), trained)
    factors = named(layer_rates(trained, 0.5))
    for name, update in named(updates).items():
        own = rates[0] if is_before(name) else rates[-1]
        want = rates[1:-1][-len(update) :] if is_block(name) else np.array([own])
        assert_close(np.ravel(factors[name]), want, FLOAT32)
        if name.endswith(".w") or name.split(".")[-1] in "qkvo":
            moved = np.asarray(update).reshape(len(want), -1).mean(-1)
            assert np.abs(moved + 0.1 * 0.1 * want).max() <= DECAY * 0.1, name
