"""Tar files in the WebDataset layout: members with the same name up to the first dot are one sample.

    00017.jpg  00017.txt  00017.json    an image, its captions one a line, or in fields of the JSON
             00017.cls                an attribute, where one is named; or in fields of the JSON

Shards are not unpacked, nor fetched as a whole: an index holds the place of every image, and images are read at random.
The index of a shard is made once, from headers and texts, and cached with a checksum under its path, size and time.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from ..checksums import checked_line, read_lines
from ..errors import BadImage, DataError
from ..manifest import printable
from .caption_tables import MAX_TEXT, lines_of
from .decode import MAX_BYTES
from .layout import is_image_name
from .measured import cache_folder, stamp
from .pairs import CAPTION_COLUMNS, Pairs, unique_names
from .remote import Location, read_range

BLOCK = 512
TEXTS = (".txt", ".text", ".caption")


class Sample(NamedTuple):
    """An image of a shard, with what was written as its captions, or why it cannot be used."""

    name: str
    offset: int
    size: int
    captions: list[Any]
    problem: str
    values: dict[str, Any]
    """Attributes by name: those that were asked for."""


class Members(NamedTuple):
    """Images in tar files."""

    shards: Sequence[Location]
    shard: Int[np.ndarray, " N"]
    offsets: Int[np.ndarray, " N"]
    sizes: Int[np.ndarray, " N"]

    def read(self, index: int) -> bytes:
        """Raises BadImage."""
        shard, size = self.shards[self.shard[index]], int(self.sizes[index])
        if size > MAX_BYTES:
            raise BadImage(f"{size} bytes exceed the limit of {MAX_BYTES}: scale it down")
        try:
            data = read_range(shard, int(self.offsets[index]), size)
        except OSError as error:
            raise BadImage(f"{shard} cannot be read: {error.strerror}") from error
        if len(data) < size:
            raise BadImage(f"{shard} was changed after it was indexed: start again")
        return data

    def length(self, index: int) -> int:
        """Bytes of an image."""
        return int(self.sizes[index])


def tar_pairs(
    shards: Sequence[Location], suffixes: set[str], caption: str, columns: tuple[str, ...] = ()
) -> tuple[Pairs, list[dict[str, Any]]]:
    """Images of tar files with their captions; the attributes of each.   Raises DataError where a file is damaged."""
    samples = [(n, sample) for n, shard in enumerate(shards) for sample in index(shard, suffixes, caption, columns)]
    good = [(number, sample) for number, sample in samples if not sample.problem]
    fields = [[number for number, _ in good], [s.offset for _, s in good], [s.size for _, s in good]]
    pairs = Pairs(
        unique_names([s.name for _, s in good], [f"{shards[number].name}:{s.name}" for number, s in good]),
        [s.captions for _, s in good],
        Members(shards, *(np.array(field, np.int64) for field in fields)),
        [[str(shard.resolve()), stamp(shard)] for shard in shards],
        [(printable(f"{shards[number].name}:{s.name}"), s.problem) for number, s in samples if s.problem],
        [f"captions: {len(shards)} tar shards"],
    )
    return pairs, [s.values for _, s in good]


def index(shard: Location, suffixes: set[str], caption: str, columns: tuple[str, ...] = ()) -> list[Sample]:
    """The samples of a shard, from the cache if the same file was indexed before.   Raises DataError."""
    key = [str(shard.resolve()), stamp(shard), sorted(suffixes), caption, columns, TEXTS, CAPTION_COLUMNS]
    file = cache_folder() / f"tar-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]}.json"
    try:
        lines, damaged = read_lines(file)
    except OSError:
        lines, damaged = [], 0
    if len(lines) == 1 and not damaged:
        return [Sample(*fields) for fields in lines[0]]
    samples = scan(shard, suffixes, caption, columns)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(f".{os.getpid()}")
        beside.write_text(checked_line(samples))
        beside.rename(file)
    except OSError:
        pass  # indexed again next time
    return samples


def scan(shard: Location, suffixes: set[str], caption: str, columns: tuple[str, ...] = ()) -> list[Sample]:
    """The samples of a shard in its order.   Raises DataError where the shard is damaged, cut short or compressed."""
    groups: dict[str, list[tarfile.TarInfo]] = {}
    place = 0
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as tar:
            for member in tar:
                place = member.offset
                if member.isreg() and not member.name.rpartition("/")[2].startswith("."):
                    groups.setdefault(key_of(member.name), []).append(member)
            place = tar.offset
            check_end(file, tar.offset)
            return [
                s for key, members in groups.items() for s in samples_of(file, key, members, suffixes, caption, columns)
            ]
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(
            f"{shard} is no complete tar file: {error} near byte {place}; write or download it again, uncompressed"
        ) from error


def check_end(file: Any, offset: int) -> None:
    """Raises ValueError where an archive has no end, or something behind it: headers are damaged, or files joined."""
    file.seek(offset)
    first = file.read(BLOCK)
    if len(first) < BLOCK:
        raise ValueError("it ends without the mark of an end")
    while block := first or file.read(1 << 20):
        if block.strip(b"\0"):
            raise ValueError("a header is damaged, or another archive follows")
        first = b""


def key_of(name: str) -> str:
    """Name of a sample: the name of a member up to the first dot of its last part."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def samples_of(
    file: Any, key: str, members: list[tarfile.TarInfo], suffixes: set[str], caption: str, columns: tuple[str, ...]
) -> list[Sample]:
    """The sample of the members with the same key; nothing where no member is an image or a text."""
    images = [m for m in members if is_image_name(m.name, suffixes)]
    texts = [m for m in members if m.name.lower().endswith(TEXTS)]
    tables = [m for m in members if m.name.lower().endswith(".json")]
    if not images:
        return [Sample(texts[0].name, 0, 0, [], "is the caption of a missing image", {})] if texts else []
    image = images[0]
    if len(images) > 1:
        why = f"has {len(images)} images, {', '.join(m.name for m in images[:3])}: keep one"
        return [Sample(key, 0, 0, [], why, {})]
    found = [captions_in(content(file, m), m.name, caption) for m in (texts or tables)]
    problem = next((why for _, why in found if why), "")
    captions = [value for values, _ in found for value in values]
    values = values_of(file, key, members, columns) if columns else {}
    return [Sample(image.name, image.offset_data, image.size, captions, problem, values)]


