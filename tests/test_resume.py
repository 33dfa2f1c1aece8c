"""Kill it anywhere, rerun the same command, get the same bits; and what is not finite is not learned.

The kills themselves: pytest -m slow tests/test_resume.py
"""

import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import typing
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

import navit_eqx.saver
import navit_eqx.train
from data.laws import Beta, Native
from data.pipeline import batches
from data.plan import Packing
from data.sources import Digits
from harness import resume
from harness.command import Locked, Request, Stopped
from harness.config import FREELY, NEVER, ON_REQUEST, Config, DataConfig, digits
from harness.loading import training_rows
from harness.report import Progress, write_config
from navit_eqx.config import Adafactor, Distill, ModelConfig, OptimConfig, Softmax
from navit_eqx.config_json import ConfigError
from navit_eqx.saver import Damaged, Saver, digest, fingerprint, load
from navit_eqx.sharding import placed
from navit_eqx.train import Metrics, State, train_step
from navit_eqx.types import to_device
from reference.types import Row

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
    step = jax.jit(partial(train_step, static=Toy(None), loss=Softmax(), optimiser=tx, config=TINY.optim, seed=0))
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


def is_the_same_run(run, whole) -> None:
    assert run[1] == whole[1]
    assert fingerprint(run[0]) == fingerprint(whole[0])


def test_a_run_in_pieces_is_the_run_in_one(tmp_path):
    """Stopped after 3 steps, saved, read again, continued; and no part of what was saved can be missed."""
    whole = go(trainer()[0], 0, STEPS)
    state, losses = go(trainer()[0], 0, 3)
    with Saver(tmp_path, 2) as saver:
        saver.save(3, state, {"losses": losses})
    found = Saver(tmp_path, 2).restore(like(state))
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
        (state._replace(optimiser=fresh.optimiser), 3),
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


# what is saved is what comes back ---------------------------------------------------------------------

DTYPES = ("float32", "float64", "bfloat16", "int32", "uint8")


def bits_of(x) -> np.ndarray:
    x = np.asarray(x)
    return x.view(f"u{x.dtype.itemsize}")


def any_bits(seed: int, sharding=None) -> dict[str, jax.Array]:
    """Every bit pattern: NaN with a payload, −0, subnormal numbers."""
    rng = np.random.default_rng(seed)
    leaves = {name: np.frombuffer(rng.bytes(8 * 6 * jnp.dtype(name).itemsize), jnp.dtype(name)) for name in DTYPES}
    return {name: jax.device_put(leaf.reshape(8, 6), sharding) for name, leaf in leaves.items()}


def same_bits(a, b) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(bits_of(x), bits_of(y))


def two_saved(folder: Path) -> tuple[dict, dict]:
    """Steps 1 and 2 on disk."""
    first, second = any_bits(1), any_bits(2)
    with Saver(folder, 2) as saver:
        saver.save(1, first, {"n": 1})
        saver.save(2, second, {"n": 2})
    return first, second


def test_every_bit_comes_back_on_another_sharding(tmp_path):
    """Saved on eight devices, read on one; saved on one, read on 2 x 4."""
    eight = NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec("data"))
    blocks = NamedSharding(jax.make_mesh((2, 4), ("a", "b")), PartitionSpec("b", "a"))
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    for n, (there, here) in enumerate([(eight, one), (one, blocks)]):
        saved = any_bits(n, there)
        with Saver(tmp_path, 2) as saver:
            saver.save(n, saved, {"n": n})
        found = Saver(tmp_path, 2).restore(placed(saved, here))
        assert found is not None and found[1] == {"n": n}
        same_bits(found[0], saved)
        assert {leaf.sharding for leaf in jax.tree.leaves(found[0])} == {here}


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_digest_sees_every_bit_and_no_sharding(dtype):
    leaf = np.asarray(any_bits(3)[dtype])
    digests = jax.jit(jax.vmap(digest))
    flat = bits_of(leaf).reshape(-1)
    width = 8 * leaf.dtype.itemsize
    flipped = np.stack([flat] * (1 + flat.size * width))
    for n in range(flat.size * width):
        flipped[1 + n, n // width] ^= flat.dtype.type(1 << (n % width))
    found = np.asarray(digests(flipped.view(leaf.dtype).reshape(-1, *leaf.shape)))
    assert (found[1:] != found[0]).all(), "both sums change"
    swapped = np.asarray(digests(jnp.asarray(leaf[::-1])[None]))
    assert (swapped != found[0]).all()
    mesh = NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec("data"))
    np.testing.assert_array_equal(jax.jit(digest)(jax.device_put(leaf, mesh)), found[0])


