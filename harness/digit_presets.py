"""Presets of the embedded digit strips."""

from dataclasses import replace

from data.sampling.packing import Packing
from data.sampling.patch_size import PerImage
from data.sampling.resolution import Native, OneSquare, Square, WholeBlocks
from data.sources.digits import Digits
from navit_eqx.config import Factorised, Flexi, ModelConfig, Rope, Stages
from navit_eqx.training.config import Cosine, Muon, OptimConfig

from .config import Config, DataConfig

SCALES = Native(0.6, 1.65)  # a digit has 2 to 5 patches from top to bottom; small ones vanish at small scales


def large_digits() -> Config:
    """Digit strips without small digits, in patches of 8 pixels: a coarse look shows all there is."""
    return Config(
        model=ModelConfig((8, 8), width=64, depth=3, heads=4, mlp_width=256, posembed=Factorised(40), unroll=3),
        data=DataConfig(
            source=Digits(),
            resolution=Native(0.8, 1.4),
            packing=Packing(row_tokens=96, row_images=16),
            val_resolution=1.2,
            eval_resolutions=(0.8, 1.0, 1.2, 1.4, 1.6),
        ),
        optim=OptimConfig(rule=Muon(), lr=1e-2, schedule=Cosine(), weight_decay=0.05),
        rows=16,
        steps=3000,
    )


def digits() -> Config:
    """Digit strips at their native aspect ratio; embedded data, a few minutes on a laptop."""
    base = large_digits()
    return replace(
        base,
        model=replace(base.model, patch=(6, 6), posembed=Factorised(64), rope=Rope()),
        data=replace(
            base.data,
            source=Digits(smallest=6.0),
            resolution=SCALES,
            packing=Packing(row_tokens=240, row_images=40),
            val_resolution=1.5,
            eval_resolutions=(0.6, 0.9, 1.2, 1.5, 1.8, 2.1),
        ),
        rows=7,
    )


def digits_hierarchy() -> Config:
    """Digit strips in two stages: one block over all tokens, then three wider ones over a quarter of them."""
    base = digits()
    return replace(
        base,
        model=replace(base.model, depth=4, stages=Stages((1, 3), (64, 96)), unroll=3),
        data=replace(base.data, resolution=WholeBlocks(SCALES)),
    )


def digits_flexi() -> Config:
    """Digit strips in patches of 4 to 14 pixels, all sizes in one row: one model for every token budget.

    Fine patches are expensive, so the run has half as many images.
    """
    base = large_digits()
    return replace(
        base,
        model=replace(base.model, posembed=Factorised(16, "fractional"), flexi=Flexi((4, 6, 8, 10, 12, 14))),
        data=replace(base.data, patch_sizes=PerImage(), packing=Packing(row_tokens=416, row_images=48)),
        rows=4,
        steps=2000,
    )


def digits_square() -> Config:
    """Digit strips squashed to squares with equal tokens: the comparison to native aspect ratios."""
    native = digits()
    return replace(native, data=replace(native.data, resolution=Square(SCALES)))


def digits_vit() -> Config:
    """Digit strips as squares of one size, one image per row, no packing: the baseline, a plain ViT."""
    square = digits_square()
    side = 36  # 36 tokens, about as many as the digit strips have on average
    return replace(
        square,
        data=replace(
            square.data,
            resolution=OneSquare(side),
            packing=Packing(row_tokens=36, row_images=1),
            val_resolution=side,
            eval_resolutions=(24, 30, 36, 42, 48, 54),
        ),
        rows=46,
    )
