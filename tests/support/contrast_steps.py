"""Three steps of two small towers by a contrastive loss, on the devices of one process or of several.

python -m tests.support.contrast_steps OUT    # parameters to OUT/found-N.json, from process N
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from navit_eqx.tasks.pair_losses import Slots, contrastive_loss, unit
from navit_eqx.training import hosts
from navit_eqx.training.sharding import data_mesh, replicated, shard_rows, with_mesh

IMAGES, TEXTS, WIDTH, STEPS = 16, 24, 4, 3
KINDS = "sigmoid", "softmax"


def slots(rng: np.random.Generator, count: int, features: int) -> tuple:
    """Features, keys and ids; the first eighth, which is all that one of eight devices has, is empty."""
    keys = np.where(np.arange(count) < count // 8, -1, rng.integers(0, 9, count)).astype(np.int32)
    return rng.normal(size=(count, features)), keys, np.where(keys >= 0, np.arange(count), -1).astype(np.int32)


def trained(kind: str, mesh: Any) -> list[np.ndarray]:
    """Parameters after the steps: two linear towers, log scale, bias."""
    rng = np.random.default_rng(0)
    towers = slots(rng, IMAGES, 6), slots(rng, TEXTS, 5)
    params = rng.normal(size=(6, WIDTH)), rng.normal(size=(5, WIDTH)), np.log(10.0), np.asarray(-2.5)
    hosts, host = jax.process_count(), jax.process_index()
    share = jax.tree.map(lambda leaf: np.split(leaf, hosts)[host], towers)
    optimizer = optax.sgd(0.1, momentum=0.5)

    def mean(params, towers):
        images, texts = (Slots(unit(x @ w), keys, ids) for w, (x, keys, ids) in zip(params, towers))
        total, count, _ = contrastive_loss(kind, images, texts, *params[2:], blocks=1)
        return total / count.astype(total.dtype)

    def step(params, state, towers):
        updates, state = optimizer.update(jax.grad(mean)(params, towers), state)
        return optax.apply_updates(params, updates), state

    step = jax.jit(with_mesh(step, mesh), out_shardings=replicated(mesh))
    towers = shard_rows(share, mesh)
    everywhere = lambda leaf: jax.make_array_from_callback(np.shape(leaf), replicated(mesh), lambda _: np.asarray(leaf))
    params = jax.tree.map(everywhere, params)
    state = jax.jit(optimizer.init, out_shardings=replicated(mesh))(params)
    for _ in range(STEPS):
        params, state = step(params, state, towers)
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), list(params))


def main(out: str) -> None:
    jax.config.update("jax_enable_x64", True)
    hosts.initialize_distributed("auto")
    found = {kind: [leaf.tolist() for leaf in trained(kind, data_mesh())] for kind in KINDS}
    (Path(out) / f"found-{jax.process_index()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
