"""Kill it anywhere, rerun the same command, get the same bits; and what is not finite is not learned.

The kills themselves: pytest -m slow tests/test_kill.py
"""

import json
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import navit_eqx.saver
import navit_eqx.train
import numpy as np
import optax
import pytest
from jaxtyping import Array, Float

from data.pipeline import batches
from data.sampling.dropping import Beta
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sources.digits import Digits
from harness.config import Config, DataConfig
from harness.run.loading import training_rows
from harness.run.progress import Progress
from navit_eqx.config import ModelConfig
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Softmax
from navit_eqx.training.checkpoints import Checkpointer, fingerprint
from navit_eqx.training.config import OptimConfig
from navit_eqx.training.sharding import placed
from navit_eqx.training.step import Metrics, State, train_step

ROOT = Path(__file__).parent.parent
STEPS, ROWS = 8, 2
TINY = Config(
    model=ModelConfig(8, classes=10),
    data=DataConfig(
        source=Digits(60, 10), resolution=Native(0.8, 1.2), dropping=Beta(0.3, 0.6), packing=Packing(64, 12)
    ),
    optim=OptimConfig(ema=0.9),
    rows=ROWS,
    steps=STEPS + 1,
)


@pytest.fixture(autouse=True)
def promotion():
    """Optax multiplies floats by integer step counts."""
    with jax.numpy_dtype_promotion("standard"):
        yield


# a run in pieces --------------------------------------------------------------------------------------


class Toy(eqx.Module):
    """Class scores from the mean colours of an image, with noise; compiled in no time."""

    w: Float[Array, "P C"]

    def gates(self, key, image_ids):
        return jax.random.normal(key, image_ids.shape)

    def __call__(self, row, gates):
        slots = jnp.arange(1, row.labels.shape[-1] + 1)
        noise = gates[..., None] * jnp.arange(self.w.shape[-1])  # the same for all classes would be none
        mine = (row.segment_ids[..., None, :] == slots[:, None]).astype("float32")
        return jnp.einsum("bit,btp,pc->bic", mine, row.patches.astype("float32") / 255, self.w) + noise


@lru_cache
def trainer():
    """Fresh state with an average and leaves in bfloat16, compiled step."""
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(mu_dtype="bfloat16"),
        optax.scale_by_learning_rate(optax.linear_schedule(1e-2, 0.0, STEPS)),
    )
    arrays = Toy(jnp.asarray(np.random.default_rng(0).normal(size=(3 * 8**2, 10)), "float32"))
    step = jax.jit(partial(train_step, static=Toy(None), loss=Softmax(), optimizer=tx, config=TINY.optim, seed=0))
    return State(arrays, arrays, tx.init(arrays), jnp.zeros((), jnp.int32)), step


@lru_cache
def rows():
    return training_rows(TINY, TINY.data.source.open("", "train"))


def go(state, start: int, end: int):
    """The state after steps start … end − 1 of the stream, and their losses to the bit."""
    losses, stream = [], batches(rows(), ROWS, start=start)
    for _ in range(start, end):
        state, metrics = trainer()[1](state, to_device(next(stream)))
        losses.append(float(metrics.loss).hex())
    return state, losses


def like(state):
    return placed(state, jax.tree.leaves(state)[0].sharding)


def bits_of(x) -> np.ndarray:
    x = np.asarray(x)
    return x.view(f"u{x.dtype.itemsize}")


def same_bits(a, b) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(bits_of(x), bits_of(y))


def is_the_same_run(run, whole) -> None:
    assert run[1] == whole[1]
    assert fingerprint(run[0]) == fingerprint(whole[0])


def test_a_run_in_pieces_is_the_run_in_one(tmp_path):
    """Stopped after 3 steps, saved, read again, continued; and no part of what was saved can be missed."""
    whole = go(trainer()[0], 0, STEPS)
    state, losses = go(trainer()[0], 0, 3)
    with Checkpointer(tmp_path, 2) as saver:
        saver.save(3, state, {"losses": losses})
    found = Checkpointer(tmp_path, 2).restore(like(state))
    assert found is not None and "bfloat16" in {str(leaf.dtype) for leaf in jax.tree.leaves(found[0])}
    (state, about), fresh = found, trainer()[0]

    def continued(state, start: int):
        last, rest = go(state, start, start + STEPS - 3)
        return last, about["losses"] + rest

    is_the_same_run(continued(state, int(state.step)), whole)
    for spoilt_state, start in (
        (state, 0),
        (state, 4),
        (state._replace(average=state.model), 3),
        (state._replace(optimizer=fresh.optimizer), 3),
        (state._replace(step=fresh.step), 3),
    ):
        with pytest.raises(AssertionError):
            is_the_same_run(continued(spoilt_state, start), whole)


