"""Images of any size → packed rows; values of rows → values per image."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from math import prod
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Num, Shaped

from .adaptive import cut, levels_by_threshold, quads_in, room_of
from .complexity import complexity, complexity_size
from .hierarchy import block_order
from .pixels import Header, ImageError, Source, patchify, read_header, read_image, reason, resize
from .preprocessing import CenterCrop, Merge, MergeByContent, MergeByThreshold, Native, Preprocessing, Size, WholeBlocks
from .rows import Row

TOKEN_STEP = 32  # row lengths that are chosen here are multiples of this
LONG = 4096  # tokens of a long row, or 4 ordinary rows where that is more
LONGEST = 1 << 14  # tokens of a long row, even of a model that was trained in longer ones
GROUP = 1024  # tokens that a CPU computes at once: `inference.TOKENS_AT_ONCE`
IMAGES = 64  # of a stream, planned and packed together
WINDOW = 16  # queued images that are candidates for one row


class Lengths(NamedTuple):
    """The two lengths of rows, hence the two compiled programs, for all images of a model."""

    ordinary: int
    """Holds every image that is not thinner than a patch, where the size rule has a budget."""
    long: int
    """For other images; an image that is longer still is refused."""

    def of(self, tokens: int) -> int:
        """The length of the row of an image."""
        return self.ordinary if tokens <= self.ordinary else self.long


def row_lengths(preprocessing: Preprocessing, patch: Size, longest_side: int | None = None) -> Lengths:
    """Row lengths by preprocessing, patch and positions alone, never by the images of a request.

    >>> from navit_eqx.preprocessing import Area, Native
    >>> row_lengths(Preprocessing(Area(224), row_tokens=96), (16, 16), longest_side=64)
    Lengths(ordinary=224, long=224)
    >>> row_lengths(Preprocessing(Native(), row_tokens=96), (16, 16))
    Lengths(ordinary=96, long=4096)
    """
    trained, budget = min(preprocessing.row_tokens, LONG), preprocessing.size.budget(patch)
    ordinary = trained if (budget or 0) <= trained else _round_up(min(budget or 0, max(4 * trained, LONG)))
    most = max(4 * ordinary, LONG, min(preprocessing.row_tokens, LONGEST))
    if budget is not None and longest_side is not None:  # a thin image is one patch high or wide
        most = min(most, max(ordinary, _round_up(longest_side)))
    return Lengths(ordinary, most)


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
    row_tokens  T; by default one of the two `row_lengths`, the longer one where an image needs it
    row_images  I; by default that of `preprocessing`
    rows        B; by default a multiple of the rows with about 1,024 tokens
    longest_side  the largest grid side with a position, in patches
    report      called with (index, reason) for an image that cannot be used, instead of raising ImageError. Its slot
                keeps its image id and has no tokens, and `unpack` gives NaN for it.

    Raises ImageError, naming the image, where one cannot be read, has more tokens than a row or a side beyond
    `longest_side`, or where uint8 and float images are mixed; ValueError where `rows` are too few. No pixel is decoded
    before all images fit, but for merging that follows their content.

    >>> from navit_eqx.preprocessing import Area
    >>> photos = [np.zeros((48, 32, 3), np.uint8), np.zeros((20, 90, 3), np.uint8)]
    >>> batch = pack(photos, preprocessing=Preprocessing(Area(32), row_tokens=512), patch=(8, 8))
    >>> batch.patches.shape, batch.grids[0, :2].tolist()
    ((2, 512, 192), [[4, 3], [1, 8]])
    """
    if isinstance(images, Source):
        raise ValueError("pack takes a list of images, got a single one: write pack([image], ...)")
    lengths = Lengths(row_tokens, row_tokens) if row_tokens else row_lengths(preprocessing, patch, longest_side)
    planned = [plan(i, image, preprocessing, patch, lengths, longest_side, report) for i, image in enumerate(images)]
    _check_dtypes(planned)
    longest = max((image.tokens for image in planned), default=0)
    length = lengths.of(longest)
    options = {"row_tokens": length, "row_images": row_images or min(preprocessing.row_images, length)}
    return filled(planned, preprocessing, patch, **options, rows=rows, report=report)


