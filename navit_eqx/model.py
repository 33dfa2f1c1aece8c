"""NaViT: a Vision Transformer on packed rows.   [NaViT, arXiv:2307.06304]"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from .config import ModelConfig
from .encoder import Encoder
from .layers import Linear, full
from .masks import same_image, slot_tokens
from .patches import normalise
from .pooling import MapPool
from .posembed import Factorised
from .types import Row


class NaViT(eqx.Module):
    """Class logits for every image slot of a packed row, or of any batch of rows.

    For one (rows, T, I) there is one compiled program, whatever the images in them.
    """

    embed: Linear
    posembed: Factorised
    encoder: Encoder
    pool: MapPool
    head: Linear
    dtype: str = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        embed, posembed, encoder, pool, head = jr.split(key, 5)
        self.embed = Linear(config.patch_dim, config.width, key=embed)
        self.posembed = Factorised(config.posembed, config.width, key=posembed)
        self.encoder = Encoder(config, key=encoder)
        self.pool = MapPool(config, key=pool)
        # A zero classifier starts every class at equal logits, as in big_vision.
        self.head = jax.tree.map(jnp.zeros_like, Linear(config.width, config.classes, key=head))
        self.dtype = compute_dtype(config.dtype)

    def tokens(
        self,
        patches: Num[Array, "*B T P"],
        coords: Int[Array, "*B T A"],
        grids: Int[Array, "*B T A"],
    ) -> Float[Array, "*B T D"]:
        """Patches to tokens: a linear map plus the position.   [ViT, eq. 1; NaViT, §2.1]"""
        x = self.embed(normalise(patches).astype(self.dtype))
        return x + self.posembed(coords, grids).astype(self.dtype)

    def features(self, row: Row) -> Float[Array, "*B I D"]:
        """One vector for each image slot.

        Padding is zeroed before and after the embedding: 0 · NaN = NaN, in the value and in the gradient.
        """
        real = (row.segment_ids > 0)[..., None]
        slot = jnp.maximum(row.segment_ids, 1) - 1
        token_grids = jnp.take_along_axis(row.grids, slot[..., None], axis=-2)
        patches = jnp.where(real, row.patches, 0)
        coords = jnp.where(real, row.coords, 0)
        x = jnp.where(real, self.tokens(patches, coords, token_grids), 0)
        x = self.encoder(x, same_image(row.segment_ids))
        return self.pool(x, slot_tokens(row.segment_ids, row.grids.shape[-2]))

    def __call__(self, row: Row) -> Float[Array, "*B I Y"]:
        return self.head(full(self.features(row)))


def compute_dtype(dtype: str) -> str:
    """ "auto" is float32 on a CPU, where bfloat16 is slower, and bfloat16 on accelerators."""
    if dtype != "auto":
        return dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"
