"""Two processes train as one does: the same rows, the same numbers, one folder.   pytest -m multihost"""

import json
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE, ended
from tests.support.processes import start as start_processes
from tests.support.tolerances import DEVICES32, assert_close

STEPS, ROWS = 3, 8


# what a process does ----------------------------------------------------------------------------------


def train(out: Path, saved: str) -> None:
    """A few steps under each layout, this process reading its share of every batch; all states are saved in `out`.

    First, the states that others saved in `saved` are read under the other layout, which verifies every leaf.
    """
    import equinox as eqx
    import jax
    import jax.random as jr
    import optax

    from data.sampling.packing import Packing
    from data.sampling.resolution import Native
    from data.sources.digits import Digits
    from harness.config import Config, DataConfig
    from harness.run.loading import open_task, training_batches, training_rows
    from navit_eqx import Model
    from navit_eqx.config import ModelConfig
    from navit_eqx.rows import Batch, Row
    from navit_eqx.tasks.model import is_shape
    from navit_eqx.training import hosts
    from navit_eqx.training.checkpoints import Checkpointer
    from navit_eqx.training.config import FSDP, DataParallel, OptimConfig
    from navit_eqx.training.sharding import abstract_arrays, data_mesh, replicated, shard_rows, shardings
    from navit_eqx.training.step import init, train_step

    model = ModelConfig((8, 8), width=16, depth=1, heads=2, mlp_width=32, dtype="float32")
    data = DataConfig(source=Digits(400, 10), resolution=Native(0.8, 1.2), packing=Packing(64, 12))
    config = Config(model=model, data=data, rows=ROWS, steps=STEPS)
    source = data.source.open("", "train")
    prepared, task = open_task(config, source.manifest)
    fresh = lambda key: init(Model(model, prepared.config, key=key), tx, optim)
    static = eqx.filter(eqx.filter_eval_shape(Model, model, prepared.config, key=jr.key(0)), is_shape, inverse=True)
    mesh, optim, tx = data_mesh(), OptimConfig(), optax.trace(0.5)  # plain steps: Adam makes rounding errors large
    tx = optax.chain(tx, optax.scale(-0.1))
    shapes = jax.eval_shape(fresh, jr.key(0))
    share = {"host": jax.process_index(), "hosts": jax.process_count()}
    found = {}
    for name, rule, other in (("whole", DataParallel(), FSDP(1)), ("split", FSDP(1), DataParallel())):
        places = shardings(shapes, rule, mesh)
        if saved:
            others = abstract_arrays(shapes, shardings(shapes, other, mesh))
            restored = Checkpointer(Path(saved) / name, 1).restore(others)
            assert restored is not None and restored[1] == {"layout": name}
        state = jax.jit(fresh, out_shardings=places)(jr.key(0))
        step = partial(train_step, static=static, optimizer=tx, config=optim, seed=0)
        step = jax.jit(step, out_shardings=(places, replicated(mesh)))
        steps = []
        for row, targets in training_batches(config, task, training_rows(config, source, task), **share)():
            ids = [line for part in hosts.all_gather(row.image_ids.tolist()) for line in part]
            row, targets = shard_rows((row, targets), mesh)
            batch = Batch(Row(*row), prepared.device_targets(targets))
            state, metrics = step(state, batch)
            steps.append((ids, float(metrics.loss_sum), int(metrics.images), float(metrics.grad_norm)))
        with Checkpointer(out / name, 1) as checkpointer:
            checkpointer.save(STEPS, state, {"layout": name})
        gradients = jax.tree.leaves(jax.device_get(hosts.replicate_to_host(state.optimizer)))
        found[name] = {"steps": steps, "gradients": [leaf.tolist() for leaf in gradients]}
    (out / f"found-{jax.process_index()}.json").write_text(json.dumps(found))


def main() -> None:
    """As process 0 or 1 of a run: `train`, or train.py with the arguments that follow."""
    from navit_eqx.training import hosts

    hosts.TIMEOUTS.update(initialization_timeout=300, heartbeat_timeout_seconds=10, shutdown_timeout_seconds=60)
    what, *arguments = sys.argv[1:]
    if what == "train":
        hosts.initialize_distributed("auto")
        train(Path(arguments[0]), arguments[1])
    else:
        import train as program
        from harness.exit_codes import run

        sys.argv = ["train.py", *arguments]
        run(program.main)