def test_damage_to_any_file_is_named_and_the_step_before_is_used(tmp_path):
    first, second = two_saved(tmp_path / "saved")
    step, whole = tmp_path / "saved" / "2", tmp_path / "whole"
    same_bits(load(step, like(second))[0], second)
    shutil.move(step, whole)
    files = sorted(file.relative_to(whole) for file in whole.rglob("*") if file.is_file())
    assert len(files) > 8 and any("ocdbt.process" in str(file) for file in files)
    for file in files:
        for damage in (delete, truncate, flip):
            shutil.copytree(whole, step)
            if damage(step / file):
                with pytest.raises(Damaged, match=f"{file} (is missing|differs from what was saved|cannot be read)"):
                    load(step, like(second))
            shutil.rmtree(step)
    for file, damage in ((files[-1], flip), (files[0], delete), (Path("saved.json"), truncate)):
        shutil.copytree(whole, step)
        damage(step / file)
        said: list[str] = []
        saver = Saver(tmp_path / "saved", 2, said.append)
        found = saver.restore(like(second))
        assert found is not None and found[1] == {"n": 1} and saver.steps == [1]
        same_bits(found[0], first)
        assert len(said) == 1 and "step 2 is damaged" in said[0] and f"2/{file}" in said[0] and "step 1" in said[0]
    shutil.rmtree(tmp_path / "saved" / "2.damaged")
    flip(tmp_path / "saved" / "1" / "saved.json")
    with pytest.raises(ConfigError, match="no step in .* is what was saved"):
        Saver(tmp_path / "saved", 2).restore(like(second))


def delete(file: Path) -> bool:
    file.unlink()
    return True


def truncate(file: Path) -> bool:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    return len(data) > 0


def flip(file: Path) -> bool:
    data = bytearray(file.read_bytes())
    if data:
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
    return len(data) > 0


def test_two_fences_guard_the_tensors(tmp_path, monkeypatch):
    """Blind to the files, the digests of the leaves see the damage; blind to both, wrong numbers would come back."""
    _, second = two_saved(tmp_path)
    path = tmp_path / "2"
    names = navit_eqx.saver.digests_of_files(path)
    shutil.rmtree(path / "state")
    shutil.copytree(tmp_path / "1" / "state", path / "state")
    monkeypatch.setattr(navit_eqx.saver, "digests_of_files", lambda path: names)
    with pytest.raises(Damaged, match="is not what it was in training"):
        load(path, like(second))
    monkeypatch.setattr(navit_eqx.saver, "fingerprint", lambda state: navit_eqx.saver.read_record(path)["leaves"])
    with pytest.raises(AssertionError):
        same_bits(load(path, like(second))[0], second)


def test_another_structure_is_refused_by_name(tmp_path):
    _, second = two_saved(tmp_path)
    for wrong, words in (
        (second | {"new": second["int32"]}, "new is missing there, int32.8, 6. here"),
        ({k: v for k, v in second.items() if k != "uint8"}, "uint8 is uint8.8, 6. there, missing here"),
        (second | {"int32": second["float32"]}, "int32 is int32.8, 6. there, float32.8, 6. here"),
    ):
        with pytest.raises(ConfigError, match=words):
            Saver(tmp_path, 2).restore(like(wrong))


