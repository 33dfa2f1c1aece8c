"""Text for the tower that reads images: token ids in packed rows with one axis."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .errors import check_in
from .layers import Linear, expand, normal

EOS = 1  # end of text: the last token of every text; 0 is never used
FIRST_BYTE = 2


def canonicalize(text: str) -> str:
    """NFKC form in lower case, `_` as a space, without punctuation, single spaces.

    Training captions, prompts and queries pass through this one function.
    """
    lower = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    kept = [" " if c == "_" else c for c in lower if c == "_" or not unicodedata.category(c).startswith("P")]
    return " ".join("".join(kept).split())


@dataclass(frozen=True)
class Bytes:
    """UTF-8 bytes of the canonical text, then EOS; nothing to train or to download."""

    max_length: int = 72
    """Largest number of tokens of a text, EOS included; longer texts are cut."""

    def __post_init__(self):
        check_in("tokenizer", "[1, 65536]", max_length=self.max_length)

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return FIRST_BYTE + 256

    def encode(self, text: str) -> list[int]:
        """Text → ids, of which the last is EOS; the empty text is EOS alone."""
        data = canonicalize(text).encode("utf-8", "surrogatepass")[: self.max_length - 1]
        return [*(FIRST_BYTE + byte for byte in data), EOS]

    def resolved(self, captions: Iterable[str]) -> "Bytes":
        """Itself: nothing is trained on the captions."""
        return self

    def stored(self, folder: Path | str) -> "Bytes":
        """Itself: no file belongs to it."""
        return self

    def located(self, folder: Path | str) -> "Bytes":
        """Itself: no file belongs to it."""
        return self


def token_embedding(vocabulary: int, width: int, *, key: PRNGKeyArray) -> Linear:
    """The table of token embeddings as a linear layer on one-hot vectors: N(0, 1/D).   Choice."""
    layer = Linear(vocabulary, width, key=key)
    return eqx.tree_at(lambda layer: layer.w, layer, normal(key, (vocabulary, width), width))


def embed_ids(table: Linear, ids: Int[Array, "*B T"]) -> Float[Array, "*B T D"]:
    """linear(one_hot(ids)), as a look-up."""
    x = table.w[ids]
    return x + expand(table.b, x)
