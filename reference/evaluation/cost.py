"""Cost of a model as formulas. A multiply-add is two FLOPs; norms, softmax, GELU, products without a sum, and the
resizing of a kernel to other patches are left out.

Options of a model: `registers`, learned tokens of each image; `pool`, by its name in the configuration; `positions`,
FLOPs of a token's position (`position_flops`); `stages` of a hierarchy, which take the place of width, depth and MLP;
`inner`, channels of all heads together where they are not `width`.
"""

from collections.abc import Sequence
from typing import NamedTuple


def parameters(
    *,
    patch_dim: int,
    width: int,
    depth: int,
    heads: int,
    mlp_width: int,
    classes: int,
    positions: int,
    registers: int = 0,
    pool: str = "Map",
    head_size: int = 0,
) -> int:
    """Parameters of a model without biases in attention and norms; `positions` of them in the position embedding
    (`position_parameters`)."""
    size = head_size or width // heads
    attention = 4 * width * heads * size + 2 * size
    mlp = 2 * width * mlp_width + mlp_width + width
    block = attention + mlp + 2 * width
    embed = (patch_dim + 1) * width + positions + registers * width
    pools = {"Map": width + attention + width + mlp, "ResidualMap": width + attention, "NormedMean": width}
    pools |= {"Mean": 0, "Max": 0, "Token": 0}
    return embed + depth * block + width + pools[pool] + (width + 1) * classes


def position_parameters(*, width: int, size: int, axes: int = 2) -> dict[str, int]:
    """Parameters of a position embedding, by kind; `sum`, `product` and `stack` are factorised."""
    return {
        "sum": axes * size * width,
        "product": axes * size * width,
        "stack": size * width,
        "joint": size**axes * width,
        "sinusoidal": 0,
        "fourier": axes * width // 2,
    }


def position_flops(*, width: int, size: int, axes: int = 2) -> dict[str, int]:
    """Forward FLOPs of the position embedding of one token, by kind: tables are read by matrix products over all
    entries, waves are products of coordinates and frequencies."""
    return {
        "sum": 2 * axes * size * width,
        "product": 2 * axes * size * width,
        "stack": 2 * size * width,
        "joint": 2 * size**axes * width,
        "sinusoidal": width,
        "sinusoidal sum": axes * width,
        "fourier": axes * width,
        "none": 0,
    }


class PoolCost(NamedTuple):
    """Forward FLOPs of a pool: for each token of a row, for each slot and token, for each slot."""

    token: int
    pair: int
    image: int


def pool_cost(pool: str, *, width: int, mlp_width: int, inner: int = 0) -> PoolCost:
    """Attention maps tokens to keys and values, and the probe to a query and an output; a mean is a product with the
    mask."""
    inner = inner or width
    attention = PoolCost(token=4 * width * inner, pair=4 * inner, image=4 * width * inner)
    return {
        "Map": attention._replace(image=attention.image + 4 * width * mlp_width),
        "ResidualMap": attention,
        "Mean": PoolCost(0, 2 * width, 0),
        "NormedMean": PoolCost(0, 2 * width, 0),
        "Max": PoolCost(0, 0, 0),
        "Token": PoolCost(0, 0, 0),
    }[pool]


def block_flops(*, width: int, depth: int, mlp_width: int, inner: int = 0) -> int:
    """Forward FLOPs of one token or register in all blocks, without the pairs of attention."""
    return depth * (8 * width * (inner or width) + 4 * width * mlp_width)


def token_flops(
    *,
    patch_dim: int,
    width: int,
    depth: int,
    mlp_width: int,
    pool: str = "Map",
    positions: int = 0,
    inner: int = 0,
) -> int:
    """Forward FLOPs of one token without pairs: embedding, position, blocks, keys and values of the pool."""
    one = {"width": width, "mlp_width": mlp_width, "inner": inner}
    return 2 * patch_dim * width + positions + block_flops(depth=depth, **one) + pool_cost(pool, **one).token


def pair_flops(*, width: int, depth: int, inner: int = 0) -> int:
    """Forward FLOPs of one (query, key) pair in all blocks: a logit and a weighted value."""
    return 4 * (inner or width) * depth


def pool_flops(*, width: int, mlp_width: int, classes: int, pool: str = "Map", inner: int = 0) -> int:
    """Forward FLOPs of one image without its tokens: query, output and MLP of the pool, where it has them, and the
    head."""
    return pool_cost(pool, width=width, mlp_width=mlp_width, inner=inner).image + 2 * width * classes


Stage = tuple[int, int, int, int]
"""Width, blocks and MLP width of a stage of a hierarchy, and the channels of a quad that the linear map before it
reads: 0 where there is no map."""