def test_the_last_few_are_kept_and_rests_are_removed(tmp_path):
    state = {"n": jnp.arange(3)}
    with Saver(tmp_path, 2) as saver:
        for n in (1, 2, 3, 10):
            saver.save(n, state, {})
        saver.finish()
        assert saver.steps == [3, 10] and {path.name for path in tmp_path.iterdir()} == {"3", "10"}
    (tmp_path / "11.orbax-checkpoint-tmp").mkdir()
    shutil.copytree(tmp_path / "10", tmp_path / "12")
    (tmp_path / "12" / "saved.json").unlink()
    said: list[str] = []
    assert Saver(tmp_path, 2, said.append).steps == [3, 10]
    assert {path.name for path in tmp_path.iterdir()} == {"3", "10"}
    assert said == ["step 12 was not wholly saved: it is removed"]
    assert Saver(tmp_path / "none", 2).restore(like(state)) is None


def test_a_save_that_fails_is_reported_and_costs_nothing_else(tmp_path):
    """A limit on the size of files stands for a full disk."""
    big = {"w": jax.device_put(np.random.default_rng(0).normal(size=(300, 300)))}
    said: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Saver(tmp_path, 3, said.append) as saver:
        saver.save(1, big, {})
        saver.finish()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            saver.save(2, big, {})
            saver.finish()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert len(said) == 1 and "step 2 was not saved, step 1 is the last one saved" in said[0]
        assert "too large" in said[0] and [path.name for path in tmp_path.iterdir()] == ["1"]
        saver.save(3, big, {})
        saver.finish()
        assert saver.steps == [1, 3] and len(said) == 1


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
    wild = jax.tree.map(lambda x: x if x.dtype == "int32" else jnp.full_like(x, jnp.inf), state.optimiser)
    learns_nothing(step, state._replace(optimiser=wild), next(batches(rows(), ROWS)))


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


# the command ------------------------------------------------------------------------------------------


def leaves_of(kind: type, prefix: str = "") -> list[str]:
    """Keys of all fields; those that are one dataclass by the keys in it, down to the second level."""
    found = []
    for name, annotation in typing.get_type_hints(kind).items():
        deeper = dataclasses.is_dataclass(annotation) and not prefix
        found += leaves_of(annotation, f"{name}.") if deeper else [f"{prefix}{name}"]
    return found


def test_every_field_has_one_rule():
    """New fields of the model never change; others must be named in FREELY, ON_REQUEST or NEVER."""
    keys = leaves_of(Config)
    rules = [*FREELY, *ON_REQUEST, *NEVER]
    assert len(rules) == len(set(rules)), "a key stands in two rules"
    of_a_class = {f"loss.{field.name}" for field in dataclasses.fields(Distill)}
    assert set(rules) <= {*keys, "model", *of_a_class}, "a rule for a field that does not exist"
    unruled = [key for key in keys if key not in rules and not key.startswith("model.")]
    assert not unruled, f"say in harness/config.py whether a continued run may change {unruled}"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: c, None),
        (lambda c: replace(c, log_every=7, out="elsewhere", data=replace(c.data, workers=2, root="moved")), None),
        (lambda c: replace(c, model=replace(c.model, width=32)), "model.width .64 there, 32 here."),
        (lambda c: replace(c, data=replace(c.data, resolution=Native(0.5, 1.4))), "data.resolution.lo"),
        (lambda c: replace(c, seed=1, rows=8), "rows .16 there, 8 here., seed .0 there, 1 here."),
        (lambda c: replace(c, optim=replace(c.optim, rule=Adafactor()), override=True), "optim.rule.kind"),
        (lambda c: replace(c, optim=replace(c.optim, lr=1e-4)), "optim.lr .0.002 there, 0.0001 here.: --override"),
        (lambda c: replace(c, optim=replace(c.optim, lr=1e-4), steps=9000, override=True), None),
    ],
)
def test_what_a_continued_run_may_change(tmp_path, change, words):
    config = digits()
    write_config(tmp_path, config, "digits")
    changed = change(config)
    if words is None:
        assert len(resume.reconcile(tmp_path, changed)) == len(resume.differences(config, changed))
    else:
        with pytest.raises(ConfigError, match=words):
            resume.reconcile(tmp_path, changed)


