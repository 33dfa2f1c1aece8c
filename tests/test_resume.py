"""Kill it anywhere, rerun the same command, get the same bits; and what is not finite is not learned.

The kills themselves: pytest -m slow tests/test_kill.py
"""

import json
from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.pipeline import batches
from harness.run.progress import Progress
from harness.run.resume import RunPosition
from navit_eqx.training import step as training_step
from navit_eqx.training.checkpoints import Checkpointer, fingerprint
from navit_eqx.training.step import Metrics, State, train_step
from tests.support.laws import caught
from tests.support.runs import ROWS, STEPS, TINY, Toy, like, on_device, rows, same_bits


@pytest.fixture(autouse=True)
def promotion():
    """Optax multiplies floats by integer step counts."""
    with jax.numpy_dtype_promotion("standard"):
        yield


# a run in pieces --------------------------------------------------------------------------------------


@lru_cache
def trainer():
    """Fresh state with an average and leaves in bfloat16, compiled step."""
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(mu_dtype="bfloat16"),
        optax.scale_by_learning_rate(optax.linear_schedule(1e-2, 0.0, STEPS)),
    )
    arrays = Toy(jnp.asarray(np.random.default_rng(0).normal(size=(3 * 8**2, 10)), "float32"))
    step = jax.jit(partial(train_step, static=Toy(None), optimizer=tx, config=TINY.optim, seed=0))
    return State(arrays, arrays, tx.init(arrays), jnp.zeros((), jnp.int32)), step


def go(state, start: int, end: int):
    """The state after steps start … end − 1 of the stream, and their losses to the bit."""
    losses, stream = [], batches(rows(), ROWS, start=start)
    for _ in range(start, end):
        state, metrics = trainer()[1](state, on_device(next(stream)))
        losses.append(float(metrics.loss_sum).hex())
    return state, losses


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
        (state._replace(ema=state.model), 3),
        (state._replace(optimizer=fresh.optimizer), 3),
        (state._replace(step=fresh.step), 3),
    ):
        caught(is_the_same_run, continued(spoilt_state, start), whole)


def test_each_step_draws_anew():
    """The same batch meets other noise in another step, and the same in the same."""
    state, step = trainer()
    batch = on_device(next(batches(rows(), ROWS)))
    losses = [float(step(state._replace(step=jnp.asarray(n, jnp.int32)), batch)[1].loss_sum) for n in (0, 1, 2, 1)]
    assert len(set(losses)) == 3 and losses[3] == losses[1]


# numbers that go wrong --------------------------------------------------------------------------------


def spoilt(batch, how: str):
    """A batch whose loss or gradient is not finite."""
    row, targets = batch
    if how == "weights":
        nan = np.full_like(targets.weights, np.nan)
        return batch._replace(targets=targets._replace(weights=nan, partners=targets.labels))
    patches = row.patches.astype(np.float32)
    patches[0, 0] = np.inf if how == "infinite" else np.nan
    return batch._replace(row=row._replace(patches=patches))


def learns_nothing(step, state, batch) -> None:
    after, metrics = step(state, on_device(batch))
    assert metrics.refused and int(after.step) == int(state.step) + 1
    same_bits(after[:3], state[:3])


def test_what_is_not_finite_is_not_learned():
    state, step = trainer()
    batch = next(batches(rows(), ROWS))
    good, metrics = step(state, on_device(batch))
    assert not metrics.refused
    caught(learns_nothing, step, state, batch)
    for how in ("weights", "infinite", "nan"):
        learns_nothing(step, good, spoilt(batch, how))
    again, metrics = step(good, on_device(batch))
    assert not metrics.refused and fingerprint(again) != fingerprint(good)


def test_an_update_that_is_not_finite_is_not_made():
    """Loss and gradient are finite, what the optimizer remembers is not."""
    state, step = trainer()
    wild = jax.tree.map(lambda x: x if x.dtype == "int32" else jnp.full_like(x, jnp.inf), state.optimizer)
    learns_nothing(step, state._replace(optimizer=wild), next(batches(rows(), ROWS)))


def test_without_the_guard_the_weights_are_lost(monkeypatch):
    monkeypatch.setattr(training_step.jnp, "isfinite", lambda x: jnp.ones_like(x, bool))
    state, step = trainer.__wrapped__()
    caught(learns_nothing, step, state, spoilt(next(batches(rows(), ROWS)), "weights"))


def metrics_of(loss: float) -> Metrics:
    refused = not np.isfinite(loss)
    return Metrics(
        loss_sum=np.asarray(loss),
        count=np.asarray(4),
        extras={"accuracy": np.asarray(2)},
        images=np.asarray(4),
        tokens=np.asarray(90),
        places=np.asarray(100),
        pairs=np.asarray(2100.0),
        grad_norm=np.asarray(np.inf if refused else 1.0),
        refused=np.asarray(refused),
    )


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
    assert row["loss"] == 6 / 8 and row["accuracy"] == 4 / 8
    assert row["refused"] == 2 and row["images_seen"] == 16
    assert row["lr"] == 0.1, "that of the second step that learned; the first had rate(0)"
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
        return [{k: v for k, v in json.loads(line).items() if "second" not in k and k != "crc32"} for line in lines]

    whole = logged("whole", ())
    assert len(whole) == 2 and logged("pieces", (2, 4, 7)) == whole


@given(
    data=st.text(),
    unreadable=st.dictionaries(st.integers(0, 2**31 - 1), st.text(), max_size=4),
    sums=st.none() | st.dictionaries(st.text(), st.integers(0) | st.floats(allow_nan=False), max_size=3),
)
def test_a_position_survives_json(data, unreadable, sums):
    """Keys of JSON are text, those of images are numbers."""
    position = RunPosition(data, unreadable, sums and {"seconds": 1.5, "sums": sums})
    assert RunPosition.from_json(json.loads(json.dumps(position.as_json()))) == position


def test_the_position_of_progress_survives_json(tmp_path):
    """What a run has counted, with a window under way."""
    progress = Progress(tmp_path, TINY, TINY.data.source.open("", "train").manifest, 0, None)
    progress.add(1, metrics_of(2.0), np.array([[1]]))
    position = RunPosition("abc", {3: "truncated"}, progress.position())
    again = RunPosition.from_json(json.loads(json.dumps(position.as_json())))
    assert again == position and again.progress is not None and again.progress["sums"]["images"] == 4
