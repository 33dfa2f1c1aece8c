"""Which token attends to which.   segment_ids: 1…I = image slot, 0 = padding; True = may attend."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .layers import expand


class SegmentMask(eqx.Module):
    """The mask `same_image` in the form that an attention kernel reads; see `kernels/`."""

    @abc.abstractmethod
    def dot_product_attention(
        self, q: Float[Array, "*B H T K"], k: Float[Array, "*B H S K"], v: Float[Array, "*B H S K"], scale: float
    ) -> Float[Array, "*B H T K"]:
        """softmax(q kᵀ · scale) v, where each token attends to the tokens of its image; 0 for padding."""


def same_image(segment_ids: Int[Array, "*B T"]) -> Bool[Array, "*B T T"]:
    """Self-attention mask: pairs of tokens of the same image.   [NaViT, §2.1, fig. 2]

    Padding neither attends nor is attended to.
    """
    real = segment_ids > 0
    same = segment_ids[..., :, None] == segment_ids[..., None, :]
    return same & real[..., :, None] & real[..., None, :]


def slot_tokens(segment_ids: Int[Array, "*B T"], slots: int) -> Bool[Array, "*B I T"]:
    """Pooling mask: the tokens of each image slot.   [NaViT, §2.1, "masked pooling"]"""
    ids = segment_ids[..., None, :]
    return expand(jnp.arange(1, slots + 1)[:, None], ids) == ids


def used_slots(segment_ids: Int[Array, "*B T"], slots: int) -> Bool[Array, "*B I"]:
    """Which slots hold an image, i.e. at least one token."""
    return slot_tokens(segment_ids, slots).any(-1)


def spans(segment_ids: Int[Array, "*B T"], slots: int) -> tuple[Int[Array, "*B I"], Int[Array, "*B I"]]:
    """Index of the first token of each slot, and one past the index of its last token; T, 0 for an empty slot."""
    tokens, length = slot_tokens(segment_ids, slots), segment_ids.shape[-1]
    place = jnp.arange(length, dtype=jnp.int32)
    return jnp.where(tokens, place, length).min(-1), jnp.where(tokens, place + 1, 0).max(-1)


def register_ids(segment_ids: Int[Array, "*B T"], slots: int, registers: int) -> Int[Array, "*B registers_of_all"]:
    """Segment ids of the registers of all slots, in slot order; registers of an empty slot are padding."""
    used = used_slots(segment_ids, slots)
    ids = jnp.where(used, jnp.arange(1, slots + 1, dtype=segment_ids.dtype), 0)
    return jnp.repeat(ids, registers, axis=-1)
