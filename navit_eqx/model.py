"""NaViT: a Vision Transformer on packed rows.   [NaViT, arXiv:2307.06304]"""

from math import prod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

from .adaptive import LevelEmbedding, make_levels
from .areas import weighted
from .config import ModelConfig
from .detail import Detail, make_detail
from .encoder import Encoder, sample_gates, skip_rates, token_gates
from .errors import check
from .hierarchy import Hierarchy, last_level, make_encoder, stage_configs
from .kernels import attention_mask
from .layers import AbstractNorm, Linear, compute_dtype, make_norm, normalize
from .local import BlockMasks, LayerMasks, make_local
from .masks import SegmentMask, register_ids, slot_tokens
from .pooling import AbstractPool, make_pool
from .posembed import PosEmbed, make_posembed
from .resize import pi_resize
from .rope import Rope, make_rope
from .rows import Row
from .text import embed_ids, token_embedding
from .tubelets import TimeEmbedding, make_time


class NaViT(eqx.Module):
    """The backbone: packed rows → one vector per image slot.

    Jitted, it compiles once per shape (rows, T, P, I), whatever the sizes of the images.
    """

    patch_embedding: Linear
    posembed: PosEmbed | None
    time: TimeEmbedding | None
    levels: LevelEmbedding | None
    rope: Rope | None
    local: LayerMasks | None
    detail: Detail | None
    registers: Float[Array, "R D"] | None
    embedding_norm: AbstractNorm | None
    encoder: Encoder | Hierarchy
    pool: AbstractPool
    mean: tuple[float, ...] = eqx.field(static=True)
    std: tuple[float, ...] = eqx.field(static=True)
    areas: bool = eqx.field(static=True)
    config: ModelConfig = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        embedding, posembed, registers, encoder, pooling = jr.split(key, 5)
        self.patch_embedding = (
            token_embedding(config.channels, config.width, key=embedding)
            if config.reads_text
            else Linear(config.patch_dim, config.width, key=embedding)
        )
        self.posembed = make_posembed(config.posembed, config.width, key=posembed)
        self.time = make_time(config, key=jr.fold_in(posembed, 0))
        self.levels = make_levels(config)
        self.detail = make_detail(config, key=jr.fold_in(embedding, 0))
        self.rope = make_rope(config)
        self.local = make_local(config)
        self.registers = 0.02 * jr.normal(registers, (config.registers, config.width)) if config.registers else None
        norm = make_norm(config.norm, config.width, config.biases, config.eps)
        self.embedding_norm = norm if config.embedding_norm else None
        self.encoder = make_encoder(config, key=encoder)
        self.pool = make_pool(stage_configs(config)[-1] if config.stages else config, key=pooling)
        self.mean = config.mean
        self.std = config.std
        self.areas = config.areas is not None
        self.config = config

    def embed_patches(
        self,
        patches: Num[Array, "*B T P"],
        coords: Num[Array, "*B T A"],
        grids: Num[Array, "*B T A"],
    ) -> Float[Array, "*B T D"]:
        """Patches → tokens: linear embedding plus position embedding, where there is one.

        [ViT, eq. 1; NaViT, §2.1]
        """
        dtype = compute_dtype(self.config.dtype)
        if self.config.reads_text:
            x = embed_ids(self.patch_embedding, patches[..., 0]).astype(dtype)
        else:
            x = self.patch_embedding_at(patches.shape[-1])(normalize(patches, self.mean, self.std).astype(dtype))
        return x if self.posembed is None else x + self.posembed(coords, grids).astype(dtype)

    def with_parts(self, patches: Num[Array, "*B T W"]) -> tuple[Num[Array, "*B T P"], Num[Array, "*B parts P"] | None]:
        """Patches, and the parts of merged patches that rows hold beside them (`detail.py`), m places a token; None
        where they hold none.   Raises ValueError where a row has no whole number of places."""
        size, length = self.config.patch_dim, patches.shape[-1]
        if self.detail is None or length == size:
            return patches, None
        if length % size:
            raise ValueError(
                f"rows hold {length} numbers a token; this model reads multiples of {size}, with model.detail"
            )
        parts = patches[..., size:].reshape(*patches.shape[:-2], -1, size)
        return patches[..., :size], parts

    def embed_parts(self, parts: Num[Array, "*B U P"], dtype: jnp.dtype) -> Float[Array, "*B U D"]:
        """Parts of merged patches → vectors, by the embedding of patches without positions.   [APT, eq. 2]"""
        return self.patch_embedding(normalize(parts, self.mean, self.std).astype(dtype))

    def patch_embedding_at(self, patch_dim: int) -> Linear:
        """The embedding of patches of length P = `patch_dim`: the stored kernel, or its PI-resize.   [FlexiViT]

        The shape of a row identifies the patch size, so there is one compiled program per patch size. Patches mapped to
        the base size (`adjoint_patches`) have P of the stored kernel. Raises ValueError where no patch size of the
        model has this length.
        """
        config = self.config
        known = {config.channels * prod(patch): patch for patch in config.patches}
        if patch_dim not in known:
            raise ValueError(
                f"rows hold patches of {patch_dim} numbers; this model reads {config.channels} channels and patches of "
                f"{', '.join(map(str, config.patches))}: cut the images so, or add the size to model.flexi.sizes"
            )
        if known[patch_dim] == config.patch:
            return self.patch_embedding
        kernel = pi_resize(self.patch_embedding.w, config.patch, known[patch_dim], config.interpolation)
        return eqx.tree_at(lambda embedding: embedding.w, self.patch_embedding, kernel)

    def __call__(self, row: Row, gates: Float[Array, "L *B I"] | None = None) -> Float[Array, "*B I D"]:
        """One vector per image slot; zeros for an empty slot. `gates` are the factors of stochastic depth."""
        x, registers = self.encode(row, gates)
        ids = last_level(row, self.config).segment_ids
        slots = slot_tokens(ids, row.grids.shape[-2])
        return self.pool(x, weighted(slots, self.levels_that_count(row)), registers)

    def tokens(self, row: Row) -> Float[Array, "*B T D"]:
        """The encoded tokens of a row, without registers; of a hierarchy those of the last level (`last_level`)."""
        return self.encode(row)[0]

    def encode(
        self, row: Row, gates: Float[Array, "L *B I"] | None = None
    ) -> tuple[Float[Array, "*B T D"], Float[Array, "*B I R D"]]:
        """The encoded tokens of a row, and the encoded registers of each slot."""
        x, ids, angles = self.embed_row(row)
        slots, length = row.grids.shape[-2], row.coords.shape[-2]
        if isinstance(self.encoder, Hierarchy):
            x = self.encoder(x, row, self.context, gates)
            return x, jnp.zeros((*x.shape[:-2], slots, 0, x.shape[-1]), x.dtype)
        x = self.encoder(x, self.mask(row, ids), angles, None if gates is None else token_gates(gates, ids))
        registers = x[..., length:, :].reshape(*x.shape[:-2], slots, (x.shape[-2] - length) // slots, x.shape[-1])
        return x[..., :length, :], registers

    def hidden_states(self, row: Row) -> Float[Array, "states *B T D"]:
        """Tokens of a row before the first block and after each block, without registers.   [FlexiViT, fig. 6]"""
        check(
            not isinstance(self.encoder, Hierarchy),
            "model.stages: hidden states of a hierarchy have several lengths; read the encoded tokens instead",
        )
        assert isinstance(self.encoder, Encoder)
        x, ids, angles = self.embed_row(row)
        return self.encoder.hidden_states(x, self.mask(row, ids), angles)[..., : row.coords.shape[-2], :]

    def mask(self, row: Row, ids: Int[Array, "*B S"]) -> Bool[Array, "*B S S"] | SegmentMask | BlockMasks:
        """Which token attends to which, registers included: one mask for all blocks, or one for each kind of group."""
        mask: Any = attention_mask(self.config.attention, ids, row.grids.shape[-2])
        levels = self.levels_that_count(row)
        if self.local is not None:
            return self.local(row.coords, mask).weighted(levels)
        registers = ids.shape[-1] - row.segment_ids.shape[-1]
        return weighted(
            mask, levels if levels is None else jnp.pad(levels, [*[(0, 0)] * (ids.ndim - 1), (0, registers)])
        )

    def levels_that_count(self, row: Row) -> Num[Array, "*B T"] | None:
        """Levels of the tokens of a row with merged patches, where their areas count; None where each counts once."""
        if not self.areas or row.coords.shape[-1] == self.config.axes:
            return None
        return jnp.where(row.segment_ids > 0, row.coords[..., 0], 0)

    def context(self, row: Row) -> tuple[Any, Float[Array, "*B T half"] | None]:
        """The attention mask and the rotary angles of a row without registers, at any level of a hierarchy."""
        slot = jnp.maximum(row.segment_ids, 1) - 1
        coords = jnp.where(row.segment_ids[..., None] > 0, row.coords, 0)
        grids = jnp.take_along_axis(row.grids, slot[..., None], axis=-2)
        return self.mask(row, row.segment_ids), None if self.rope is None else self.rope(coords, grids)

    def embed_row(
        self, row: Row
    ) -> tuple[Float[Array, "*B S D"], Int[Array, "*B S"], Float[Array, "*B S half"] | None]:
        """Encoder input: tokens, their segment ids, their rotary angles; the registers of all slots follow the row, in
        slot order.

        Padding is set to zero before and after the embedding: 0 · NaN = NaN, in the value and in the gradient.
        """
        real = (row.segment_ids > 0)[..., None]
        slot, slots = jnp.maximum(row.segment_ids, 1) - 1, row.grids.shape[-2]
        token_grids = jnp.take_along_axis(row.grids, slot[..., None], axis=-2)
        patches = jnp.where(real, row.patches, 0)
        coords = jnp.where(real, row.coords, 0)
        patches, parts = self.with_parts(patches)
        x = self.embed_patches(patches, *self.in_space(coords, token_grids))
        if self.detail is not None and parts is not None:
            x = x + self.detail(self.embed_parts(parts, x.dtype), coords[..., 0], row.segment_ids)
        x = x if self.time is None else x + self.time(coords, token_grids).astype(x.dtype)
        if self.levels is not None and coords.shape[-1] > self.config.axes:
            x = x + self.levels(coords).astype(x.dtype)
        x = jnp.where(real, x, 0)
        angles = None if self.rope is None else self.rope(*self.in_space(coords, token_grids))
        if self.registers is None:
            return self.embedded(x), row.segment_ids, angles
        count = len(self.registers)
        after = jnp.tile(self.registers.astype(x.dtype), (slots, 1))
        x = jnp.concatenate([x, jnp.broadcast_to(after, (*x.shape[:-2], *after.shape))], axis=-2)
        ids = jnp.concatenate([row.segment_ids, register_ids(row.segment_ids, slots, count)], axis=-1)
        # Registers have no position: their angle is 0.
        angles = None if angles is None else jnp.pad(angles, [*[(0, 0)] * (x.ndim - 2), (0, slots * count), (0, 0)])
        return self.embedded(x), ids, angles

    def in_space(
        self, coords: Num[Array, "*B T A"], grids: Num[Array, "*B T A"]
    ) -> tuple[Num[Array, "*B T _"], Num[Array, "*B T _"]]:
        """Places and grids in the plane of an image: without shape and time of clips, and without levels."""
        axes = self.config.axes
        return coords[..., -axes:], grids[..., -axes:]

    def embedded(self, x: Float[Array, "*B S D"]) -> Float[Array, "*B S D"]:
        """Tokens and registers, normalized where the model has a norm before its first block (CLIP's)."""
        return x if self.embedding_norm is None else self.embedding_norm(x)

    def gates(self, key: PRNGKeyArray, image_ids: Int[Array, "*B I"]) -> Float[Array, "L *B I"] | None:
        """The gates of stochastic depth for one training step; None without stochastic depth."""
        if not self.config.stochastic_depth:
            return None
        return sample_gates(key, skip_rates(self.config.stochastic_depth, self.config.depth), image_ids)
