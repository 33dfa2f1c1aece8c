"""A class for every pixel: tokens → logits of their pixels, cross-entropy of every labeled pixel.

[NaViT, fig. 13; Segmenter, arXiv:2105.05633]
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray, UInt8

from ..errors import ConfigError
from ..layers import Linear, expand, full
from ..model import NaViT
from ..resize import resize_matrix, triangle
from ..rows import Batch, Row
from . import config
from .classify import zero_head
from .task import AbstractTask, PreparedTask

IGNORE = 255  # label of pixels without a class, of padding, and of images without a mask


class Targets(NamedTuple):
    """Labels of the pixels of each token; and the places of the tokens around each token in its row.

    Where patches are merged, of each of U cells; its token, and the level of its block, its row and column in it.
    """

    labels: UInt8[Array, "*B U p q"]
    neighbors: Int[Array, "*B U 3 3"]
    owner: Int[Array, "*B U"] | None = None
    part: Int[Array, "*B U 3"] | None = None


class Segment(AbstractTask):
    """A linear head on each token, whose outputs a decoder turns into logits of pixels."""

    head: Linear
    decoder: str = eqx.field(static=True)
    patch: tuple[int, ...] = eqx.field(static=True)
    config: "config.Segment" = eqx.field(static=True)
    Targets = Targets
    per_token = True
    every_patch = True

    def __init__(self, config: "config.Segment", width: int, *, key: PRNGKeyArray):
        if len(config.patch) != 2:
            raise ConfigError(f"task.patch={config.patch}: give the height and width of the labels of a token")
        pixels = prod(config.patch) if config.decoder == "pixels" else 1
        self.head = zero_head(width, pixels * (config.classes or 0), key=key)
        self.decoder = config.decoder
        self.patch = config.patch
        self.config = config

    def predict(self, backbone: NaViT, row: Row) -> Float[Array, "*B T n"]:
        """Outputs of each token: Y logits, or p·q·Y for the decoder `pixels`."""
        return self.outputs(backbone.tokens(row), row)

    def outputs(self, tokens: Float[Array, "*B T D"], row: Row) -> Float[Array, "*B T n"]:
        """The head on the tokens, zeros in padding."""
        return self.head(full(jnp.where((row.segment_ids > 0)[..., None], tokens, 0)))

    def loss(
        self, backbone: NaViT, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        """The count is that of labeled pixels."""
        row, targets = batch
        tokens, _ = backbone.encode(row, backbone.gates(key, row.image_ids))
        return self.pixel_loss(self.outputs(tokens, row), targets)

    def pixel_loss(
        self, outputs: Float[Array, "*B T n"], targets: Any
    ) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        """Σ cross-entropy over labeled pixels, their number, and how many are right.

        Logits of pixels are computed again for the gradient, not stored.
        """

        @jax.checkpoint
        def sums(outputs: Float[Array, "*B T n"]) -> tuple[Array, Array]:
            if targets.owner is not None:
                outputs = self.cell_outputs(outputs, targets.owner, targets.part)
            logits = self.pixel_logits(outputs, targets.neighbors)
            labels, labeled = targets.labels, targets.labels != IGNORE
            own = labels[..., None] == expand(jnp.arange(logits.shape[-1]), labels[..., None])
            entropy = jax.nn.logsumexp(logits, -1) - jnp.where(own, logits, 0).sum(-1)
            right = (logits.argmax(-1).astype(labels.dtype) == labels) & labeled
            return jnp.where(labeled, entropy, 0).sum(), right.sum(dtype=jnp.int32)

        total, right = sums(outputs)
        count = (targets.labels != IGNORE).sum(dtype=jnp.int32)
        return total, count, {"pixel_accuracy": right}

    def cell_outputs(
        self, outputs: Float[Array, "*B T n"], owner: Int[Array, "*B U"], part: Int[Array, "*B U 3"]
    ) -> Float[Array, "*B U n"]:
        """The outputs of the token of each cell; with the decoder `pixels`, its part of them."""
        cells = jnp.take_along_axis(outputs, owner[..., None], axis=-2)
        if self.decoder != "pixels":
            return cells
        level, *place = jnp.moveaxis(part, -1, 0)
        pixels = cells.reshape(*cells.shape[:-1], *self.patch, -1)
        for axis, (first, side) in enumerate(zip(place, self.patch)):
            which = first[..., None] * side + expand(jnp.arange(side), part[..., :1])
            which = jnp.right_shift(which, level[..., None])
            which = which[..., :, None, None] if axis == 0 else which[..., None, :, None]
            pixels = jnp.take_along_axis(pixels, which, axis=axis - 3)
        return pixels.reshape(cells.shape)

    def pixel_logits(
        self, outputs: Float[Array, "*B T n"], neighbors: Int[Array, "*B T 3 3"]
    ) -> Float[Array, "*B T _p _q Y"]:
        """Logits of the pixels of each token; one for all of its pixels with the decoder `patch`."""
        if self.decoder == "linear":
            return upsample_in_row(outputs, neighbors, self.patch)
        if self.decoder == "pixels":
            return outputs.reshape(*outputs.shape[:-1], *self.patch, -1)
        return outputs[..., None, None, :]

    def native_logits(
        self,
        outputs: Float[np.ndarray, "n m"],
        coords: Num[np.ndarray, "n A"],
        grid: Sequence[int],
        size: Sequence[int],
    ) -> Float[np.ndarray, "h w Y"]:
        """Logits at the pixels of the photograph, from the outputs of all tokens of one image, on the host.

        Of merged patches, coords (level, y, x): the outputs of a token fill its block.
        """
        rows, columns = self.patch if self.decoder == "pixels" else (1, 1)
        height, width = (int(n) for n in grid[-2:])
        picture = np.zeros((height * rows, width * columns, outputs.shape[-1] // (rows * columns)), outputs.dtype)
        sides = 2 ** coords[:, 0].astype(int) if coords.shape[1] == 3 else np.ones(len(coords), int)
        first = (coords[:, -2:] + 0.5 - sides[:, None] / 2).astype(int) * (rows, columns)
        pixels = outputs.reshape(len(outputs), rows, columns, -1)
        for side in np.unique(sides):  # all blocks of a size at once
            y, x = first[sides == side].T[..., None]
            y, x = (y + np.arange(side * rows))[:, :, None], (x + np.arange(side * columns))[:, None]
            picture[y, x] = pixels[sides == side].repeat(side, 1).repeat(side, 2)
        for axis, new in enumerate(size):
            if picture.shape[axis] != new:
                matrix = resize_matrix(picture.shape[axis], new)
                picture = np.moveaxis(np.tensordot(matrix, picture, (1, axis)), 0, axis)
        return picture

    @classmethod
    def prepare(cls, config: Any, classes: Sequence[str], load: Callable[[str], Any]) -> PreparedTask:
        """The number of classes is that of the data, which reads decoder and patch as well."""
        data = {"decoder": config.decoder, "patch": config.patch}
        return super().prepare(config, classes, load)._replace(data=data)


def weights(patch: int) -> Float[np.ndarray, "p 3"]:
    """Shares of the tokens before, at and after each pixel of a patch: linear, half-pixel centers."""
    return np.array([[triangle((i + 0.5) / patch - 0.5 - a) for a in (-1, 0, 1)] for i in range(patch)])


def upsample_in_row(
    logits: Float[Array, "*B T Y"], neighbors: Int[Array, "*B T 3 3"], patch: Sequence[int]
) -> Float[Array, "*B T p q Y"]:
    """Σ_ab W_ia W_jb logits[neighbors_tab]: bilinear upsampling of every image of a row, where it stands."""
    places = neighbors.reshape(*neighbors.shape[:-3], -1, 1)
    around = jnp.take_along_axis(logits, places, axis=-2).reshape(*neighbors.shape, logits.shape[-1])
    rows, columns = (jnp.asarray(weights(side), logits.dtype) for side in patch)
    return jnp.einsum("ia,jb,...taby->...tijy", rows, columns, around)