def filled(
    planned: Sequence["Planned"],
    preprocessing: Preprocessing,
    patch: Size,
    *,
    row_tokens: int,
    row_images: int,
    rows: int | None = None,
    report: Callable[[int, str], None] | None = None,
) -> Row:
    """Rows with the pixels of planned images of one dtype, one image after the other; options as in `pack`."""
    packed = pack_lengths([image.tokens for image in planned], row_tokens, row_images)
    step = max(1, GROUP // row_tokens)
    count = rows or -(-max(1, len(packed)) // step) * step
    if len(packed) > count:
        raise ValueError(
            f"{len(planned)} images fill {len(packed)} rows, not {count}: raise rows or pack fewer at once"
        )
    members = [[planned[i] for i in row] for row in packed]
    return rows_of(members, preprocessing, patch, (count, row_tokens, row_images), report=report)


def rows_of(
    members: Sequence[Sequence["Planned"]],
    preprocessing: Preprocessing,
    patch: Size,
    shape: tuple[int, int, int],
    *,
    report: Callable[[int, str], None] | None = None,
) -> Row:
    """A batch of `shape` (rows, tokens, slots) with the pixels of these images of one dtype, row by row."""
    rows, row_tokens, row_images = shape
    dtype = next((image.header.dtype for row in members for image in row if image.header), np.dtype(np.uint8))
    if (merge := preprocessing.merging) is None:
        batch = empty_rows(rows, row_tokens, row_images, prod(patch) * preprocessing.channels, 2, dtype)
    else:
        mapped = merge.kernel if merge.rule == "pi" else None
        stored, dtype = (mapped.patch, np.float16) if mapped else (patch, dtype)
        width = (1 + room_of(merge)) * prod(stored) * preprocessing.channels
        batch = empty_rows(rows, row_tokens, row_images, width, 3, dtype, np.float32)
    for r, images in enumerate(members):
        _fill(Row(*(leaf[r] for leaf in batch)), images, preprocessing, patch, report)
    return batch


def empty_rows(
    rows: int, row_tokens: int, slots: int, patch_dim: int, axes: int, dtype: Any, places: Any = np.int32
) -> Row:
    """Rows of padding, as NumPy arrays to be filled."""
    empty: Any = dict(
        patches=np.zeros((rows, row_tokens, patch_dim), dtype),
        coords=np.zeros((rows, row_tokens, axes), places),
        segment_ids=np.zeros((rows, row_tokens), np.int32),
        grids=np.zeros((rows, slots, axes), places),
        image_ids=np.full((rows, slots), -1, np.int32),
    )
    return Row(**empty)


def batches(
    images: Iterable[Source],
    *,
    preprocessing: Preprocessing,
    patch: Size,
    row_tokens: int | None = None,
    row_images: int | None = None,
    longest_side: int | None = None,
    report: Callable[[int, str], None] | None = None,
) -> Iterator[Row]:
    """Batches of any number of images, of which 64 are looked at at a time; options as in `pack`.

    Long images, and those of another dtype, have batches of their own: they change no other image's.
    """
    lengths = Lengths(row_tokens, row_tokens) if row_tokens else row_lengths(preprocessing, patch, longest_side)
    kind = lambda image: (image.header.dtype.name if image.header else "uint8", lengths.of(image.tokens))
    numbered = enumerate(images)
    while some := list(islice(numbered, IMAGES)):
        planned = [plan(i, image, preprocessing, patch, lengths, longest_side, report) for i, image in some]
        for (_, length), group in groupby(sorted(planned, key=kind), kind):
            options = {"row_tokens": length, "row_images": row_images or min(preprocessing.row_images, length)}
            yield filled([*group], preprocessing, patch, **options, report=report)


def refusal(source: Source, *, preprocessing: Preprocessing, patch: Size, longest_side: int | None = None) -> str:
    """The reason why `pack` refuses an image, from its header alone; empty where it accepts the image.

    >>> from navit_eqx.preprocessing import Area
    >>> refusal(np.zeros((4, 6), bool), preprocessing=Preprocessing(Area(32)), patch=(8, 8))[:21]
    'image 0 holds bool, w'
    """
    reasons: list[str] = []
    lengths = row_lengths(preprocessing, patch, longest_side)
    plan(0, source, preprocessing, patch, lengths, longest_side, lambda _, why: reasons.append(why))
    return "".join(reasons)


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
        raster = np.lexsort(first_cells(coords[r, places]).T[::-1])  # by row, then by column
        found[int(image_ids[r, slot])] = values[r, places[raster]]
    return [found[i] for i in sorted(found)]


def first_cells(coords: Num[np.ndarray, "T A"]) -> Num[np.ndarray, "T _"]:
    """The place of each token; of a block of several patches, (level, y, x), the place of its first patch."""
    return coords[:, 1:] + 0.5 - 2.0 ** coords[:, :1] / 2 if coords.shape[1] == 3 else coords


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


class Planned(NamedTuple):
    """An image and its grid in the batch."""

    index: int
    source: Source
    name: str
    header: Header | None
    """None: the image cannot be used and has no tokens."""
    grid: Size
    quads: int = 0
    """Quads of patches that are merged."""

    @property
    def tokens(self) -> int:
        """Number of tokens; a quad that is merged saves 3."""
        return prod(self.grid) - 3 * self.quads


def plan(
    index: int,
    source: Source,
    preprocessing: Preprocessing,
    patch: Size,
    lengths: Lengths,
    longest_side: int | None,
    report: Callable[[int, str], None] | None,
) -> Planned:
    """The grid of an image, from its header alone, or its pixels where the merging follows its content; an image that
    cannot be used is reported.

    Raises ImageError or OSError where it cannot be used and `report` is None.
    """
    is_path = isinstance(source, str | os.PathLike)
    name = f"image {index} ({os.fspath(source)})" if is_path else f"image {index}"
    try:
        header = read_header(source, preprocessing.channels, name)
        planned = Planned(index, source, name, header, _grid_of(header, preprocessing, patch, name))
        if merge := preprocessing.merging:
            planned = planned._replace(quads=_quads(planned, header, preprocessing, merge, patch))
        _check_fits(planned, lengths, longest_side)
        return planned
    except (ImageError, OSError) as error:
        if report is None:
            raise
        report(index, reason(name, error))
        return Planned(index, source, name, None, (0, 0))


def _fill(
    row: Any,
    images: Sequence[Planned],
    preprocessing: Preprocessing,
    patch: Size,
    report: Callable[[int, str], None] | None,
) -> None:
    """Read, resize and patchify images, and write them to an empty row, one after the other."""
    end = 0
    for slot, image in enumerate(images):
        row.image_ids[slot] = image.index
        if image.header is None:
            continue
        try:
            pixels = _resized(image, image.header, preprocessing, (image.grid[0] * patch[0], image.grid[1] * patch[1]))
        except (ImageError, OSError) as error:
            if report is None:
                raise
            report(image.index, reason(image.name, error))
            continue
        start, end = end, end + image.tokens
        if (merge := preprocessing.merging) is None:
            found = patchify(pixels, patch), np.indices(image.grid).reshape(2, -1).T, image.grid
            if isinstance(preprocessing.size, WholeBlocks):
                order = block_order(image.grid, preprocessing.size.merges)
                found = found[0][order], found[1][order], image.grid
        else:
            found = cut(pixels, patch, merge, image.quads)
        row.patches[start:end], row.coords[start:end], row.grids[slot] = found
        row.segment_ids[start:end] = slot + 1


def _quads(
    image: Planned, header: Header, preprocessing: Preprocessing, merge: Merge | MergeByThreshold, patch: Size
) -> int:
    """Quads that are merged in an image; it is read where their number follows its content."""
    if isinstance(merge, MergeByThreshold):
        size = image.grid[0] * patch[0], image.grid[1] * patch[1]
        return quads_in(levels_by_threshold(_resized(image, header, preprocessing, size), patch, merge))
    if not isinstance(merge, MergeByContent):
        return merge.quads(image.grid)
    small = replace(preprocessing, size=Native(1.0), filter="bilinear", decode_margin=2.0)
    return merge.quads(image.grid, complexity(_resized(image, header, small, complexity_size(header.size))))


def _resized(image: Planned, header: Header, preprocessing: Preprocessing, size: Size) -> Num[np.ndarray, "h w C"]:
    """The pixels of an image, read and resized to `size` (height, width)."""
    height, width = header.size
    shrink = preprocessing.shrink((height, width), size)
    pixels = read_image(image.source, preprocessing.channels, image.name, shrink)
    if (
        pixels.dtype.kind == "f" and not np.isfinite(pixels).all()
    ):  # 0 · NaN = NaN: in a row, it would spoil the images beside it
        raise ImageError(f"{image.name} holds numbers that are not finite: replace them, or leave it out")
    box = None if pixels.shape[:2] == (height, width) else (0, 0, width / shrink, height / shrink)
    rule = preprocessing.size
    if not isinstance(rule, CenterCrop):
        return resize(pixels, size, preprocessing.filter, box)
    whole = resize(pixels, rule.resized((height, width)), preprocessing.filter, box)
    top, left = rule.corner((whole.shape[0], whole.shape[1]))
    return whole[top : top + size[0], left : left + size[1]]


def _grid_of(header: Header, preprocessing: Preprocessing, patch: Size, name: str) -> Size:
    """Rows and columns of patches.   Raises ImageError, naming the image, where the size rule refuses it."""
    try:
        return preprocessing.size.grid(header.size, patch)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None


def _round_up(tokens: int) -> int:
    return -(-tokens // TOKEN_STEP) * TOKEN_STEP


def _check_fits(image: Planned, lengths: Lengths, longest_side: int | None) -> None:
    shape = f"{image.name} has {image.grid[0]} x {image.grid[1]} patches"
    if longest_side is not None and max(image.grid) > longest_side:
        raise ImageError(f"{shape}, positions end at {longest_side} a side: choose a smaller size, or crop it")
    if image.tokens > lengths.long:
        raise ImageError(f"{shape}, a row holds {lengths.long}: choose a smaller size, or raise row_tokens")


def _check_dtypes(images: Sequence[Planned]) -> None:
    names = {image.header.dtype: image.name for image in images if image.header}
    if len(names) > 1:
        found = " beside ".join(f"{name} of {dtype}" for dtype, name in names.items())
        raise ImageError(f"{found}: a batch holds pixels of one dtype, so convert one, or pack them separately")
