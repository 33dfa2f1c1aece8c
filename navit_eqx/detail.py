"""The detail path: what the parts of a merged patch say is added to its token.   [APT, arXiv:2510.18091, eq. 2]

token = E(reduced patch) + out(join(… join(E(parts)))), once `join` for each level; `out` is zero at first.

Rows hold the parts in the format of the kernel, beside the patches: "T P" becomes "T P (1 + m)", m places of P
numbers a token. The m T_i places of an image, in the order of its tokens, hold the parts of its merged patches, one
patch after the other, the 4^s parts of a patch in Z-order. An image carries its own parts: packing does not know.
"""

from collections.abc import Sequence
from math import ceil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from .config import ModelConfig
from .hierarchy import block_order
from .layers import Linear
from .resize import FLEXIVIT, Interpolation, pi_matrix


def places(rate: float, scales: int) -> int:
    """Places for parts a token, m: enough for any image of which this share of the possible merges is made."""
    saved = rate * (1 - 4.0 ** (1 - scales))
    return ceil(min(4 * saved / 3, 1) / (1 - saved) - 1e-9)


def with_parts(
    patches: Num[np.ndarray, "T P"],
    image: Num[np.ndarray, "h w C"],
    patch: Sequence[int],
    levels: Int[np.ndarray, "rows columns"],
    base: Sequence[int],
    room: int,
    interpolation: Interpolation = FLEXIVIT,
) -> Num[np.ndarray, "T W"]:
    """Tokens of a partitioned image, with `room` places a token for the parts of its merged patches."""
    cells = [image[y * patch[0] :, x * patch[1] :][: patch[0], : patch[1]] for y, x in _parts(levels)]
    parts = np.zeros((len(patches) * room, patches.shape[1]), patches.dtype)
    if cells:
        found = np.stack(cells)
        if tuple(patch) != tuple(base):
            ky, kx = (pi_matrix(old, new, interpolation) for old, new in zip(base, patch))
            found = np.einsum("nabc,ai,bj->nijc", found.astype(float), ky, kx, optimize=True)
        parts[: len(found)] = found.reshape(len(found), -1)
    return np.concatenate([patches, parts.reshape(len(patches), -1)], 1)


def _parts(levels: Int[np.ndarray, "rows columns"]) -> list[tuple[int, int]]:
    """The cells of all merged blocks: blocks in raster order of their first cells, the cells of each in Z-order."""
    found = []
    for (y, x), level in np.ndenumerate(levels):
        side = 2 ** int(level)
        if level and not (y % side or x % side):
            found += [(y + n // side, x + n % side) for n in block_order((side, side), int(level)).tolist()]
    return found


class Detail(eqx.Module):
    """Vectors of parts → what is added to each token: quads are joined by one linear map, at every level the same."""

    join: Linear
    out: Linear
    scales: int = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        assert config.detail is not None
        self.join = Linear(4 * config.width, config.width, key=key)
        self.out = jax.tree.map(jnp.zeros_like, Linear(config.width, config.width, key=key))
        self.scales = config.detail.scales

    def __call__(
        self, parts: Float[Array, "*B U D"], levels: Num[Array, "*B T"], segment_ids: Int[Array, "*B T"]
    ) -> Float[Array, "*B T D"]:
        lead = levels.shape[:-1]
        rows = [x.reshape(-1, *x.shape[len(lead) :]) for x in (parts, levels.astype(jnp.int32), segment_ids)]
        joined = jax.vmap(self.of_row)(*rows)
        return joined.reshape(*lead, *joined.shape[1:])

    def of_row(
        self, parts: Float[Array, "U D"], levels: Int[Array, " T"], segment_ids: Int[Array, " T"]
    ) -> Float[Array, "T D"]:
        """The same for one row. There are at most U / 4^s tokens of level s: their number is static."""
        first = first_parts(levels, segment_ids, len(parts))
        joined = jnp.zeros((len(levels), parts.shape[-1]), parts.dtype)
        for s in range(1, self.scales):
            if not (most := min(len(parts) >> 2 * s, len(levels))):
                break
            which = jnp.nonzero(levels == s, size=most, fill_value=len(levels))[0]
            place = first.at[which].get(mode="fill", fill_value=0)[:, None] + jnp.arange(4**s, dtype=first.dtype)[None]
            y = parts[place]
            for _ in range(s):
                y = self.join(y.reshape(most, -1, 4 * y.shape[-1]))
            joined = joined.at[which].set(y[:, 0], mode="drop")
        return jnp.where((levels > 0)[:, None], self.out(joined), 0)


def first_parts(levels: Int[Array, " T"], segment_ids: Int[Array, " T"], room: int) -> Int[Array, " T"]:
    """The place of the first part of each token, of `room` places of a row: after those of all tokens before it in its
    image, whose places begin at its first token."""
    length = len(levels)
    place = jnp.arange(length, dtype=jnp.int32)
    begins = jnp.concatenate([jnp.ones(1, bool), segment_ids[1:] != segment_ids[:-1]])
    start = jax.lax.cummax(jnp.where(begins, place, 0))
    count = jnp.where(levels > 0, jnp.left_shift(1, 2 * levels), 0).astype(jnp.int32)
    before = jnp.cumsum(count, dtype=jnp.int32) - count
    return start * (room // length) + before - before[start]


def make_detail(config: ModelConfig, *, key: PRNGKeyArray) -> Detail | None:
    """Initialize the detail path; None for a model without one."""
    return Detail(config, key=key) if config.detail else None
