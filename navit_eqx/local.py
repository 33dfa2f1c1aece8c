"""Groups of attention: windows or frames in some blocks, the whole image in others.

[Qwen2-VL, arXiv:2409.12191; Qwen2.5-VL, arXiv:2502.13923]
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Num

from .areas import weighted
from .config import ModelConfig
from .layers import expand
from .masks import SegmentMask


class BlockMasks(eqx.Module):
    """The masks of a model with groups, and which of them each block has."""

    masks: Bool[Array, "groups *B T T"]
    which: Int[np.ndarray, " L"]
    levels: Num[Array, "*B T"] | None = None
    """Of the keys, where their areas count."""

    def of(self, which: Int[Array, ""]) -> Bool[Array, "*B T T"] | SegmentMask:
        """The mask of a block, by its number among the groups."""
        return weighted(jax.lax.dynamic_index_in_dim(self.masks, which, keepdims=False), self.levels)

    def weighted(self, levels: Num[Array, "*B T"] | None) -> "BlockMasks":
        """The masks with keys of these levels."""
        return BlockMasks(self.masks, self.which, levels)


def same_window(coords: Num[Array, "*B T 2"], window: Sequence[int]) -> Bool[Array, "*B T T"]:
    """Pairs of places in the same window; windows begin at the top left, those at the other rims may be smaller."""
    place = coords // expand(jnp.asarray(window, coords.dtype), coords)
    return (place[..., :, None, :] == place[..., None, :, :]).all(-1)


def same_frame(times: Num[Array, "*B T"]) -> Bool[Array, "*B T T"]:
    """Pairs of tubelets of one time."""
    return times[..., :, None] == times[..., None, :]


class LayerMasks(eqx.Module):
    """The mask of each block: pairs in the same window of a frame, in the same frame, or all of the image."""

    window: tuple[int, ...] = eqx.field(static=True)
    whole: tuple[bool, ...] = eqx.field(static=True)
    frame: tuple[bool, ...] = eqx.field(static=True)
    clips: bool = eqx.field(static=True)

    def __call__(self, coords: Num[Array, "*B T A"], mask: Bool[Array, "*B T T"]) -> BlockMasks:
        frame = mask & same_frame(coords[..., 1]) if self.clips else mask
        near = frame & same_window(coords[..., -2:], self.window)
        which = np.select([self.whole, self.frame], [0, 1], 2).astype(np.int32)
        if not self.clips:  # an image is one frame
            return BlockMasks(jnp.stack([mask, near]), np.minimum(which, 1))
        return BlockMasks(jnp.stack([mask, frame, near]), which)


def make_local(config: ModelConfig) -> LayerMasks | None:
    """The groups of the configuration; None where every block attends to the whole image."""
    local = config.local
    if local is None:
        return None
    whole, frame = (tuple(n in blocks for n in range(1, config.depth + 1)) for blocks in (local.whole, local.frame))
    return LayerMasks(local.window, whole, frame, config.tubelets is not None)
