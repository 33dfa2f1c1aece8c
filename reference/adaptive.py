"""Patches of several sizes within one image: flat regions in large patches, detail in small ones.

[APT, arXiv:2510.18091; Quadformer, arXiv:2304.00287]

An image is a grid of cells, each a patch of p pixels a side. A block of level s is a square of 2^s x 2^s cells at a
multiple of its size, for s < S scales; it is one token. A partition is written as the level of the block that owns each
cell. To merge a quad, four blocks of level s - 1 to one of level s, always removes 3 tokens, so that

    T = n_y n_x - 3 k,   0 <= k <= Σ_{1 <= s < S} ⌊n_y / 2^s⌋ ⌊n_x / 2^s⌋

and a plan can fix k, hence the number of tokens, before a pixel is read.

A token has coords (level, y, x): the center of its block in cells, minus ½. A cell has whole numbers, as a patch has.
The grid of an image is (number of levels, n_y, n_x). The model is that of images on other patches (`in_plane`): the
level is a further entry of a patch.

    scores = residual_scores(image, (16, 16), scales=3)
    tokens = merged(normalized, (16, 16), cut_by_budget(scores, quads=20), base=(16, 16))
    vector = forward_merged(params, tokens)
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import numpy as np
from jaxtyping import Float, Int, Num

from . import model
from .detail import detail
from .patches import normalize, patchify
from .resize import FLEXIVIT, Interpolation, adjoint_patches
from .rows import Row, Tokens

Levels = Int[np.ndarray, "rows columns"]
"""Level of the block that owns each cell."""
Scores = Sequence[Float[np.ndarray, "_ _"]]
"""A score of every whole block of each level 0 … S - 1."""


def most_quads(grids: Int[np.ndarray, "*N 2"], scales: int) -> Int[np.ndarray, "*N"]:
    """Quads that can be merged: Σ_{1 <= s < S} ⌊n_y / 2^s⌋ ⌊n_x / 2^s⌋; cells beyond whole blocks stay."""
    return np.asarray(sum((grids // 2**s).prod(-1) for s in range(1, scales)))


def block_sums(values: Num[np.ndarray, "h w *C"], size: Sequence[int]) -> Num[np.ndarray, "rows columns *C"]:
    """Sums over all whole blocks of `size`; what is left over at the end of an axis is cut off."""
    rows, columns = (n // side for n, side in zip(values.shape, size))
    whole = values[: rows * size[0], : columns * size[1]]
    return whole.reshape(rows, size[0], columns, size[1], *values.shape[2:]).sum((1, 3))


def residual_scores(image: Num[np.ndarray, "h w C"], patch: Sequence[int], scales: int) -> Scores:
    """Squared error of a block when it is reduced to one patch: E_s = Σ x² − 4^s Σ (mean of 2^s x 2^s pixels)².

    E_0 = 0, and the error of a block is at least that of its four parts, so that no merge has a negative cost.
    Exact for integers. [APT, app. C: the third scorer, but for its resampling]   Choice: of all channels, added up.
    """
    x = image.astype(float)

    def of(s: int) -> Float[np.ndarray, "rows columns"]:
        block = [2**s * side for side in patch]
        boxes = block_sums(x, (2**s, 2**s))
        return block_sums((x**2).sum(-1), block) - block_sums((boxes**2).sum(-1), patch) / 4**s

    return [of(s) for s in range(scales)]


def entropy_scores(image: Num[np.ndarray, "h w C"], patch: Sequence[int], scales: int, bins: int = 512) -> Scores:
    """Entropy of the gray levels of a block, in bits: H = − Σ_b p_b log2 p_b, pixels in 0 … 255.   [APT, eq. 1]

    Gray is .2989 R + .587 G + .114 B.   Choice: 0 log 0 = 0, where the code of the authors adds 1e-10 to p.
    """
    gray = image @ np.array([0.2989, 0.587, 0.114]) if image.shape[-1] == 3 else image.mean(-1)
    which = np.minimum(gray * bins / 256, bins - 1).astype(int)
    rows, columns = (n // side for n, side in zip(gray.shape, patch))
    which = which[: rows * patch[0], : columns * patch[1]]
    y, x = np.indices(which.shape)
    cell = y // patch[0] * columns + x // patch[1]
    cells = np.bincount((cell * bins + which).ravel(), minlength=rows * columns * bins).reshape(rows, columns, bins)

    def of(s: int) -> Float[np.ndarray, "rows columns"]:
        counts = block_sums(cells, (2**s, 2**s))
        p = counts / counts.sum(-1, keepdims=True)
        return -(p * np.log2(np.where(p > 0, p, 1))).sum(-1)

    return [of(s) for s in range(scales)]


def cut_by_threshold(scores: Scores, thresholds: Sequence[float]) -> Levels:
    """Blocks with a score below the threshold of their level, the coarsest first; the rest goes one level down.

    `thresholds` are those of the levels 1 … S - 1; the number of tokens depends on the image.   [APT, §3.1]
    """
    levels = np.zeros(scores[0].shape, int)
    for s in range(len(scores) - 1, 0, -1):
        for y, x in np.argwhere(scores[s] < thresholds[s - 1]).tolist():
            here = block(levels, s, y, x)
            here[:] = np.maximum(here, s)
    return levels


def cut_by_budget(scores: Scores, quads: int) -> Levels:
    """Merge `quads` quads, always the one that adds least to the score: n_y n_x − 3 `quads` tokens.

    A quad of level s > 1 can be merged when its four parts were. Partitions are nested: more quads never split a block
    that fewer have merged. Ties go to the finer level, then to the first in raster order.
    Choice: from fine to coarse, where [Quadformer] splits from coarse to fine.
    Raises ValueError where there are fewer quads.
    """
    levels = np.zeros(scores[0].shape, int)
    most = int(most_quads(np.array(levels.shape), len(scores)))
    if not 0 <= quads <= most:
        raise ValueError(f"{quads} quads cannot be merged in a grid of {levels.shape}: it has {most}")
    costs = [coarse - block_sums(fine, (2, 2)) for fine, coarse in zip(scores, scores[1:])]
    queue = [(cost, 1, y, x) for (y, x), cost in np.ndenumerate(costs[0])] if costs else []
    heapify(queue)
    for _ in range(quads):
        _, s, y, x = heappop(queue)
        block(levels, s, y, x)[:] = s
        y, x = y // 2, x // 2
        whole = s < len(costs) and y < costs[s].shape[0] and x < costs[s].shape[1]
        if whole and (block(levels, s + 1, y, x) == s).all():
            heappush(queue, (costs[s][y, x], s + 1, y, x))
    return levels


def block(levels: Levels, s: int, y: int, x: int) -> Int[np.ndarray, "size size"]:
    """The cells of a block of level s, as a view."""
    return levels[y << s : (y + 1) << s, x << s : (x + 1) << s]


def quads_in(levels: Levels) -> int:
    """The quads that are merged in a partition: (n_y n_x − T) / 3, with T = Σ 4^−level over the cells."""
    return round((levels.size - float((0.25**levels).sum())) / 3)


def owner_map(levels: Levels) -> Int[np.ndarray, "rows columns"]:
    """The number of the token that covers each cell. Tokens are in raster order of the first cells of their blocks.

    x[owner] fills the grid with values of tokens; the mean over the cells of each token is its inverse.
    """
    places, size = np.indices(levels.shape), 2**levels
    first = places // size * size
    number = np.cumsum((first == places).all(0)).reshape(levels.shape) - 1
    return number[tuple(first)]


def merged(
    image: Num[np.ndarray, "h w C"],
    patch: Sequence[int],
    levels: Levels,
    base: Sequence[int],
    rule: str = "pi",
    interpolation: Interpolation = FLEXIVIT,
) -> Tokens:
    """The tokens of a partitioned image, all in the format of a kernel of shape `base`.

    A block of level s is a patch of 2^s · `patch` pixels, mapped to `base` by the adjoint of PI-resize (`pi`), or first
    reduced to `patch` by means of 2^s x 2^s pixels (`area`), or of their middle ones (`apt`).   [FlexiViT, PI-resize]
    [APT, §3.2]
    Choice: `pi`, so that an image in blocks of one level is that image in patches of that size.
    """
    parts, owner = [], owner_map(levels)
    for s in np.unique(levels).tolist():
        size = [2**s * side for side in patch]
        whole = [n // side * side for n, side in zip(image.shape, size)]
        blocks, places, _ = patchify(image[: whole[0], : whole[1]], size)
        first = places << s
        mine = levels[tuple(first.T)] == s
        centers = first[mine] + 2**s / 2 - 0.5
        coords = np.concatenate([np.full((len(centers), 1), s), centers], -1)
        parts.append(
            (owner[tuple(first[mine].T)], REDUCE[rule](blocks[mine], size, patch, base, interpolation), coords)
        )
    number, patches, coords = map(np.concatenate, zip(*parts))
    order, grid = np.argsort(number), np.array([1 + levels.max(), *levels.shape], float)
    return Tokens(patches[order], coords[order], grid)


def by_pi(
    blocks: Num[np.ndarray, "T Q"], size: Sequence[int], patch: Sequence[int], base: Sequence[int], how: Interpolation
) -> Float[np.ndarray, "T P"]:
    """Kᵀ x K, from the size of the block to that of the kernel."""
    return adjoint_patches(blocks, base, size, how)


def by_area(
    blocks: Num[np.ndarray, "T Q"], size: Sequence[int], patch: Sequence[int], base: Sequence[int], how: Interpolation
) -> Float[np.ndarray, "T P"]:
    """Means of boxes, down to `patch`; then Kᵀ x K."""
    pixels = blocks.reshape(len(blocks), patch[0], size[0] // patch[0], patch[1], size[1] // patch[1], -1)
    return by_pi(pixels.mean((2, 4)).reshape(len(blocks), -1), patch, patch, base, how)


def by_apt(
    blocks: Num[np.ndarray, "T Q"], size: Sequence[int], patch: Sequence[int], base: Sequence[int], how: Interpolation
) -> Float[np.ndarray, "T P"]:
    """Means of the middle 2 x 2 pixels of boxes, which is bilinear reduction without antialiasing; then Kᵀ x K.

    At level 1 these are the means of boxes, at level 2 three quarters of the pixels are not read.   [code of APT]
    """
    side = size[0] // patch[0]
    middle = slice((side - 1) // 2, side // 2 + 1)
    boxes = blocks.reshape(len(blocks), patch[0], side, patch[1], side, -1)
    return by_pi(boxes[:, :, middle, :, middle].mean((2, 4)).reshape(len(blocks), -1), patch, patch, base, how)


REDUCE = {"pi": by_pi, "area": by_area, "apt": by_apt}


def in_plane(params: dict, image: Tokens, segment_ids: Int[np.ndarray, " T"] | None = None) -> tuple[dict, Tokens]:
    """Parameters and tokens in the form that `model` reads, patches with places (y, x).

    w · patch + vector of its level + detail = [w, vectors, 1] · [patch, one-hot level, detail]; cells, of level 0, have
    no vector and no detail. `segment_ids` tell the images of a row apart.
    """
    vectors, embedding, coords = params.get("levels"), params["patch_embedding"], image.coords
    plain = image._replace(coords=coords[:, 1:], grid=image.grid[..., 1:])
    more: list[tuple[np.ndarray, np.ndarray]] = []
    if vectors is not None:
        which = np.equal(coords[:, :1], 1 + np.arange(len(vectors["vectors"]))).astype(float)
        more.append((which, vectors["vectors"]))
    if params.get("detail") is not None:
        ids = np.ones(len(coords), int) if segment_ids is None else segment_ids
        more.append((detail(params, image.patches, coords[:, 0], ids), np.eye(len(embedding["b"]))))
        plain = plain._replace(patches=image.patches[:, : len(embedding["w"])])
    if not more:
        return params, plain
    patches = normalize(plain.patches, params["mean"], params["std"])
    patches = np.concatenate([patches, *(entries for entries, _ in more)], -1)
    w = np.concatenate([embedding["w"], *(weights for _, weights in more)])
    return {**params, "patch_embedding": {**embedding, "w": w}}, plain._replace(patches=patches)


def copies(params: dict, coords: Num[np.ndarray, "T 3"]) -> Int[np.ndarray, " T"]:
    """How often each token stands in the row that is read: once; or, where areas count, 4^level times, as often as the
    patches it stands for.

    Copies of a token stay equal, so that none need be computed: a weight for a key does the same.   [ToMe, §3]
    """
    return 4 ** (coords[:, 0].astype(int) * bool(params.get("areas")))


def forward_merged(params: dict, image: Tokens) -> Float[np.ndarray, " D"]:
    """The meaning: a plain Vision Transformer on the blocks of one image."""
    n = copies(params, image.coords)
    params, image = in_plane(params, image)
    repeated = image._replace(patches=np.repeat(image.patches, n, 0), coords=np.repeat(image.coords, n, 0))
    return model.forward_image(params, repeated)


def forward(params: dict, row: Row) -> Float[np.ndarray, "I D"]:
    """The mechanism: one vector per image of a packed row; zeros for an empty slot."""
    real = (row.segment_ids > 0)[:, None]
    tokens = Tokens(np.where(real, row.patches, 0), np.where(real, row.coords, 0), row.grids)
    n, (inner, (*tokens, sizes)) = copies(params, tokens.coords), in_plane(params, tokens, row.segment_ids)
    patches, coords, segment_ids = (np.repeat(x, n, 0) for x in (*tokens, row.segment_ids))
    return model.forward(inner, Row(patches, coords, segment_ids, sizes, row.image_ids))
