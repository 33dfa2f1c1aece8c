"""What a model costs, as formulas. A multiply-add is two FLOPs; norms, softmax and GELU are left out."""

from collections.abc import Sequence


def parameters(
    *,
    patch_dim: int,
    width: int,
    depth: int,
    heads: int,
    mlp_width: int,
    classes: int,
    positions: int,
) -> int:
    """Numbers in `params`; `positions` of them in the position embedding (`position_parameters`)."""
    attention = 4 * width**2 + 2 * (width // heads)
    mlp = 2 * width * mlp_width + mlp_width + width
    block = attention + mlp + 2 * width
    embed = (patch_dim + 1) * width + positions
    pool = width + attention + width + mlp
    return embed + depth * block + width + pool + (width + 1) * classes


def position_parameters(*, width: int, size: int, axes: int = 2) -> dict[str, int]:
    """Numbers in a position embedding, by kind: `sum`, `product` and `stack` are factorised."""
    return {
        "sum": axes * size * width,
        "product": axes * size * width,
        "stack": size * width,
        "joint": size**axes * width,
        "sinusoidal": 0,
        "fourier": axes * width // 2,
    }


def token_flops(*, patch_dim: int, width: int, depth: int, mlp_width: int) -> int:
    """Forward FLOPs of one token outside attention's token pairs: embedding, blocks, keys and values of the pool."""
    return 2 * patch_dim * width + depth * (8 * width**2 + 4 * width * mlp_width) + 4 * width**2


def pair_flops(*, width: int, depth: int) -> int:
    """Forward FLOPs of one (query, key) pair in all blocks: a score and its share of the mix."""
    return 4 * width * depth


def pool_flops(*, width: int, mlp_width: int, classes: int) -> int:
    """Forward FLOPs of one image outside its tokens: probe in and out, the pool's MLP, the classifier."""
    return 4 * width**2 + 4 * width * mlp_width + 2 * width * classes


def image_flops(tokens: float, *, patch_dim: int, width: int, depth: int, mlp_width: int, classes: int) -> float:
    """Forward FLOPs that one image of n tokens needs: linear terms · n + pair term · n² + pool."""
    return (
        tokens * (token_flops(patch_dim=patch_dim, width=width, depth=depth, mlp_width=mlp_width) + 4 * width)
        + tokens**2 * pair_flops(width=width, depth=depth)
        + pool_flops(width=width, mlp_width=mlp_width, classes=classes)
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
) -> tuple[float, float]:
    """(needed, spent) forward FLOPs of a packed row with a dense mask.

    Needed: the sum over its images. Spent: as if all T places were one image and all I slots were pooled over
    all T places; the difference is padding and the pairs of tokens that must not see each other.
    """
    sizes = {"patch_dim": patch_dim, "width": width, "depth": depth, "mlp_width": mlp_width}
    needed = sum(image_flops(n, **sizes, classes=classes) for n in lengths)
    spent = (
        row_tokens * (token_flops(**sizes) + 4 * width * row_images)
        + row_tokens**2 * pair_flops(width=width, depth=depth)
        + row_images * pool_flops(width=width, mlp_width=mlp_width, classes=classes)
    )
    return needed, spent


def step_bytes(numbers: int, devices: int, *, split: bool = False, itemsize: int = 4) -> float:
    """Bytes that each of n devices sends in a training step for its `numbers` parameters, in rings.

    Whole on every device: gradients are summed and spread, 2 (n − 1) / n. Split: parameters are gathered for the
    forward and again for the backward pass, gradients are summed into shares, 3 (n − 1) / n.   [arXiv:1910.02054, §7]
    """
    return (3 if split else 2) * (devices - 1) / devices * numbers * itemsize


def state_bytes(numbers: int, devices: int, *, split: bool = False, copies: int = 3, itemsize: int = 4) -> float:
    """Bytes on each device for parameters and optimiser: AdamW keeps 3 copies, a moving average makes it 4."""
    return copies * numbers * itemsize / (devices if split else 1)


def efficiency(compute: float, communication: float) -> tuple[float, float]:
    """Share of the time in which a device computes: if it waits for what it sends, and if both go on together."""
    return compute / (compute + communication), compute / max(compute, communication)
