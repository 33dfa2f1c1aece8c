"""Contestants of this project.

worker_jax.py NAME FOLDER          NAME one of CONTESTANTS; see protocol.py
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from benchmarks.contest.protocol import Ready, memory, serve, warm
from benchmarks.contest.stream import CLASSES, PATCH, load
from benchmarks.settings import packed
from benchmarks.train_step import FLOAT32, build, relative_error, training, with_backbone
from navit_eqx import Model, ModelConfig, NaViT, Row, to_device
from navit_eqx.config import Auto, Backend, Dense
from navit_eqx.images import unpack
from navit_eqx.inference import forward
from navit_eqx.layers import compute_dtype
from navit_eqx.tasks.config import Classify
from navit_eqx.training.attention_choice import choose
from navit_eqx.training.config import OptimConfig
from navit_eqx.weights.bridge import flatten
from reference.rows import Batch


class Unpacked(eqx.Module):
    """The same modules as a plain ViT: one image per row, as long as the row, no mask."""

    backbone: NaViT

    def gates(self, key: Array, image_ids: Array) -> None:
        """No model timed here uses stochastic depth."""

    def __call__(self, batch: Row, gates: None = None) -> Array:
        backbone, count = self.backbone, batch.segment_ids.shape[-1]
        grids = jnp.broadcast_to(batch.grids, (*batch.grids.shape[:-2], count, 2))
        x = backbone.encoder(backbone.embed_patches(batch.patches, batch.coords, grids), None)
        everything = jnp.ones((*x.shape[:-2], 1, count), bool)
        return backbone.pool(x, everything, jnp.zeros((*x.shape[:-2], 1, 0, x.shape[-1])))


def ours(task: dict[str, Any], folder: Path) -> Ready:
    """The training step of `train.py`: rows packed by exact fit, one scan over the blocks."""
    return contest(task, folder, lambda backbone: backbone, task["rows"], task["row_images"], Auto())


def unrolled(task: dict[str, Any], folder: Path) -> Ready:
    """The same with all blocks unrolled: one long program, which takes longer to compile."""
    task = task | {"model": task["model"] | {"unroll": task["model"]["depth"]}}
    return ours(task, folder)


def unpacked(task: dict[str, Any], folder: Path) -> Ready:
    return contest(task, folder, Unpacked, [[i] for i in range(len(task["lengths"]))], 1, Dense())


def contest(
    task: dict[str, Any],
    folder: Path,
    wrap: Callable[[NaViT], Any],
    rows: Sequence[Sequence[int]],
    row_images: int,
    attention: Backend,
) -> Ready:
    """Compile and check the first row against the NumPy reference.

    Parameters and logits are written to `ours.npz`, for peers that are the same model.
    """
    start = perf_counter()
    batch = packed(*load(folder / "images.npz"), rows, task["row_tokens"], row_images, (PATCH, PATCH))
    input_seconds = perf_counter() - start
    config, classify = ModelConfig((PATCH, PATCH), attention=attention, **task["model"]), Classify(classes=CLASSES)
    steps = in_steps(batch, task["steps"])
    backend, found = choose(config, steps[0].row.segment_ids, row_images)
    model, dtype = build(replace(config, attention=backend), classify), compute_dtype(config.dtype)
    exact = model if dtype == "float32" else build(replace(config, dtype="float32", attention=Dense()), classify)
    error = check(exact, wrap, steps, batch, folder / "ours.npz")
    model = with_backbone(model, wrap)

    if task["train"]:
        step, state, device_batch, compile_seconds = training(model, OptimConfig(), 1000, steps[0])
        parts = [device_batch(part) for part in steps]

        def once():
            nonlocal state
            for part in parts:
                state, metrics = step(state, part)
            return jax.block_until_ready(metrics)

        warm(once)
    else:
        parts = [to_device(part.row) for part in steps]
        once = lambda: jax.block_until_ready([forward(model, part) for part in parts])
        compile_seconds = warm(once)
    about = {"places": batch.row.segment_ids.size, "steps": len(steps), "relative_error": error, "dtype": dtype}
    about |= {"attention": str(backend), "found": found}
    return Ready(once, {**about, "input_seconds": input_seconds, "compile_seconds": compile_seconds}, peak)


def check(model: Model, wrap: Callable[[NaViT], Any], steps: list[Batch], batch: Batch, path: Path) -> float:
    """Relative error of the first row; writes the parameters and all logits, in the order of the list, to `path`."""
    wrapped = with_backbone(model, wrap)
    with jax.default_matmul_precision("highest"):
        logits = np.concatenate([np.asarray(forward(wrapped, to_device(part.row))) for part in steps])
    error = relative_error(model, logits[0], type(batch.row)(*(leaf[0] for leaf in batch.row)))
    if error > FLOAT32:
        raise AssertionError(f"relative error {error:.3g} against the reference, limit {FLOAT32}")
    np.savez(path, logits=unpack(to_device(batch.row), logits), **flatten(model))
    return error


def in_steps(batch: Batch, steps: int) -> list[Batch]:
    """Split a batch into equal batches.   Raises ValueError where its rows do not split."""
    count = len(batch.row.grids)
    if count % steps:
        raise ValueError(f"{count} rows are not {steps} equal steps")
    size = count // steps
    return [jax.tree.map(lambda leaf, s=s: leaf[s * size : (s + 1) * size], batch) for s in range(steps)]


def gemm(task: dict[str, Any], folder: Path) -> Ready:
    """The matrix products of the blocks, forward alone: the peak of this machine."""
    width, depth, mlp = (task["model"][name] for name in ("width", "depth", "mlp_width"))
    count = task["step_tokens"]
    shapes = [(width, 3 * width), (width, width), (width, mlp), (mlp, width)]
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    pairs = [(jnp.ones((count, a), dtype), jnp.ones((a, b), dtype)) for a, b in shapes]
    product = jax.jit(jnp.matmul)
    once = lambda: jax.block_until_ready([product(x, w) for _ in range(depth) for x, w in pairs])
    flops = 2 * count * sum(a * b for a, b in shapes) * depth
    return Ready(once, {"flops": flops, "dtype": dtype, "compile_seconds": warm(once)}, peak)


def peak() -> int | None:
    stats = jax.devices()[0].memory_stats()
    return memory("VmHWM") if stats is None else stats["peak_bytes_in_use"]


CONTESTANTS: dict[str, Callable[[dict[str, Any], Path], Ready]] = {
    "ours": ours,
    "unrolled": unrolled,
    "unpacked": unpacked,
    "gemm": gemm,
}


if __name__ == "__main__":
    serve(lambda name, task, folder: CONTESTANTS[name](task, folder))