def test_a_folder_has_one_trainer_at_a_time(tmp_path):
    folder, held = resume.claim(str(tmp_path), "run")
    assert folder == tmp_path / "run"
    with pytest.raises(Locked, match=f"in use by process {os.getpid()}"):
        resume.claim(str(tmp_path), "run")
    held.close()
    (folder / "config.json").write_text("{}")
    again, held = resume.claim(str(tmp_path), "run")
    held.close()
    assert again == folder, "unfinished"
    (folder / "summary.json").write_text("{}")
    (tmp_path / "run-2").mkdir()
    (tmp_path / "run-2" / "notes.txt").write_text("not a run")
    third, held = resume.claim(str(tmp_path), "run")
    held.close()
    assert third == tmp_path / "run-3"


def test_lines_after_the_saved_step_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n{"st')
    resume.cut(path, 4)
    assert path.read_text() == '{"step": 2}\n{"step": 4}\n'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks(number):
    before = signal.getsignal(number)
    with Request() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
    assert signal.getsignal(number) is before


def test_who_leaves_has_saved(tmp_path):
    with Saver(tmp_path, 2) as saver:
        with pytest.raises(OSError, match="not saved; the same command continues from step 0"):
            resume.leave(saver, 5)
        saver.save(5, {"n": jnp.arange(2)}, {})
        with pytest.raises(Stopped, match="step 5 is saved"):
            resume.leave(saver, 5)


class Dying:
    """Batches 0, 1, 2, …; some end with their worker, once each or always."""

    def __init__(self, deaths: list[int], start: int):
        self.deaths, self.n = deaths, start

    def __next__(self) -> Row:
        if self.n in self.deaths:
            self.deaths.remove(self.n)
            raise RuntimeError("Worker process was terminated unexpectedly with exit code -9. …")
        self.n += 1
        return Row(*[np.array([self.n - 1])] * len(Row._fields))

    def close(self) -> None:
        pass


@pytest.mark.parametrize("deaths", [[], [2], [4, 4, 9]])
def test_a_dead_worker_costs_no_batch(deaths):
    left = list(deaths)
    stream = resume.Stream(lambda start: Dying(left, start), 2)
    assert [int(next(stream).labels[0]) for _ in range(8)] == list(range(2, 10))


def test_workers_that_go_on_dying_end_the_run():
    stream = resume.Stream(lambda start: Dying([3] * 9, start), 2)
    with pytest.raises(OSError, match="data workers died 4 times, the last at batch 3"):
        [next(stream) for _ in range(8)]


# kills: minutes, pytest -m slow tests/test_resume.py --------------------------------------------------

RUN = [
    *("train.py", "digits", "--data.source.train-images", "400", "--data.source.val-images", "40"),
    *("--model.width", "16", "--model.depth", "1", "--model.mlp-width", "16", "--model.unroll", "1"),
    *("--rows", "2", "--steps", "300", "--log-every", "1", "--save-every", "5", "--optim.ema", "0.9"),
]  # fmt: skip


def begun(out: Path, cache: Path, workers: int = 0, *more: str) -> subprocess.Popen:
    """A run of 300 steps under way. Programs are compiled once for all runs."""
    cached = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, *RUN, "--out", str(out), "--name", "run", "--data.workers", str(workers), *more]
    with (out / "said").open("a") as said:
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ | cached | {"JAX_NUM_CPU_DEVICES": "1"}, stdout=said, stderr=said
        )