def values_of(file: Any, key: str, members: list[tarfile.TarInfo], columns: tuple[str, ...]) -> dict[str, Any]:
    """Attributes of a sample: a field of its JSON, or the text of a member, such as KEY.cls."""
    fields: dict[str, Any] = {}
    for member in members:
        suffix = member.name[len(key) + 1 :]
        if suffix.lower() == "json":
            fields |= fields_of(content(file, member))[0]
        elif suffix in columns:
            fields[suffix] = "\n".join(lines_of(content(file, member))[0]).strip()
    return {name: fields[name] for name in columns if name in fields}


def content(file: Any, member: tarfile.TarInfo) -> bytes:
    """The first bytes of a member, one more than a text may have."""
    file.seek(member.offset_data)
    return file.read(min(member.size, MAX_TEXT + 1))


def captions_in(data: bytes, name: str, caption: str) -> tuple[list[Any], str]:
    """Captions in a text or JSON member, and why there are none."""
    if not name.lower().endswith(".json"):
        return lines_of(data)
    fields, why = fields_of(data)
    known = [caption] if caption else CAPTION_COLUMNS
    return [fields[column] for column in known if column in fields][:1], why


def fields_of(data: bytes) -> tuple[dict[str, Any], str]:
    """The fields of a JSON member, and why there are none."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        return {}, f"its JSON is damaged, {error}"
    return (fields, "") if isinstance(fields, dict) else ({}, "its JSON is no object")
