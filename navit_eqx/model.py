"""NaViT: a Vision Transformer on packed rows.   [NaViT, arXiv:2307.06304]"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from .config import Backend, ModelConfig
from .depth import sample_gates, skip_rates, token_gates
from .encoder import Encoder
from .kernels import whom
from .layers import Linear, full
from .masks import register_ids, slot_tokens
from .patches import normalise
from .pooling import AbstractPool, pool
from .posembed import PosEmbed, build
from .resize import Interpolation, pi_resize
from .rope import Rope, rope_of
from .types import Row


class NaViT(eqx.Module):
    """Class logits for every image slot of a packed row, or of any batch of rows.

    For one (rows, T, P, I) there is one compiled program, whatever the images in them.
    """

    embed: Linear
    posembed: PosEmbed | None
    rope: Rope | None
    registers: Float[Array, "R D"] | None
    encoder: Encoder
    pool: AbstractPool
    head: Linear
    patch_size: int = eqx.field(static=True)
    interpolation: Interpolation = eqx.field(static=True)
    stochastic_depth: float = eqx.field(static=True)
    dtype: str = eqx.field(static=True)
    attention: Backend = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        embed, posembed, registers, encoder, pooling, head = jr.split(key, 6)
        self.embed = Linear(config.patch_dim, config.width, key=embed)
        self.posembed = build(config.posembed, config.width, key=posembed)
        self.rope = rope_of(config)
        self.registers = 0.02 * jr.normal(registers, (config.registers, config.width)) if config.registers else None
        self.encoder = Encoder(config, key=encoder)
        self.pool = pool(config, key=pooling)
        # A zero classifier starts every class at equal logits, as in big_vision.
        self.head = jax.tree.map(jnp.zeros_like, Linear(config.width, config.classes, key=head))
        self.patch_size = config.patch_size
        self.interpolation = config.interpolation
        self.stochastic_depth = config.stochastic_depth
        self.dtype = compute_dtype(config.dtype)
        self.attention = config.attention

    def tokens(
        self,
        patches: Num[Array, "*B T P"],
        coords: Int[Array, "*B T A"],
        grids: Int[Array, "*B T A"],
    ) -> Float[Array, "*B T D"]:
        """Patches to tokens: a linear map plus the position, if the model adds any.   [ViT, eq. 1; NaViT, §2.1]"""
        x = self.embedding(patches.shape[-1])(normalise(patches).astype(self.dtype))
        return x if self.posembed is None else x + self.posembed(coords, grids).astype(self.dtype)

    def embedding(self, patch_dim: int) -> Linear:
        """The embedding of patches of so many numbers: as it is stored, or with the kernel PI-resized.   [FlexiViT]

        The shape of a row says which, so there is one compiled program for each patch size. Mapped patches have the
        shape of the model's own. Raises ValueError where no square patch has so many numbers.
        """
        size = math.isqrt(patch_dim // 3)
        if 3 * size**2 != patch_dim:
            raise ValueError(f"{patch_dim} numbers are no square patch of three channels")
        if size == self.patch_size:
            return self.embed
        kernel = pi_resize(self.embed.w, (self.patch_size,) * 2, (size,) * 2, self.interpolation)
        return eqx.tree_at(lambda embed: embed.w, self.embed, kernel)

    def features(self, row: Row, gates: Float[Array, "L *B I"] | None = None) -> Float[Array, "*B I D"]:
        """One vector for each image slot. `gates` are those of stochastic depth."""
        x, ids, angles = self.entered(row)
        slots, length = row.grids.shape[-2], row.coords.shape[-2]
        mask = whom(self.attention, ids, slots)
        x = self.encoder(x, mask, angles, None if gates is None else token_gates(gates, ids))
        registers = x[..., length:, :].reshape(*x.shape[:-2], slots, (x.shape[-2] - length) // slots, x.shape[-1])
        return self.pool(x[..., :length, :], slot_tokens(row.segment_ids, slots), registers)

    def layers(self, row: Row) -> Float[Array, "layers *B T D"]:
        """Tokens of a row before the first block and after each, registers left out.   [FlexiViT, fig. 6]"""
        x, ids, angles = self.entered(row)
        mask = whom(self.attention, ids, row.grids.shape[-2])
        return self.encoder.layers(x, mask, angles)[..., : row.coords.shape[-2], :]

    def entered(self, row: Row) -> tuple[Float[Array, "*B S D"], Int[Array, "*B S"], Float[Array, "*B S half"] | None]:
        """What the encoder reads: tokens, whose they are, and angles; the registers of all slots follow the row, slot
        by slot.

        Padding is zeroed before and after the embedding: 0 · NaN = NaN, in the value and in the gradient.
        """
        real = (row.segment_ids > 0)[..., None]
        slot, slots = jnp.maximum(row.segment_ids, 1) - 1, row.grids.shape[-2]
        token_grids = jnp.take_along_axis(row.grids, slot[..., None], axis=-2)
        patches = jnp.where(real, row.patches, 0)
        coords = jnp.where(real, row.coords, 0)
        x = jnp.where(real, self.tokens(patches, coords, token_grids), 0)
        angles = None if self.rope is None else self.rope(coords)
        if self.registers is None:
            return x, row.segment_ids, angles
        count = len(self.registers)
        after = jnp.tile(self.registers.astype(x.dtype), (slots, 1))
        x = jnp.concatenate([x, jnp.broadcast_to(after, (*x.shape[:-2], *after.shape))], axis=-2)
        ids = jnp.concatenate([row.segment_ids, register_ids(row.segment_ids, slots, count)], axis=-1)
        # Registers have no place: they are not turned.
        angles = None if angles is None else jnp.pad(angles, [*[(0, 0)] * (x.ndim - 2), (0, slots * count), (0, 0)])
        return x, ids, angles

    def gates(self, key: PRNGKeyArray, image_ids: Int[Array, "*B I"]) -> Float[Array, "L *B I"] | None:
        """What training draws for stochastic depth; None where the model has none."""
        if not self.stochastic_depth:
            return None
        return sample_gates(key, skip_rates(self.stochastic_depth, self.encoder.depth), image_ids)

    def __call__(self, row: Row, gates: Float[Array, "L *B I"] | None = None) -> Float[Array, "*B I Y"]:
        return self.head(full(self.features(row, gates)))


def blueprint(config: ModelConfig) -> NaViT:
    """What of a model is no array: `equinox.combine` it with the arrays of a training state."""
    shape = eqx.filter_eval_shape(NaViT, config, key=jr.key(0))
    return eqx.filter(shape, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct), inverse=True)


def compute_dtype(dtype: str) -> str:
    """ "auto" is float32 on a CPU, where bfloat16 is slower, and bfloat16 on accelerators."""
    if dtype != "auto":
        return dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"