def reached(out: Path) -> int:
    """The last step logged."""
    path = out / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines()[-2:] if path.exists() else []
    return max((int(resume._step_of(line)) for line in lines if line.endswith("}")), default=0)


def wait_for(out: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 600
    while reached(out) < step and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert reached(out) >= step, (out / "said").read_text()


def ended(process: subprocess.Popen, out: Path, code: int = 0) -> None:
    assert process.wait(600) == code, (out / "said").read_text()


def result(out: Path) -> tuple[list[tuple], bytes]:
    """Step, loss and counts of every line, to the bit; and the parameters."""
    lines = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    rows = [(x["step"], x["loss"].hex(), x["grad_norm"].hex(), x["images_seen"], x["tokens_seen"]) for x in lines]
    return rows, (out / "run" / "model" / "model.safetensors").read_bytes()


def children(pid: int) -> list[int]:
    """Processes started by one process, at any depth."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found += [int(path.name), *children(int(path.name))]
    return found


def alive(pids: list[int]) -> list[int]:
    """Those that are there and no zombies."""
    return [p for p in pids if (s := Path(f"/proc/{p}/stat")).exists() and s.read_text().rpartition(")")[2][1] != "Z"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out, cache = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("cache")
    ended(begun(out, cache), out)
    rows, parameters = result(out)
    assert [row[0] for row in rows] == list(range(1, 301))
    return rows, parameters, cache


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_anywhere_it_ends_with_the_same_bits(uninterrupted, tmp_path, workers):
    """Six SIGKILLs at random moments, most of them while a state is being written."""
    rng = random.Random(workers)
    for kill in range(6):
        process = begun(tmp_path, uninterrupted[2], workers)
        if kill:
            said = (tmp_path / "said").read_text().count("continuing")
            while (tmp_path / "said").read_text().count("continuing") == said and process.poll() is None:
                time.sleep(0.01)
        wait_for(tmp_path, 30 + 40 * kill + rng.randrange(10), process)
        time.sleep(rng.random() * 0.1)
        workers_of = children(process.pid)
        process.kill()
        process.wait()
        time.sleep(3)
        assert not alive(workers_of), "workers outlive the trainer"
    ended(begun(tmp_path, uninterrupted[2], workers), tmp_path)
    said = (tmp_path / "said").read_text()
    assert said.count("continuing") == 6 and "damaged" not in said
    assert result(tmp_path) == uninterrupted[:2]


@pytest.mark.slow
def test_sigterm_saves_and_leaves_and_a_second_trainer_is_refused(uninterrupted, tmp_path):
    process = begun(tmp_path, uninterrupted[2], 1, "--save-every", "0")
    wait_for(tmp_path, 40, process)
    process.send_signal(signal.SIGSTOP)
    ended(begun(tmp_path, uninterrupted[2]), tmp_path, 73)
    (worker,) = [pid for pid in children(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(worker, signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    wait_for(tmp_path, reached(tmp_path) + 30, process)
    process.send_signal(signal.SIGTERM)
    ended(process, tmp_path, 75)
    ended(begun(tmp_path, uninterrupted[2], 0), tmp_path)
    said = (tmp_path / "said").read_text()
    for words in ("is in use by process", "a data worker died", "is saved; the same command continues", "continuing"):
        assert words in said, said
    assert result(tmp_path) == uninterrupted[:2]


@pytest.mark.slow
def test_numbers_that_stay_wrong_end_the_run(uninterrupted, tmp_path):
    process = begun(tmp_path, uninterrupted[2], 0, "--optim.lr", "inf", "--max-refused", "5")
    ended(process, tmp_path, 70)
    assert "5 steps in a row" in (tmp_path / "said").read_text()
    assert len((tmp_path / "run" / "refused.jsonl").read_text().splitlines()) == 5