start = partial(start_processes, "tests.test_processes")


# the same numbers -------------------------------------------------------------------------------------


def found_by(processes: list, count: int, out: Path, saved: str = "") -> list[dict]:
    out.mkdir()
    ended(start(processes, count, out, "train", str(out), saved), out, 0)
    return [json.loads((out / f"found-{n}.json").read_text()) for n in range(count)]


@pytest.mark.multihost
def test_two_processes_are_one(tmp_path, processes):
    """1 x 8 = 2 x 4 devices, parameters whole or split; each reads what the other saved, under another layout."""
    (alone,) = found_by(processes, 1, tmp_path / "one")
    first, second = found_by(processes, 2, tmp_path / "two", str(tmp_path / "one"))
    assert first == second
    found_by(processes, 1, tmp_path / "again", str(tmp_path / "two"))
    want = alone["whole"]
    assert len(want["steps"]) == STEPS
    assert len({sum(image >= 0 for image in row) for row in want["steps"][0][0]}) > 1, "rows hold different numbers"
    for got in (alone["split"], first["whole"], first["split"]):
        for (rows, loss, images, norm), (rows_, loss_, images_, norm_) in zip(got["steps"], want["steps"], strict=True):
            assert rows == rows_ and images == images_
            assert_close([loss, norm], [loss_, norm_], DEVICES32)
        for a, b in zip(got["gradients"], want["gradients"], strict=True):
            assert_close(a, b, DEVICES32)


# train.py ---------------------------------------------------------------------------------------------

RUN = [
    *("digits", "--data.source.train-images", "400", "--data.source.val-images", "40"),
    *("--model.width", "16", "--model.depth", "1", "--model.mlp-width", "16", "--model.unroll", "1"),
    *("--data.eval-resolutions", "1.2", "--rows", "8", "--steps", "60", "--log-every", "1", "--save-every", "10"),
]  # fmt: skip


def logged(out: Path) -> list[int]:
    """Steps in the metrics, whole lines alone."""
    path = out / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines(True) if path.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("\n")]


def wait_for(step: int, out: Path, running: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + PATIENCE
    while step not in logged(out) and time.monotonic() < deadline and all(p.poll() is None for p in running):
        time.sleep(0.01)
    assert step in logged(out), (out / "said-0").read_text()


@pytest.mark.multihost
def test_one_is_signalled_one_is_killed_and_the_run_goes_on(tmp_path, processes):
    from navit_eqx import load_model

    run = partial(start, processes, 2, tmp_path, "run", *RUN, "--out", str(tmp_path), "--name", "run")
    running = run()
    wait_for(5, tmp_path, running)
    running[1].send_signal(signal.SIGTERM)
    ended(running, tmp_path, 75)
    said = [(tmp_path / f"said-{n}").read_text() for n in range(2)]
    steps = [re.findall(r"stopped: step (\d+) is saved", each) for each in said]
    assert steps[0] == steps[1] and len(steps[0]) == 1, said
    saved = int(steps[0][0])
    assert "images/s" in said[0] and "images/s" not in said[1], "only the first speaks"

    running = run()
    wait_for(saved + 15, tmp_path, running)
    running[1].kill()
    ended(running, tmp_path, -signal.SIGKILL, 69, -signal.SIGABRT)
    assert running[0].returncode != -signal.SIGKILL, "it ends by itself"
    assert not (tmp_path / "run" / "summary.json").exists()

    ended(run("--parallelism", "fsdp", "--parallelism.min-size", "64"), tmp_path, 0)
    said = (tmp_path / "said-0").read_text()
    assert said.count("continuing") == 2 and "changed: parallelism.kind" in said and "validation accuracy" in said
    assert logged(tmp_path) == list(range(1, 61))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["compiles"] == 1 and load_model(tmp_path / "run").config.width == 16


if __name__ == "__main__":
    main()
