"""Fine-tune a saved model on your own images, with your own head and loop.

    python examples/finetune.py runs/digits

The images here are drawn: discs and frames of any size. Replace them by lists of arrays, PIL images or paths, and
labels.
"""

import sys

import jax.numpy as jnp
import numpy as np
import optax

import navit_eqx as navit
from navit_eqx.tasks.classify import Targets
from navit_eqx.tasks.config import Classify


def draw(rng: np.random.Generator, label: int) -> np.ndarray:
    """Draw a disc (0) or a frame (1) in an image of random size."""
    height, width = rng.integers(16, 64, 2)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    distance = np.hypot(y, x) if label == 0 else np.maximum(np.abs(y), np.abs(x))
    ink = distance < 0.8 if label == 0 else (distance > 0.6) & (distance < 0.9)
    return np.repeat((200 * ink + rng.integers(0, 50, ink.shape)).astype(np.uint8)[..., None], 3, -1)


def main(folder: str, steps: int = 40) -> float:
    """Train; returns the accuracy on new images."""
    rng = np.random.default_rng(0)
    model = navit.load(folder)
    state, step = navit.finetune(model, Classify(classes=2), optax.adamw(1e-3))
    for n in range(steps):
        labels = rng.integers(0, 2, 16)
        row = navit.pack([draw(rng, label) for label in labels], model, row_tokens=96, rows=16)
        in_slots = jnp.where(row.image_ids >= 0, jnp.asarray(labels, jnp.int32)[row.image_ids], -1)
        targets = Targets(in_slots, jnp.full_like(in_slots, -1), jnp.zeros(in_slots.shape, jnp.float32))
        state, loss = step(state, navit.Batch(row, targets))
        if n % 10 == 0:
            print(f"step {n}: loss {loss:.3f}")
    labels = rng.integers(0, 2, 100)
    row = navit.pack([draw(rng, label) for label in labels], model)
    logits = navit.unpack(row, navit.forward(state.model, row))
    accuracy = float((logits.argmax(-1) == labels).mean())
    print(f"accuracy on 100 new images: {accuracy:.2f}")
    return accuracy


if __name__ == "__main__":
    main(sys.argv[1])