def staged_flops(
    tokens: float,
    slots: int,
    *,
    patch_dim: int,
    stages: Sequence[Stage],
    classes: int,
    pool: str = "Map",
    positions: int = 0,
) -> float:
    """Forward FLOPs of n tokens in stages, each with a quarter of the tokens of the one before; all pairs of tokens of
    a level, a pool over those of the last level per slot. Means and maxima of quads are left out."""
    total = tokens * (2 * patch_dim * stages[0][0] + positions)
    for level, (width, depth, mlp_width, inputs) in enumerate(stages):
        n = tokens / 4**level
        total += n * (2 * inputs * width + block_flops(width=width, depth=depth, mlp_width=mlp_width))
        total += n**2 * pair_flops(width=width, depth=depth)
    last = {"width": stages[-1][0], "mlp_width": stages[-1][2]}
    cost, n = pool_cost(pool, **last), tokens / 4 ** (len(stages) - 1)
    return total + n * (cost.token + slots * cost.pair) + slots * pool_flops(classes=classes, pool=pool, **last)


def image_flops(
    tokens: float,
    *,
    patch_dim: int,
    width: int,
    depth: int,
    mlp_width: int,
    classes: int,
    registers: int = 0,
    pool: str = "Map",
    positions: int = 0,
    stages: Sequence[Stage] = (),
    inner: int = 0,
) -> float:
    """Forward FLOPs that one image of n tokens and r registers needs: linear in n and r, pairs (n + r)², pool."""
    sizes = {"patch_dim": patch_dim, "width": width, "depth": depth, "mlp_width": mlp_width, "classes": classes}
    options = {"registers": registers, "pool": pool, "positions": positions, "stages": stages, "inner": inner}
    return dense_flops(tokens, 1, **sizes, **options)


def dense_flops(
    tokens: float,
    slots: int,
    *,
    patch_dim: int,
    width: int,
    depth: int,
    mlp_width: int,
    classes: int,
    registers: int = 0,
    pool: str = "Map",
    positions: int = 0,
    stages: Sequence[Stage] = (),
    inner: int = 0,
) -> float:
    """Forward FLOPs of n tokens and I slots of r registers: all pairs of both, a pool over n tokens per slot."""
    if stages:
        options = {"classes": classes, "pool": pool, "positions": positions}
        return staged_flops(tokens, slots, patch_dim=patch_dim, stages=stages, **options)
    one = {"width": width, "mlp_width": mlp_width, "inner": inner}
    per_token = token_flops(patch_dim=patch_dim, depth=depth, pool=pool, positions=positions, **one)
    return (
        tokens * (per_token + slots * pool_cost(pool, **one).pair)
        + slots * registers * block_flops(depth=depth, **one)
        + (tokens + slots * registers) ** 2 * pair_flops(width=width, depth=depth, inner=inner)
        + slots * pool_flops(classes=classes, pool=pool, **one)
    )


def row_flops(
    lengths: Sequence[int],
    row_tokens: int,
    row_images: int,
    *,
    patch_dim: int,
    width: int,
    depth: int,
    mlp_width: int,
    classes: int,
    registers: int = 0,
    pool: str = "Map",
    positions: int = 0,
    stages: Sequence[Stage] = (),
    inner: int = 0,
) -> tuple[float, float]:
    """(needed, spent) forward FLOPs of a packed row with a dense mask.

    Needed: the sum over its images. Spent: as if all T tokens and the registers of all I slots were one image, and all
    slots were pooled over all T tokens. The difference is padding and pairs of tokens of different images.
    """
    sizes = {"patch_dim": patch_dim, "width": width, "depth": depth, "mlp_width": mlp_width, "classes": classes}
    options = {"registers": registers, "pool": pool, "positions": positions, "stages": stages, "inner": inner}
    needed = sum(image_flops(n, **sizes, **options) for n in lengths)
    spent = dense_flops(row_tokens, row_images, **sizes, **options)
    return needed, spent


def step_bytes(numbers: int, devices: int, *, split: bool = False, itemsize: int = 4) -> float:
    """Bytes that each of n devices sends per training step for `numbers` parameters, by ring collectives.

    Replicated (data parallel): all-reduce of gradients, 2 (n − 1) / n. Sharded (`split`, FSDP): all-gather of
    parameters for the forward and the backward pass, reduce-scatter of gradients, 3 (n − 1) / n.
    [arXiv:1910.02054, §7]
    """
    return (3 if split else 2) * (devices - 1) / devices * numbers * itemsize


def state_bytes(numbers: int, devices: int, *, split: bool = False, copies: int = 3, itemsize: int = 4) -> float:
    """Bytes on each device for parameters and optimizer state: 3 copies for AdamW, 4 with a moving average."""
    return copies * numbers * itemsize / (devices if split else 1)


def efficiency(compute: float, communication: float) -> tuple[float, float]:
    """Share of time in computation: (without overlap of computation and communication, with full overlap)."""
    return compute / (compute + communication), compute / max(compute, communication)
