"""Presets: configurations by name."""

from collections.abc import Sequence
from dataclasses import replace

from data.sampling.augment import Augment, Mix
from data.sampling.dropping import Beta, Constant
from data.sampling.packing import Packing
from data.sampling.patch_size import PerImage
from data.sampling.resolution import OneSquare, Sides
from data.sources.parquet import Parquet
from navit_eqx.config import Factorised, Flexi, Mean, ModelConfig, Rope, variant
from navit_eqx.errors import ConfigError
from navit_eqx.tasks.config import Classify, Sigmoid, Softmax
from navit_eqx.training.config import Cosine, Muon, OptimConfig, Rsqrt

from .config import Config, DataConfig, with_data
from .contrast_presets import CONTRAST
from .detect_presets import DETECT
from .digit_presets import digits, digits_flexi, digits_hierarchy, digits_square, digits_vit, large_digits
from .process import has_accelerator
from .segment_presets import SEGMENT
from .video_presets import VIDEO


def photographs() -> Config:
    """Photographs from scratch, strongly augmented: the base of the presets below."""
    return Config(
        model=ModelConfig((16, 16), width=128, depth=5, heads=4, mlp_width=512, unroll=5),
        data=DataConfig(
            dropping=Beta(0.35, 0.7),
            augment=Augment(flip=True, crop=0.25, stretch=0.4, rotate=0.25, jitter=0.4),
        ),
        optim=OptimConfig(rule=Muon(), lr=2e-3, schedule=Cosine(), weight_decay=0.3),
        task=Classify(Softmax(0.1)),
    )


def folder() -> Config:
    """Any folder of images, one class per subfolder: small images for eight minutes on a CPU; on an accelerator sizes,
    row length and steps are chosen from the data."""
    base = photographs()
    if has_accelerator():
        return base
    return replace(
        base,
        model=replace(base.model, patch=(8, 8), rope=Rope(), pool=Mean()),
        data=replace(
            base.data,
            resolution=Sides(most=7),
            augment=Augment(flip=True, crop=0.35, stretch=0.3, rotate=0.1, jitter=0.3, mix=Mix(0.3)),
            memory=1,
        ),
        optim=replace(base.optim, lr=6e-3, weight_decay=0.2, ema=0.998),
        rows=24,
        minutes=8,
    )


def caltech101() -> Config:
    """Caltech-101 from scratch: `python train.py caltech101 --data.root DIR`. Strong regularization for few images, and
    an optimizer that needs few: docs/real_images.md."""
    base = photographs()
    return replace(
        base,
        model=replace(base.model, patch=(8, 8), rope=Rope(), pool=Mean(), stochastic_depth=0.1),
        data=replace(
            base.data,
            resolution=Sides(32, 72),
            augment=replace(base.data.augment, mix=Mix(0.7)),
            packing=Packing(row_tokens=80, row_images=16),
            val_resolution=72,
            eval_resolutions=(40, 48, 56, 64, 72, 80),
            memory=2,
            workers=1,
        ),
        optim=replace(base.optim, ema=0.999),
        rows=26,
        steps=5400,
        eval_every=900,
    )


def caltech101_flexi() -> Config:
    """Caltech-101 in patches of 4 to 16 pixels, all sizes in one row: one model for every token budget."""
    base = caltech101()
    return replace(
        base,
        model=replace(base.model, posembed=Factorised(16, "fractional"), rope=None, flexi=Flexi((4, 6, 8, 10, 12, 16))),
        data=replace(base.data, patch_sizes=PerImage(), packing=Packing(row_tokens=336, row_images=48)),
        rows=6,
    )


def caltech101_vit() -> Config:
    """Caltech-101 at 56 x 56, inception crops and flips, one image per row: the baseline, a plain ViT."""
    base = caltech101()
    return replace(
        base,
        data=replace(
            base.data,
            resolution=OneSquare(56),
            dropping=Constant(0.0),
            augment=replace(base.data.augment, crop=0.08, stretch=0.33),
            packing=Packing(row_tokens=49, row_images=1),
            val_resolution=56,
        ),
        rows=42,
    )


def grocery() -> Config:
    """Grocery Store images in parquet, 43 coarse classes: `python train.py grocery --data.root DIR`."""
    base = caltech101()
    return replace(
        base,
        data=replace(base.data, source=Parquet(label="coarse")),
        steps=2000,
        eval_every=500,
    )


