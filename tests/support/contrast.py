"""Slots of two towers, and the contrastive losses of both sides, with their gradients."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from navit_eqx.tasks import pair_losses as fast
from navit_eqx.training.sharding import replicated, with_mesh
from reference.tasks import contrast as slow
from tests.support.devices import mesh_of
from tests.support.strategies import seeds
from tests.support.tolerances import FLOAT64

IMAGES, TEXTS, WIDTH = 9, 7, 4  # neither is a multiple of the number of devices, or of most numbers of blocks
KINDS, DUPLICATES = ("sigmoid", "softmax"), ("positive", "ignore", "negative")
LOSSES = {kind: getattr(slow, f"{kind}_loss") for kind in KINDS}
GRADIENTS = {kind: getattr(slow, f"{kind}_gradients") for kind in KINDS}


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def slots_of(rng: np.random.Generator, keys: list[int], images: int = 5) -> slow.Slots:
    """Random unit vectors and ids; an empty slot holds NaN."""
    keys = np.array(keys, np.int32)
    vectors = np.where(keys[:, None] >= 0, unit(rng.normal(size=(len(keys), WIDTH))), np.nan)
    return slow.Slots(vectors, keys, np.where(keys >= 0, rng.integers(0, images, len(keys)), -1).astype(np.int32))


@st.composite
def towers(draw, images: int = IMAGES, texts: int = TEXTS) -> tuple[slow.Slots, slow.Slots]:
    """Slots of images and of texts: some are empty, some have no partner, some several, and some own one caption."""
    rng = np.random.default_rng(draw(seeds))
    keys = [draw(st.lists(st.integers(-1, 4), min_size=n, max_size=n)) for n in (images, texts)]
    return slots_of(rng, keys[0]), slots_of(rng, keys[1])


scalars = st.tuples(st.floats(-1, 3), st.floats(-4, 2))
"""Log scale and bias."""


def distinct(count: int, seed: int, extra: int = 0) -> tuple[slow.Slots, slow.Slots]:
    """As many images as texts, each with one partner, in another order."""
    rng = np.random.default_rng(seed)
    images = slow.Slots(unit(rng.normal(size=(count, WIDTH))), *[np.arange(count, dtype=np.int32)] * 2)
    order = rng.permutation(count).astype(np.int32)
    return images, slow.Slots(unit(rng.normal(size=(count, WIDTH))), order, order)


@lru_cache
def program(kind: str, duplicates: str, devices: int = 1, blocks: int | None = 1) -> Any:
    """Compiled: (images, texts, log scale, bias) → gradients of the mean, and (sum, count, extras)."""
    mesh = mesh_of(devices)

    def mean(u, v, log_scale, bias, labels):
        images, texts = (fast.Slots(x, *rest) for x, rest in zip((u, v), labels))
        total, count, extras = fast.contrastive_loss(
            kind, images, texts, log_scale, bias, duplicates=duplicates, blocks=blocks
        )
        return total / jnp.maximum(count, 1).astype(total.dtype), (total, count, extras)

    return jax.jit(with_mesh(jax.grad(mean, (0, 1, 2, 3), has_aux=True), mesh))


def measured(form: tuple, images: slow.Slots, texts: slow.Slots, log_scale: float, bias: float) -> tuple:
    """(sum, count, extras), and the gradients, of the backend; `form` as the arguments of `program`."""
    leaves = images[0], texts[0], np.asarray(log_scale), np.asarray(bias), (images[1:], texts[1:])
    gradients, found = program(*form)(*jax.device_put(leaves, replicated(mesh_of(*form[2:3]))))
    return found, slow.Gradients(*gradients)


def expected(kind: str, duplicates: str, *arguments: Any) -> tuple:
    """(sum, count, mean similarities), and the gradients, of the reference."""
    images, texts, *_ = arguments
    counts, positive = slow.weigh(images, texts, duplicates)
    cosines = slow.similarities(images, texts, 0.0)
    means = {
        f"{name}_similarity": cosines[pairs].mean() if pairs.any() else 0.0
        for name, pairs in {"positive": positive, "negative": counts & ~positive}.items()
    }
    total, count = LOSSES[kind](*arguments, duplicates)
    return (total, count, means), GRADIENTS[kind](*arguments, duplicates)


def agrees(form, images, texts, log_scale, bias):
    """Sum, count, similarities and four gradients are those of the reference."""
    kind, how, *_ = form
    (total, count, extras), gradients = measured(form, images, texts, log_scale, bias)
    (want, number, means), derivatives = expected(kind, how, images, texts, log_scale, bias)
    assert int(count) == number
    assert abs(float(total) - want) <= FLOAT64 * max(abs(want), 1)
    for name, mean in means.items():
        assert abs(float(extras[name]) - number * mean) <= FLOAT64 * max(number, 1), name
    for got, derivative in zip(gradients, derivatives, strict=True):
        assert np.isfinite(got).all()
        assert np.abs(np.asarray(got) - derivative).max() <= FLOAT64 * max(1, np.abs(derivative).max())
