"""Two processes train as one does: the same rows, the same losses.   pytest -m multihost"""

import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
STEPS, ROWS = 4, 8


def train(host: int, hosts: int) -> list[float]:
    """A few steps on digit strips, this process reading its share of every batch."""
    import jax
    import jax.random as jr

    from data.laws import Native
    from data.pipeline import batches
    from data.plan import Packing
    from data.sources import Digits
    from harness.config import Config, DataConfig
    from harness.loading import training_rows
    from navit_eqx import NaViT
    from navit_eqx.config import ModelConfig, OptimConfig, Softmax
    from navit_eqx.model import blueprint
    from navit_eqx.optim import optimiser
    from navit_eqx.sharding import data_mesh, everywhere, split_rows
    from navit_eqx.train import init, train_step

    model = ModelConfig(8, width=16, depth=2, heads=2, mlp_width=32, classes=10, dtype="float32")
    data = DataConfig(source=Digits(400, 10), resolution=Native(0.8, 1.2), packing=Packing(64, 12))
    config = Config(model=model, data=data, rows=ROWS, steps=STEPS)
    source = data.source.open("", "train")
    mesh, optim = data_mesh(), OptimConfig()
    tx = optimiser(optim, STEPS)
    static = blueprint(model)
    state = jax.jit(lambda key: init(NaViT(model, key=key), tx, optim), out_shardings=everywhere(mesh))(jr.key(0))
    step = jax.jit(partial(train_step, static=static, loss=Softmax(), optimiser=tx, config=optim, seed=0))
    losses = []
    for batch in batches(training_rows(config, source), ROWS, host=host, hosts=hosts):
        state, metrics = step(state, split_rows(batch, mesh))
        losses.append(float(metrics.loss) / int(metrics.images))
    return losses


def start(host: int, hosts: int, port: int, out: Path) -> subprocess.Popen:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(4 // hosts)}
    arguments = [sys.executable, "-m", "tests.test_processes", *map(str, (host, hosts, port, out))]
    return subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def losses_of(hosts: int, folder: Path) -> list[list[float]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outs = [folder / f"{hosts}-{host}.json" for host in range(hosts)]
    running = [start(host, hosts, port, out) for host, out in enumerate(outs)]
    try:
        for process in running:
            said, _ = process.communicate(timeout=240)
            assert process.returncode == 0, said.decode()
    finally:
        for process in running:
            process.kill()
    return [json.loads(out.read_text()) for out in outs]


@pytest.mark.multihost
def test_two_processes_are_one(tmp_path):
    (alone,) = losses_of(1, tmp_path)
    first, second = losses_of(2, tmp_path)
    assert len(alone) == STEPS and first == second
    np.testing.assert_allclose(first, alone, rtol=1e-5)


def main() -> None:
    import jax

    host, hosts, port, out = (*map(int, sys.argv[1:4]), sys.argv[4])
    if hosts > 1:
        jax.distributed.initialize(
            f"127.0.0.1:{port}",
            num_processes=hosts,
            process_id=host,
            cluster_detection_method="deactivate",
            initialization_timeout=60,
            coordinator_bind_address=f"127.0.0.1:{port}" if host == 0 else None,
        )
    losses = train(host, hosts)
    Path(out).write_text(json.dumps(losses))
    if hosts > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main()
