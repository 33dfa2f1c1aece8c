"""A step with a spike of the gradient is refused, a lasting change is followed, and a resumed run remembers."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.pipeline import batches
from navit_eqx import NaViT
from navit_eqx.config import ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.training import step as training
from navit_eqx.training.checkpoints import Checkpointer, fingerprint, named
from navit_eqx.training.config import OptimConfig, Spikes
from navit_eqx.training.optim import optimizer
from navit_eqx.training.step import State, init, is_spike, train_step, update_grad_norm_ema
from reference.rows import Batch
from tests.support.laws import caught
from tests.support.runs import ROWS, Toy, like, on_device, rows, same_bits
from tests.support.tolerances import FLOAT32, assert_close

SKIP = Spikes(factor=5.0, window=4)


@pytest.fixture(autouse=True)
def promotion():
    """Optax multiplies floats by integer step counts."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@lru_cache
def trainer(skip: Spikes | None = SKIP):
    config = OptimConfig(ema=0.9, skip=skip)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.scale_by_learning_rate(1e-3))
    arrays = Toy(jnp.asarray(np.random.default_rng(0).normal(size=(3 * 8**2, 10)), "float32"))
    step = jax.jit(partial(train_step, static=Toy(None), optimizer=tx, config=config, seed=0))
    grad_norm_ema = jnp.zeros((), "float32") if skip else None
    return State(arrays, arrays, tx.init(arrays), jnp.zeros((), "int32"), grad_norm_ema), step


@lru_cache
def batch(n: int, size: float = 1.0):
    """Number n of the stream; with pixels of another size, so is the gradient."""
    row, targets = next(batches(rows(), ROWS, start=n))
    pixels = row.patches.astype(np.float32) * np.float32(size)
    return on_device(Batch(row._replace(patches=pixels), targets))


def go(step, state, sizes, start: int = 0):
    """The state after a step for each size, and which were refused."""
    refused = []
    for n, size in enumerate(sizes, start):
        state, metrics = step(state, batch(n, size))
        refused.append(bool(metrics.refused))
    return state, refused


def refuses_spikes(step, state) -> None:
    """After a window of usual steps, one that is far above them teaches nothing; the next one does."""
    state, refused = go(step, state, [1.0] * 5)
    assert not any(refused)
    after, metrics = step(state, batch(5, 1000.0))
    assert metrics.refused and np.isfinite(metrics.grad_norm) and int(after.step) == 6
    same_bits(after[:3], state[:3])
    again, metrics = step(after, batch(6))
    assert not metrics.refused and fingerprint(again.model) != fingerprint(after.model)


def test_a_spike_is_refused():
    state, step = trainer()
    refuses_spikes(step, state)


def test_without_the_guard_it_is_learned(monkeypatch):
    monkeypatch.setattr(training, "is_spike", lambda norm, ema, step, skip: jnp.asarray(False))
    state, step = trainer.__wrapped__()
    caught(refuses_spikes, step, state)


def test_none_is_refused_before_a_window_is_seen():
    state, step = trainer()
    assert go(step, state, [1.0, 1.0, 1000.0, 1.0])[1] == [False] * 4


def test_off_it_costs_nothing():
    """No leaf in the state, so that what was saved without it fits, and no refusal."""
    shape = ModelConfig((4, 4), width=4, depth=1, heads=1, mlp_width=4)

    def leaves(config: OptimConfig) -> list[str]:
        fresh = lambda key: init(NaViT(shape, key=key), optimizer(config, 9), config)
        return [name for name, _ in named(jax.eval_shape(fresh, jax.random.key(0)))]

    assert leaves(OptimConfig(skip=SKIP)) == [*leaves(OptimConfig()), "grad_norm_ema"]
    state, step = trainer(None)
    assert go(step, state, [1.0] * 5 + [1000.0])[1] == [False] * 6


def test_a_resumed_run_refuses_the_same(tmp_path):
    """Saved and read again before the spike; and what was forgotten would be noticed."""
    sizes = [1.0] * 6 + [1000.0, 1.0]
    first, step = trainer()
    whole, refused = go(step, first, sizes)
    assert refused == [False] * 6 + [True, False]
    state, before = go(step, first, sizes[:5])
    with Checkpointer(tmp_path, 1) as checkpointer:
        checkpointer.save(5, state, {})
    found = Checkpointer(tmp_path, 1).restore(like(state))
    assert found is not None
    end, after = go(step, found[0], sizes[5:], 5)
    assert before + after == refused and fingerprint(end) == fingerprint(whole)
    end, _ = go(step, found[0]._replace(grad_norm_ema=first.grad_norm_ema), sizes[5:], 5)
    assert fingerprint(end) != fingerprint(whole)


# the running mean -------------------------------------------------------------------------------------

compared = jax.jit(lambda *known: (is_spike(*known, SKIP), update_grad_norm_ema(*known, SKIP)))


def seen(norms) -> tuple[list[bool], list[float]]:
    grad_norm_ema, spikes, means = jnp.zeros((), "float32"), [], []
    for n, norm in enumerate(norms):
        spike, grad_norm_ema = compared(jnp.asarray(norm, "float32"), grad_norm_ema, jnp.asarray(n, "int32"))
        spikes.append(bool(spike))
        means.append(float(grad_norm_ema))
    return spikes, means


@given(st.lists(st.sampled_from([0.0, 1e-3, 0.5, 1.0, 2.0, 40.0, 1e30, np.inf, np.nan]), max_size=12))
def test_the_mean_is_its_formula(norms):
    grad_norm_ema, spikes, means = 0.0, [], []
    for n, norm in enumerate(norms):
        counts = n >= SKIP.window and grad_norm_ema > 0
        spikes.append(counts and norm > SKIP.factor * grad_norm_ema)
        if np.isfinite(norm):
            taken = min(norm, SKIP.factor * grad_norm_ema) if counts else norm
            grad_norm_ema += (taken - grad_norm_ema) / min(n + 1, SKIP.window)
        means.append(grad_norm_ema)
    got = seen(norms)
    assert got[0] == spikes
    for mean, want in zip(got[1], means, strict=True):
        assert_close(mean, want, FLOAT32)


def test_a_lone_spike_hardly_counts_and_a_lasting_change_is_followed():
    spikes, means = seen([1.0] * 10 + [1e6] + [1.0] * 20)
    assert spikes == [False] * 10 + [True] + [False] * 20
    assert max(means) == pytest.approx(1 + (SKIP.factor - 1) / SKIP.window) and means[-1] == pytest.approx(1, abs=0.01)
    spikes, means = seen([1.0] * 10 + [50.0] * 20)
    # The limit, 5 at first, doubles with every step: 5, 10, 20, 40 are below 50.
    assert spikes == [False] * 10 + [True] * 4 + [False] * 16


def test_nonsense_is_refused():
    for wrong in ({"factor": 1.0}, {"window": 0}):
        with pytest.raises(ConfigError, match="skip"):
            Spikes(**wrong)
