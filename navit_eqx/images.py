"""Images of any size → packed rows; values of rows → values per image."""

import os
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Num, Shaped

from .pixels import Header, ImageError, Source, patchify, read_header, read_image, resize
from .preprocessing import CenterCrop, Preprocessing, Size
from .rows import Row

TOKEN_STEP = 32  # rows grow in these steps, so that calls share compiled programs
MOST_TOKENS = 1 << 14  # of an image, unless `row_tokens` is larger
WINDOW = 16  # queued images that are candidates for one row


def pack(
    images: Sequence[Source],
    *,
    preprocessing: Preprocessing,
    patch: Size,
    row_tokens: int | None = None,
    row_images: int | None = None,
    rows: int | None = None,
    longest_side: int | None = None,
    report: Callable[[int, str], None] | None = None,
) -> Row:
    """Pack every image, with all its tokens, into a batch of B rows.

    images      paths, PIL images or arrays h w C, in any mixture; the index in the list is the image id
    row_tokens  T; by default that of `preprocessing`, or the next multiple of 32 that holds the longest image
    row_images  I; by default that of `preprocessing`
    rows        B; by default the next power of two
    longest_side  the largest grid side with a position, in patches
    report      called with (index, reason) for an image that cannot be decoded, instead of raising ImageError. Its
                slot keeps its image id and has no tokens, and `unpack` gives NaN for it.

    The defaults give few shapes, hence few compiled programs. Raises ImageError, naming the image, where one cannot be
    read, has more tokens than an explicit `row_tokens` or a side beyond `longest_side`, or where uint8 and float images
    are mixed; ValueError where `rows` are too few. No pixel is decoded before all images fit.

    >>> from navit_eqx.preprocessing import Area
    >>> photos = [np.zeros((48, 32, 3), np.uint8), np.zeros((20, 90, 3), np.uint8)]
    >>> batch = pack(photos, preprocessing=Preprocessing(Area(32), row_tokens=32), patch=(8, 8))
    >>> batch.patches.shape, batch.grids[0, :2].tolist()
    ((1, 32, 192), [[4, 3], [1, 8]])
    """
    if isinstance(images, Source):
        raise ValueError("pack takes a list of images, got a single one: write pack([image], ...)")
    planned = [_plan(i, image, preprocessing, patch) for i, image in enumerate(images)]
    for image in planned:
        _check_fits(image, row_tokens, longest_side)
    lengths = [prod(image.grid) for image in planned]
    row_tokens = row_tokens or _row_tokens(max(lengths, default=0), preprocessing.row_tokens)
    row_images = row_images or preprocessing.row_images
    packed = pack_lengths(lengths, row_tokens, row_images)
    count = rows or 1 << max(0, len(packed) - 1).bit_length()
    if len(packed) > count:
        raise ValueError(f"{len(images)} images fill {len(packed)} rows, not {count}: raise rows or pack fewer at once")
    empty: Any = dict(
        patches=np.zeros((count, row_tokens, prod(patch) * preprocessing.channels), _common_dtype(planned)),
        coords=np.zeros((count, row_tokens, 2), np.int32),
        segment_ids=np.zeros((count, row_tokens), np.int32),
        grids=np.zeros((count, row_images, 2), np.int32),
        image_ids=np.full((count, row_images), -1, np.int32),
    )
    batch = Row(**empty)
    for r, members in enumerate(packed):
        _fill(Row(*(leaf[r] for leaf in batch)), [planned[i] for i in members], preprocessing, patch, report)
    return batch


def refusal(source: Source, *, preprocessing: Preprocessing, patch: Size, longest_side: int | None = None) -> str:
    """The reason why `pack` refuses an image, from its header alone; empty where it accepts the image.

    >>> from navit_eqx.preprocessing import Area
    >>> refusal(np.zeros((4, 6), bool), preprocessing=Preprocessing(Area(32)), patch=(8, 8))[:21]
    'image 0 holds bool, w'
    """
    try:
        _check_fits(_plan(0, source, preprocessing, patch), None, longest_side)
    except (ImageError, OSError) as error:
        return str(error)
    return ""


def unpack(batch: Row, values: Shaped[np.ndarray | Array, "B I *n"]) -> Shaped[np.ndarray, "N *n"]:
    """Values per image slot → one value per image, in the order of the list passed to `pack`; NaN for an image that
    could not be decoded.

    >>> from navit_eqx.preprocessing import Area
    >>> batch = pack([np.zeros((48, 32, 3), np.uint8)], preprocessing=Preprocessing(Area(32)), patch=(8, 8))
    >>> unpack(batch, batch.grids)
    array([[4, 3]], dtype=int32)
    """
    ids, found = np.asarray(batch.image_ids), np.asarray(values)
    empty = (ids >= 0) & (np.asarray(batch.grids)[..., 0] == 0)
    if empty.any():
        found = found.astype(np.result_type(found, np.float32))
        found[empty] = np.nan
    return found[ids >= 0][np.argsort(ids[ids >= 0])]


