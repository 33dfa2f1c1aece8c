"""Pairs of images and captions as their files have them, and what is set aside before an image is read."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Int

from ..manifest import printable
from .decode import read_file

IMAGE_COLUMNS = "file_name filename file image filepath path image_path image_name img name".split()
CAPTION_COLUMNS = "caption captions text texts title sentence sentences comment description".split()


class Reader(Protocol):
    """Encoded images by number; travels to workers by pickle."""

    def read(self, index: int) -> bytes:
        """Raises BadImage."""
        ...


class Pairs(NamedTuple):
    """Images with all that was written as captions of each, in the order of the files."""

    names: list[str]
    captions: list[list[Any]]
    """Values found for each image: None, texts, or lists of texts."""
    reader: Reader
    key: Any
    """Files with sizes and times, for the cache of image sizes."""
    set_aside: list[tuple[str, str]]
    notes: list[str]


class Files(NamedTuple):
    """Images in files."""

    folder: Path
    paths: list[str]

    def read(self, index: int) -> bytes:
        """Raises BadImage."""
        return read_file(self.folder / self.paths[index])


def texts_of(values: Sequence[Any]) -> tuple[list[str], str, int]:
    """Captions of an image, each once and without outer spaces; why it has none; how many empty ones are left out."""
    given = [value for value in values if value is not None]
    if not given:
        return [], "has no caption", 0
    texts = [text for value in given for text in (value if isinstance(value, list) else [value])]
    if not texts:
        return [], "its list of captions is empty", 0
    for text in texts:
        if text is not None and not isinstance(text, str):
            return [], f"its caption is {text!r:.60}, not a text", 0
    found = [text.strip() for text in texts if text and says_something(text)]
    if not found:
        return [], "its caption is empty", 0
    return list(dict.fromkeys(found)), "", len(texts) - len(found)


def says_something(text: str) -> bool:
    """Whether a text has more than spaces, punctuation and control characters: a tokenizer keeps nothing of these."""
    return any(unicodedata.category(c)[0] not in "PZC" for c in text)


def without_bad(pairs: Pairs) -> tuple[np.ndarray, list[list[str]], list[tuple[str, str]], list[str]]:
    """Numbers of the images that have captions, their captions, names that are set aside with reasons, and notes."""
    kept, texts, aside, empty = [], [], list(pairs.set_aside), []
    for i, values in enumerate(pairs.captions):
        found, why, left_out = texts_of(values)
        if why:
            aside.append((printable(pairs.names[i]), why))
            continue
        kept.append(i)
        texts.append(found)
        empty += [printable(pairs.names[i])] if left_out else []
    notes = [f"empty captions of {len(empty)} images are left out, first of {empty[0]}"] if empty else []
    return np.array(kept, np.int64), texts, aside, notes


def numbered(texts: Sequence[Sequence[str]]) -> tuple[Int[np.ndarray, "N M"], tuple[str, ...]]:
    """Captions of each image by number, padded with −1, and the distinct captions as they occur."""
    number: dict[str, int] = {}
    sets = [[number.setdefault(text, len(number)) for text in captions] for captions in texts]
    table = np.full((len(sets), max(map(len, sets), default=1)), -1, np.int32)
    for row, captions in zip(table, sets):
        row[: len(captions)] = captions
    return table, tuple(number)


def unique_names(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """`names` where all are there and different, else `others`."""
    return list(names if all(names) and len({*names}) == len(names) else others)