def test_each_step_draws_anew():
    """The same batch meets other noise in another step, and the same in the same."""
    state, step = trainer()
    batch = to_device(next(batches(rows(), ROWS)))
    losses = [float(step(state._replace(step=jnp.asarray(n, jnp.int32)), batch)[1].loss) for n in (0, 1, 2, 1)]
    assert len(set(losses)) == 3 and losses[3] == losses[1]


# numbers that go wrong --------------------------------------------------------------------------------


def spoilt(batch, how: str):
    """A batch whose loss or gradient is not finite."""
    if how == "weights":
        return batch._replace(weights=np.full_like(batch.weights, np.nan), partners=batch.labels)
    patches = batch.patches.astype(np.float32)
    patches[0, 0] = np.inf if how == "infinite" else np.nan
    return batch._replace(patches=patches)


def learns_nothing(step, state, batch) -> None:
    after, metrics = step(state, to_device(batch))
    assert metrics.refused and int(after.step) == int(state.step) + 1
    same_bits(after[:3], state[:3])


def test_what_is_not_finite_is_not_learned():
    state, step = trainer()
    batch = next(batches(rows(), ROWS))
    good, metrics = step(state, to_device(batch))
    assert not metrics.refused
    with pytest.raises(AssertionError):
        learns_nothing(step, state, batch)
    for how in ("weights", "infinite", "nan"):
        learns_nothing(step, good, spoilt(batch, how))
    again, metrics = step(good, to_device(batch))
    assert not metrics.refused and fingerprint(again) != fingerprint(good)


def test_an_update_that_is_not_finite_is_not_made():
    """Loss and gradient are finite, what the optimiser remembers is not."""
    state, step = trainer()
    wild = jax.tree.map(lambda x: x if x.dtype == "int32" else jnp.full_like(x, jnp.inf), state.optimizer)
    learns_nothing(step, state._replace(optimizer=wild), next(batches(rows(), ROWS)))


def test_without_the_guard_the_weights_are_lost(monkeypatch):
    monkeypatch.setattr(navit_eqx.train.jnp, "isfinite", lambda x: jnp.ones_like(x, bool))
    state, step = trainer.__wrapped__()
    with pytest.raises(AssertionError):
        learns_nothing(step, state, spoilt(next(batches(rows(), ROWS)), "weights"))


def metrics_of(loss: float) -> Metrics:
    refused = not np.isfinite(loss)
    return Metrics(*map(np.asarray, (loss, 4, 2, 90, 100, 1.0 if not refused else np.inf, refused)))


def test_refused_steps_are_named_counted_and_limited(tmp_path):
    manifest = TINY.data.source.open("", "train").manifest
    progress = Progress(tmp_path, replace(TINY, max_refused=3), manifest, 0, None)
    for n, loss in enumerate((4.0, np.nan, 2.0, np.inf), 1):
        progress.add(n, metrics_of(loss), np.array([[n, -1], [7, -1]]))
    progress.line(4, lambda step: step / 10, 0)
    lines = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4] and [line["loss"] for line in lines] == ["nan", "inf"]
    assert lines[0]["images"] == [manifest.name(2), manifest.name(7)]
    (row,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert row["loss"] == 6 / 8 and row["refused"] == 2 and row["images_seen"] == 16 and row["lr"] == 0.2
    for n in (5, 6):
        progress.add(n, metrics_of(np.nan), np.array([[1]]))
    with pytest.raises(FloatingPointError, match="3 steps in a row, until step 6"):
        progress.collect()


def test_progress_counts_on(tmp_path):
    """The lines of a continued run are those of one that was not interrupted, but for the clock."""
    manifest = TINY.data.source.open("", "train").manifest

    def logged(name: str, breaks: tuple[int, ...]) -> list[dict]:
        (tmp_path / name).mkdir()
        progress = Progress(tmp_path / name, TINY, manifest, 0, None)
        for n in range(1, 9):
            progress.add(n, metrics_of(np.nan if n == 5 else 0.1 * n), np.array([[1]]))
            if n % 4 == 0:
                progress.line(n, float, 0)
            if n in breaks:
                before = json.loads(json.dumps(progress.position()))
                progress = Progress(tmp_path / name, TINY, manifest, n, before)
        assert progress.summary()["images_seen"] == 32
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]

    whole = logged("whole", ())
    assert len(whole) == 2 and logged("pieces", (2, 4, 7)) == whole
