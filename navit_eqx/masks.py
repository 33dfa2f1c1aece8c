"""Who may look at whom.   segment_ids: 1…I = image slot, 0 = padding; True = may look."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def same_image(segment_ids: Int[Array, "*B T"]) -> Bool[Array, "*B T T"]:
    """Tokens of the same image. Padding sees nobody and is seen by nobody.   [NaViT, §2.1, fig. 2]"""
    real = segment_ids > 0
    same = segment_ids[..., :, None] == segment_ids[..., None, :]
    return same & real[..., :, None] & real[..., None, :]


def slot_tokens(segment_ids: Int[Array, "*B T"], slots: int) -> Bool[Array, "*B I T"]:
    """The tokens that image slot i pools.   [NaViT, §2.1, "masked pooling"]"""
    slot = jnp.arange(1, slots + 1, dtype=segment_ids.dtype)
    return slot[:, None] == segment_ids[..., None, :]


def register_ids(segment_ids: Int[Array, "*B T"], slots: int, registers: int) -> Int[Array, "*B registers_of_all"]:
    """Segment ids of the registers of all slots, slot by slot; those of an empty slot are padding."""
    used = slot_tokens(segment_ids, slots).any(-1)
    ids = jnp.where(used, jnp.arange(1, slots + 1, dtype=segment_ids.dtype), 0)
    return jnp.repeat(ids, registers, axis=-1)