def imagenet_s16() -> Config:
    """S/16 on an ImageNet-1k folder: `python train.py imagenet-s16 --data.root DIR`. Computed, not measured:

    24 M parameters, 311 M images in 240,000 steps of 65,536 tokens, 2.3e18 FLOPs. Memory 0.4 GiB for parameters
    and optimizer, about 17 GiB for activations. 2 hours on an H200 at 40 % of 790 TFLOP/s if fed 43,000 images/s;
    12 workers that read 700 images/s each make it 10 hours.
    """
    return Config(
        model=variant("S/16"),
        data=DataConfig(
            resolution=Sides(64, 256),
            dropping=Beta(0.5, 0.9),
            augment=Augment(flip=True, crop=0.25, stretch=0.33),
            packing=Packing(row_tokens=256, row_images=16, fill="rate"),
            val_resolution=224,
            eval_resolutions=(96, 128, 160, 192, 224, 256, 320, 384),
            workers=12,
        ),
        optim=OptimConfig(lr=8e-4, schedule=Rsqrt(10_000, 0.1), weight_decay=0.03, warmup=0.05),
        task=Classify(Sigmoid()),
        rows=256,
        steps=240_000,
        eval_every=20_000,
        save_every=5_000,
    )


def imagenet_b16() -> Config:
    """B/16 on an ImageNet-1k folder: `python train.py imagenet-b16 --data.root DIR`. Computed, not measured:

    94 M parameters, 314 M images in 240,000 steps of 65,536 tokens, 8.7e18 FLOPs. Memory 1.4 GiB for parameters
    and optimizer, about 35 GiB for activations. 8 hours on an H200 at 40 % of 790 TFLOP/s if fed 11,400 images/s;
    12 workers that read 700 images/s each make it 10 hours.
    """
    return replace(imagenet_s16(), model=variant("B/16"))


PRESETS = {
    "digits": digits,
    "digits-flexi": digits_flexi,
    "digits-large": large_digits,
    "digits-square": digits_square,
    "digits-vit": digits_vit,
    "digits-hierarchy": digits_hierarchy,
    "folder": folder,
    "caltech101": caltech101,
    "caltech101-flexi": caltech101_flexi,
    "caltech101-vit": caltech101_vit,
    "grocery": grocery,
    "imagenet-s16": imagenet_s16,
    "imagenet-b16": imagenet_b16,
    **CONTRAST,
    **VIDEO,
    **DETECT,
    **SEGMENT,
}


FINE_TUNING = 0.1  # Choice: docs/finetuning.md


# Tasks → the preset and the source that read folders for them.
READERS = {
    "Detect": ("detect", "boxed"),
    "Segment": ("segment", "masks"),
    "Contrast": ("contrast", "captions"),
    "MultiLabel": ("folder", "labelsets"),
}


def adapted(config: Config, arguments: Sequence[str]) -> Config:
    """A preset with the defaults that other options of the command line ask for.   Raises ConfigError."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    return undrawn(timed(fine_tuned(config, words), words), words)


def timed(config: Config, words: Sequence[str]) -> Config:
    """The default of a command that says how long: minutes alone decide on the steps, and steps alone on the length.

    Raises ConfigError where both are given.
    """
    given = {word: after for word, after in zip(words, [*words[1:], ""]) if word in ("--steps", "--minutes")}
    numbers = [word for word, after in given.items() if after.lower() != "auto"]
    if len(numbers) == 2:
        raise ConfigError(f"--steps {given['--steps']} and --minutes {given['--minutes']}: leave out one of them")
    if numbers == ["--minutes"]:
        return replace(config, steps=None)
    return replace(config, minutes=None) if numbers == ["--steps"] else config


def fine_tuned(config: Config, words: Sequence[str]) -> Config:
    """The default of a start from saved weights: a tenth of the learning rate, unless the backbone is frozen."""
    start = next((after for word, after in zip(words, words[1:]) if word == "--start"), "")
    if not start or start.rpartition("@")[2].isdecimal() or "--optim.frozen" in words:
        return config
    return replace(config, optim=replace(config.optim, lr=config.optim.lr * FINE_TUNING))


def undrawn(config: Config, words: Sequence[str]) -> Config:
    """The default of images that are embedded once: no augmentation, no dropping."""
    if "--data.embedded" not in words:
        return config
    return with_data(config, augment=Augment(), dropping=Constant(0.0))
