"""Text as an image with one axis: token ids in place of patches, so that one tower reads both.

A text is a sequence of T tokens with coords 0 … T − 1 and the grid (T,). Packed rows, masks, positions and pooling are
those of images (`rows.pack`, `model.forward`): an embedding of token ids is the linear embedding of one-hot vectors.

    row = pack([tokens_of(encode("A small dog.", 72))], [0], row_tokens=96, row_images=4)
    vectors = model.forward(params, with_one_hot(row, VOCABULARY))
"""

import unicodedata
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from .rows import Row, Tokens

EOS = 1  # end of text: the last token of every text; 0 is never used
FIRST_BYTE = 2
VOCABULARY = FIRST_BYTE + 256


def canonicalize(text: str) -> str:
    """NFKC form in lower case, `_` as a space, without punctuation, single spaces.

    Training captions, prompts and queries pass through this one function.
    """
    lower = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    kept = (" " if c == "_" else c for c in lower if c == "_" or not unicodedata.category(c).startswith("P"))
    return " ".join("".join(kept).split())


def encode(text: str, max_length: int) -> list[int]:
    """Canonical text → the ids of its UTF-8 bytes, then EOS; at most `max_length` ids, of which the last is EOS.

    The empty text is EOS alone.
    """
    data = canonicalize(text).encode("utf-8", "surrogatepass")
    return [FIRST_BYTE + byte for byte in data[: max_length - 1]] + [EOS]


def decode(ids: Sequence[int] | Int[np.ndarray, " T"]) -> str:
    """The canonical text of ids: the inverse of `encode`; a character that was cut in two is shown as �."""
    data = bytes(int(i) - FIRST_BYTE for i in ids if i >= FIRST_BYTE)
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def tokens_of(ids: Sequence[int] | Int[np.ndarray, " T"]) -> Tokens:
    """One text as tokens: its ids in place of patches, one coordinate each.

    Choice: positions restart at 0 in every text, and no padding stands inside a text.
    """
    column = np.asarray(ids, np.int32)[:, None]
    return Tokens(column, np.arange(len(column), dtype=np.int32)[:, None], np.array([len(column)], np.int32))


def one_hot(ids: Int[np.ndarray, "T 1"], vocabulary: int) -> Float[np.ndarray, "T V"]:
    """Token ids as one-hot patches: `linear(w, one_hot(ids))` is row `id` of w, the token embedding."""
    return np.equal(ids, np.arange(vocabulary)).astype(float)


def with_one_hot(row: Row, vocabulary: int) -> Row:
    """A row of texts in the form that `model.forward` reads."""
    return row._replace(patches=one_hot(row.patches, vocabulary))
