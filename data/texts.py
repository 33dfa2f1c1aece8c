"""The captions of a source as token ids."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from reference.rows import Tokens
from reference.text import tokens_of


@runtime_checkable
class Tokenizer(Protocol):
    """Texts → token ids."""

    @property
    def max_length(self) -> int:
        """Largest number of ids of a text."""
        ...

    def encode(self, text: str) -> list[int]:
        """At most `max_length` ids, the last of which ends the text."""
        ...


@lru_cache(maxsize=4)
def texts_of(captions: tuple[str, ...], tokenizer: Tokenizer) -> "Texts":
    """The captions as token ids, made once: every resolution of an evaluation asks for the same."""
    return Texts(captions, tokenizer)


class Texts:
    """Captions as token ids, one after the other, with the key of each.

    Captions with the same ids have the same key: they cannot be told apart, so both are positives of an image of one.
    """

    def __init__(self, captions: Sequence[str], tokenizer: Tokenizer):
        encoded = [tokenizer.encode(caption) for caption in captions]
        self.lengths: Int[np.ndarray, " N"] = np.array([len(ids) for ids in encoded], np.int32)
        self.ends = np.cumsum(self.lengths)
        self.ids = np.concatenate([np.asarray(ids, np.int32) for ids in encoded] or [np.zeros(0, np.int32)])
        first: dict[tuple[int, ...], int] = {}
        self.keys = np.array([first.setdefault(tuple(ids), i) for i, ids in enumerate(encoded)], np.int32)

    def tokens(self, caption: int) -> Tokens:
        """One caption as the tokens of a row."""
        end = self.ends[caption]
        return tokens_of(self.ids[end - self.lengths[caption] : end])
