"""Attention within windows of an image, in some of the blocks.   [Qwen2.5-VL, arXiv:2502.13923]"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Num

from .config import ModelConfig
from .layers import expand


class BlockMasks(eqx.Module):
    """The two masks of a model with windows, and which of its blocks attend to the whole image."""

    image: Bool[Array, "*B T T"]
    window: Bool[Array, "*B T T"]
    whole: Bool[np.ndarray, " L"]

    def of(self, whole: Bool[Array, ""]) -> Bool[Array, "*B T T"]:
        """The mask of a block that attends to the whole image, or to windows."""
        return jnp.where(whole, self.image, self.window)


def same_window(coords: Num[Array, "*B T 2"], window: Sequence[int]) -> Bool[Array, "*B T T"]:
    """Pairs of places in the same window; windows begin at the top left, those at the other rims may be smaller."""
    place = coords // expand(jnp.asarray(window, coords.dtype), coords)
    return (place[..., :, None, :] == place[..., None, :, :]).all(-1)


class LayerMasks(eqx.Module):
    """The mask of each block: pairs in the same window, but in blocks that attend to the whole image."""

    window: tuple[int, ...] = eqx.field(static=True)
    whole: tuple[bool, ...] = eqx.field(static=True)

    def __call__(self, coords: Num[Array, "*B T 2"], mask: Bool[Array, "*B T T"]) -> BlockMasks:
        return BlockMasks(mask, mask & same_window(coords, self.window), np.array(self.whole))


def make_local(config: ModelConfig) -> LayerMasks | None:
    """The windows of the configuration; None where every block attends to the whole image."""
    local = config.local
    if local is None:
        return None
    return LayerMasks(local.window, tuple(n in local.whole for n in range(1, config.depth + 1)))