def unpack_tokens(batch: Row, values: Shaped[np.ndarray | Array, "B T *n"]) -> list[np.ndarray]:
    """Values per token → one array "T_i *n" per image, tokens in raster order, images in the order passed to `pack`.

    >>> from navit_eqx.preprocessing import Area
    >>> batch = pack([np.zeros((48, 32, 3), np.uint8)], preprocessing=Preprocessing(Area(32)), patch=(8, 8))
    >>> [tokens.shape for tokens in unpack_tokens(batch, batch.coords)]
    [(12, 2)]
    """
    values, coords, segment_ids, image_ids = map(np.asarray, (values, batch.coords, batch.segment_ids, batch.image_ids))
    found = {}
    for r, slot in np.argwhere(image_ids >= 0):
        places = np.flatnonzero(segment_ids[r] == slot + 1)
        raster = np.lexsort(coords[r, places].T[::-1])  # by row, then by column
        found[int(image_ids[r, slot])] = values[r, places[raster]]
    return [found[i] for i in sorted(found)]


def pack_lengths(lengths: Sequence[int], row_tokens: int, row_images: int) -> list[list[int]]:
    """Which images share a row: the oldest queued image, and the subset of the next 16 that fills its row best.

    >>> pack_lengths([6, 5, 3, 4], row_tokens=10, row_images=4)
    [[0, 3], [1, 2]]
    """
    queue, rows = list(range(len(lengths))), []
    while queue:
        chosen = _fullest([lengths[i] for i in queue[:WINDOW]], row_tokens, row_images)
        rows.append([queue[k] for k in chosen])
        for k in reversed(chosen):
            del queue[k]
    return rows


def _fullest(lengths: Sequence[int], row_tokens: int, row_images: int) -> tuple[int, ...]:
    """Indices of at most `row_images` lengths, always including the first, with the largest sum within `row_tokens`.

    Subset sum: `best` maps every sum that can be reached to the fewest indices that reach it.
    """
    best: dict[int, tuple[int, ...]] = {lengths[0]: (0,)}
    for k in range(1, len(lengths)):
        for total, places in list(best.items()):
            more = total + lengths[k]
            if more <= row_tokens and len(places) + 1 < len(best.get(more, range(row_images + 1))):
                best[more] = (*places, k)
        if row_tokens in best:
            break
    return best[max(best)]


class _Planned(NamedTuple):
    """An image and its grid in the batch."""

    index: int
    source: Source
    name: str
    header: Header
    grid: Size


def _plan(index: int, source: Source, preprocessing: Preprocessing, patch: Size) -> _Planned:
    is_path = isinstance(source, str | os.PathLike)
    name = f"image {index} ({os.fspath(source)})" if is_path else f"image {index}"
    header = read_header(source, preprocessing.channels, name)
    return _Planned(index, source, name, header, preprocessing.size.grid(header.size, patch))


def _fill(
    row: Any,
    images: Sequence[_Planned],
    preprocessing: Preprocessing,
    patch: Size,
    report: Callable[[int, str], None] | None,
) -> None:
    """Read, resize and patchify images, and write them to an empty row, one after the other."""
    end = 0
    for slot, image in enumerate(images):
        row.image_ids[slot] = image.index
        try:
            pixels = _resized(image, preprocessing, (image.grid[0] * patch[0], image.grid[1] * patch[1]))
        except (ImageError, OSError) as error:
            if report is None:
                raise
            report(image.index, str(error))
            continue
        start, end = end, end + prod(image.grid)
        row.patches[start:end] = patchify(pixels, patch)
        row.coords[start:end] = np.indices(image.grid).reshape(2, -1).T
        row.segment_ids[start:end] = slot + 1
        row.grids[slot] = image.grid


def _resized(image: _Planned, preprocessing: Preprocessing, size: Size) -> Num[np.ndarray, "h w C"]:
    """The pixels of an image, read and resized to `size` (height, width)."""
    height, width = image.header.size
    shrink = preprocessing.shrink((height, width), size)
    pixels = read_image(image.source, preprocessing.channels, image.name, shrink)
    box = None if pixels.shape[:2] == (height, width) else (0, 0, width / shrink, height / shrink)
    rule = preprocessing.size
    if not isinstance(rule, CenterCrop):
        return resize(pixels, size, preprocessing.filter, box)
    whole = resize(pixels, rule.resized((height, width)), preprocessing.filter, box)
    top, left = rule.corner((whole.shape[0], whole.shape[1]))
    return whole[top : top + size[0], left : left + size[1]]


def _row_tokens(longest: int, default: int) -> int:
    return default if longest <= default else -(-longest // TOKEN_STEP) * TOKEN_STEP


def _check_fits(image: _Planned, row_tokens: int | None, longest_side: int | None) -> None:
    shape = f"{image.name} has {image.grid[0]} x {image.grid[1]} patches"
    if longest_side is not None and max(image.grid) > longest_side:
        raise ImageError(f"{shape}, positions end at {longest_side} a side: choose a smaller size, or crop it")
    if row_tokens is not None and prod(image.grid) > row_tokens:
        raise ImageError(f"{shape}, a row holds {row_tokens}: choose a smaller size, raise or leave out row_tokens")
    if row_tokens is None and prod(image.grid) > MOST_TOKENS:
        raise ImageError(f"{shape}, more than {MOST_TOKENS} tokens take too much memory: choose a smaller size")


def _common_dtype(images: Sequence[_Planned]) -> np.dtype:
    names = {image.header.dtype: image.name for image in images}
    if len(names) > 1:
        found = " beside ".join(f"{name} of {dtype}" for dtype, name in names.items())
        raise ImageError(f"{found}: a batch holds pixels of one dtype, so convert one, or pack them separately")
    return next(iter(names), np.dtype(np.uint8))
