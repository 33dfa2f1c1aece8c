"""Sizes of encoded images, read from headers and cached between runs."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import PIL
from jaxtyping import Num

from ..errors import BadImage
from ..manifest import Manifest, as_names, printable
from .decode import FORMATS, MAX_BYTES, MAX_PIXELS, MAX_SCANS, MAX_SIDE, decode, read_size, read_type
from .remote import Location

LIMITS = [PIL.__version__, FORMATS, MAX_BYTES, MAX_PIXELS, MAX_SIDE, MAX_SCANS]  # a measured size depends on these


def stamp(path: Location) -> tuple[int, int] | None:
    """Size and modification time; None where there is no file, as for a broken link."""
    try:
        return (stat := path.stat()).st_size, stat.st_mtime_ns
    except OSError:
        return None


def cached_manifest(
    key: object,
    names: list[str],
    labels: list[int] | list[list[int]],
    classes: tuple[str, ...],
    where: str,
    contents: Callable[[], Iterable[bytes]],
    *,
    channels: int = 3,
    notes: tuple[str, ...] = (),
    set_aside: tuple[tuple[str, str], ...] = (),
) -> Manifest:
    """The manifest of encoded images, from the cache if the same files were measured before.

    Only headers are read. Unreadable images are set aside by name, after those of `set_aside`.
    """
    sizes, reasons = cached_sizes(
        [repr(key), classes, labels, channels], len(names), 2, lambda: measure(names, contents, channels)
    )
    good = sizes.min(-1) > 0
    dtype = pixel_type(contents, good, channels)
    return Manifest(
        names=as_names(names)[good],
        sizes=sizes[good],
        labels=np.array(labels, np.int32)[good],
        classes=classes,
        where=where,
        set_aside=set_aside + tuple((printable(names[i]), why) for i, why in zip(np.flatnonzero(~good), reasons)),
        channels=channels,
        dtype=dtype,
        notes=notes,
        stamp=hashlib.sha256(repr(key).encode(errors="surrogateescape")).hexdigest()[:24],
    )


def cached_sizes(
    key: object, count: int, axes: int, measured: Callable[[], tuple[np.ndarray, list[str]]]
) -> tuple[np.ndarray, list[str]]:
    """Sizes "N A" of images or clips, 0 for those that cannot be used, with the reasons for these in order; from the
    cache if there were measured for the same key before."""
    file = cache_folder() / f"sizes-{hashlib.sha256(json.dumps([LIMITS, key]).encode()).hexdigest()[:24]}.npz"
    found = _stored(file, count, axes)
    if found is None:
        found = measured()
        sizes, reasons = found
        store_arrays(file, sizes=sizes, reasons=np.array(reasons, dtype=str))
    return found


def pixel_type(contents: Callable[[], Iterable[bytes]], good: np.ndarray, channels: int) -> str:
    """Type of the pixels: uint8, or float32 where the first usable image has more bits; all images must agree."""
    if not good.any():
        return "uint8"
    return read_type(next(islice(contents(), int(good.argmax()), None)), channels)


def measure(
    names: list[str], contents: Callable[[], Iterable[bytes]], channels: int = 3
) -> tuple[np.ndarray, list[str]]:
    """Upright sizes from headers, 0 x 0 for images that cannot be used, and the reasons for these in order."""
    sizes, reasons = np.zeros((len(names), 2), np.int32), []
    readers = iter(contents())
    for i in range(len(names)):
        try:
            sizes[i] = read_size(next(readers), channels)
        except BadImage as error:
            reasons.append(str(error))
    return sizes, reasons


def decoded_as(manifest: Manifest, index: int, data: bytes, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
    """Decode an image and check its size and type against the manifest.   Raises BadImage."""
    size = manifest.sizes[index]
    image = decode(data, shrink, manifest.channels)
    if image.shape[:2] not in (tuple(size), tuple(-(-size // shrink))):
        raise BadImage(
            f"{image.shape[0]} x {image.shape[1]} pixels, but {size[0]} x {size[1]} when it was measured: start again"
        )
    if image.dtype != manifest.dtype:
        raise BadImage(f"holds {image.dtype}, the first image of the set {manifest.dtype}: convert one of them")
    return image


def cache_folder() -> Path:
    """Folder of caches that runs share, in that of temporary files where the user has no home."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    except RuntimeError:  # a user without an entry in the table of users, as in some containers
        home = Path(tempfile.gettempdir())
    return home / "navit"


def _stored(file: Path, count: int, axes: int = 2) -> tuple[np.ndarray, list[str]] | None:
    """The cached measurement; None where it is missing or damaged."""
    found = load_arrays(file, ("sizes", "reasons"))
    if found is None:
        return None
    sizes, reasons = found
    sound = sizes.dtype == np.int32 and sizes.shape == (count, axes) and sizes.min(initial=0) >= 0
    if not sound or reasons.dtype.kind != "U" or reasons.shape != ((sizes.min(-1) == 0).sum(),):
        return None
    return sizes, reasons.tolist()


def cache_file(manifest: Manifest, kind: str, *key: object) -> Path | None:
    """The place of what was measured of these images; None where a change of the images would not be noticed."""
    if not manifest.stamp:
        return None
    whole = repr([LIMITS, manifest.stamp, manifest.digest, manifest.channels, *key]).encode()
    return cache_folder() / f"{kind}-{hashlib.sha256(whole).hexdigest()[:24]}.npz"


def load_arrays(file: Path, names: tuple[str, ...]) -> tuple[np.ndarray, ...] | None:
    """Arrays of a cache; None where it is missing or damaged: the file has checksums."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            return tuple(stored[name] for name in names)
    except Exception:  # a damaged file raises exceptions of any kind
        return None


def store_arrays(file: Path, **arrays: np.ndarray) -> None:
    """Write a temporary file and rename it, so that no partial file is read; failure to write is ignored."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f"{file.stem}-{os.getpid()}.npz")
        np.savez(beside, **arrays)  # pyright: ignore[reportArgumentType]
        beside.rename(file)
    except OSError:
        pass
