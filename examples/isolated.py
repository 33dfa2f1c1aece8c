"""Models for `python -m navit_eqx.isolation`: one of this project, which keeps images apart, and toys that leak.

python -m navit_eqx.isolation examples.isolated:ours
python -m navit_eqx.isolation examples.isolated:padded
python -m navit_eqx.isolation examples.isolated:batch_normed
NAVIT_MODEL=runs/digits python -m navit_eqx.isolation examples.isolated:saved
"""

import os
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

import navit_eqx as navit
from navit_eqx.config import Factorised
from navit_eqx.images import unpack_tokens
from navit_eqx.preprocessing import Native, Preprocessing
from navit_eqx.rows import Row, to_device
from navit_eqx.tasks.config import Embed

PATCH = (16, 16)
INFO = navit.ModelInfo((), Preprocessing(Native(), row_tokens=64, row_images=4))
CONFIG = navit.ModelConfig(PATCH, width=16, depth=1, heads=2, mlp_width=32, posembed=Factorised(8))


@cache
def model() -> navit.Model:
    """A small model of random numbers."""
    return navit.Model(CONFIG, Embed(), INFO, key=jax.random.key(0))


def packed(images: list[np.ndarray]) -> Row:
    """All images in rows of one shape."""
    return navit.pack(images, model(), row_tokens=64, rows=4)


def ours(images: list[np.ndarray]) -> np.ndarray:
    """Packed rows, one compiled program."""
    batch = packed(images)
    return navit.unpack(batch, run(model(), batch))


run = jax.jit(lambda model, row: model(row))
slopes = jax.jit(jax.grad(lambda patches, row, where: (model()(row._replace(patches=patches)) * where).sum()))


def gradient(images: list[np.ndarray], n: int) -> list[np.ndarray]:
    """Gradients of the sum of the n-th vector, patch by patch of each image."""
    batch = to_device(packed(images))
    where = jnp.asarray(np.asarray(batch.image_ids) == n, jnp.float32)[..., None]
    return unpack_tokens(batch, slopes(batch.patches.astype(jnp.float32), batch, where))


ours.gradient = gradient


def saved(images: list[np.ndarray]) -> np.ndarray:
    """The model of NAVIT_MODEL, at its own size."""
    return navit.features(loaded(), images)


@cache
def loaded() -> navit.Model:
    return navit.load(os.environ["NAVIT_MODEL"])


def padded(images: list[np.ndarray]) -> np.ndarray:
    """Padded to the largest, and averaged with the padding: a mask is missing."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    padding = lambda image: [(0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)]
    return np.stack([np.pad(image, padding(image)) for image in images]).mean((1, 2))


def batch_normed(images: list[np.ndarray]) -> np.ndarray:
    """Normalized over the batch, as in training mode."""
    means = np.stack([image.mean((0, 1)) for image in images])
    return (means - means.mean(0)) / (means.std(0) + 1e-3)
