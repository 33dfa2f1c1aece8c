"""Pairs of images and captions as their files have them, and what is set aside before an image is read."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from ..errors import BadImage
from ..manifest import printable
from .decode import read_file

IMAGE_COLUMNS = "file_name filename file image filepath path image_path image_name img name".split()
CAPTION_COLUMNS = "caption captions text texts title sentence sentences comment description".split()


@runtime_checkable
class Reader(Protocol):
    """Encoded images by number; travels to workers by pickle."""

    def read(self, index: int) -> bytes:
        """Raises BadImage."""
        ...

    def length(self, index: int) -> int:
        """Bytes of an image, known without reading it; 0 where it cannot be read."""
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

    def length(self, index: int) -> int:
        """Bytes of a file; 0 where it cannot be read."""
        try:
            return (self.folder / self.paths[index]).stat().st_size
        except OSError:
            return 0

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


def same_images(reader: Reader, numbers: Sequence[int]) -> list[int]:
    """The place of the first image with the same bytes, for every place in `numbers`. Only images of equal length are
    read; those that cannot be read stand alone."""
    lengths = [reader.length(i) for i in numbers]
    several = {length for length, count in Counter(lengths).items() if count > 1 and length}
    first: dict[bytes, int] = {}
    return [first.setdefault(digest(reader, i), k) if lengths[k] in several else k for k, i in enumerate(numbers)]


def digest(reader: Reader, index: int) -> bytes:
    """Hash of an image; its number where it cannot be read."""
    try:
        return hashlib.blake2b(reader.read(index), digest_size=16).digest()
    except BadImage:
        return str(index).encode()


def united(reader: Reader, kept: np.ndarray, texts: list[list[str]]) -> tuple[np.ndarray, list[list[str]], list[str]]:
    """The images and captions without images that repeat another under its own name, whose captions the first takes,
    and a note: an image is no negative of its own captions, and not in training and validation at once."""
    first = same_images(reader, kept.tolist())
    captions: dict[int, list[str]] = {}
    for place, own in zip(first, texts):
        captions[place] = list(dict.fromkeys([*captions.get(place, []), *own]))
    places = [*captions]
    repeated = len(texts) - len(places)
    note = f"{repeated} files repeat an image under another name: their captions are united"
    return kept[places], [*captions.values()], [note] if repeated else []


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
