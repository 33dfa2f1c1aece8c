"""Presets that train on images and texts, by name."""

from dataclasses import replace

from data.sampling.augment import Augment
from data.sampling.dropping import Beta, Constant
from data.sampling.packing import Packing
from data.sampling.resolution import Native, Sides
from data.sources.captions import Captions
from data.sources.digit_captions import DigitCaptions
from data.sources.emoji import Emoji
from data.sources.glyph_captions import GlyphCaptions
from navit_eqx.config import Factorised, Mean, ModelConfig, Rope, variant
from navit_eqx.tasks.config import Contrast, SentencePiece, TextTower
from navit_eqx.training.config import Cosine, Muon, OptimConfig, Rsqrt

from .config import Config, DataConfig
from .digit_presets import large_digits

SMALL_TEXTS = TextTower(64, 1, 4, 256)


def contrast_digits() -> Config:
    """Digit strips and captions, both packed: images and texts in one embedding; embedded data, minutes on a laptop."""
    base = large_digits()
    return replace(
        base,
        data=replace(base.data, source=DigitCaptions()),
        task=Contrast(text=SMALL_TEXTS, tokenizer=SentencePiece(size=400, max_length=24)),
        steps=2600,
        log_every=100,
    )


def contrast_glyphs() -> Config:
    """Generated shapes and captions; six pairs of color and shape are in validation alone. Embedded data."""
    base = contrast_digits()
    return replace(
        base,
        model=replace(base.model, posembed=Factorised(24)),
        data=replace(
            base.data,
            source=GlyphCaptions(),
            resolution=Native(0.5, 1.0),
            dropping=Beta(0.3, 0.7),
            packing=Packing(),
            val_resolution=0.8,
            eval_resolutions=(0.5, 0.65, 0.8, 1.0, 1.2),
        ),
        rows=8,
        steps=None,
    )


def contrast() -> Config:
    """Any images with captions: `--data.root DIR`. Sizes, rows of both kinds and steps are chosen from the data."""
    return Config(
        model=ModelConfig(
            (8, 8),
            width=128,
            depth=5,
            heads=4,
            mlp_width=512,
            posembed=Factorised(32),
            rope=Rope(),
            pool=Mean(),
            unroll=5,
        ),
        data=DataConfig(
            source=Captions(),
            resolution=Sides(32, 72),
            dropping=Beta(0.35, 0.7),
            augment=Augment(crop=0.4, stretch=0.3, rotate=0.15, jitter=0.3),
            memory=1,
        ),
        optim=OptimConfig(rule=Muon(), lr=4e-3, schedule=Cosine(), weight_decay=0.3),
        task=Contrast(text=SMALL_TEXTS, tokenizer=SentencePiece(), embedding=128),
        rows=16,
    )


def contrast_grocery() -> Config:
    """Grocery photographs and descriptions of the products, from scratch: `--data.root DIR`."""
    base = contrast()
    return replace(
        base,
        data=replace(
            base.data, source=Captions(attributes=("fine", "coarse")), augment=replace(base.data.augment, flip=True)
        ),
        task=Contrast(text=SMALL_TEXTS, tokenizer=SentencePiece(max_length=64), embedding=128),
    )


def contrast_emoji() -> Config:
    """Drawings of emoji with captions, novel concepts and false captions, from scratch: `--data.root DIR`. Rows of 128
    tokens have 2.0 % padding and 1.8 % in those of texts; the 96 that would be chosen have 3.0 % in both."""
    base = contrast()
    packing, augment = replace(base.data.packing, row_tokens=128), Augment(crop=0.6, jitter=0.2)
    return replace(base, data=replace(base.data, source=Emoji(), augment=augment, packing=packing))


def contrast_b16() -> Config:
    """ViT-B/16 and a text tower of the same size, computed for accelerators, not measured: `--data.root DIR`."""
    return Config(
        model=replace(variant("B/16"), posembed=Factorised(64)),
        data=DataConfig(
            source=Captions(),
            resolution=Sides(64, 256),
            dropping=Constant(0.5),
            packing=Packing(row_tokens=512),
            memory=0,
            workers=8,
        ),
        optim=OptimConfig(lr=1e-3, schedule=Rsqrt(), weight_decay=1e-4),
        task=Contrast(
            text=TextTower(768, 12, 12, 3072), tokenizer=SentencePiece(size=32_000, max_length=64), embedding=768
        ),
        rows=1024,
    )


CONTRAST = {
    "contrast": contrast,
    "contrast-digits": contrast_digits,
    "contrast-glyphs": contrast_glyphs,
    "contrast-grocery": contrast_grocery,
    "contrast-emoji": contrast_emoji,
    "contrast-b16": contrast_b16,
}
