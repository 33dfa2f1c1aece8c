"""A run as one frozen dataclass, and presets: functions that return one."""

from dataclasses import dataclass, field, replace
from typing import Literal

from data.decode import Decoding, Shrunk
from data.laws import (
    AtRandom,
    Augment,
    Beta,
    Choosing,
    Constant,
    Dropping,
    Mix,
    Native,
    OneSize,
    OneSquare,
    PatchSizes,
    PerImage,
    Resolution,
    Sides,
    Square,
)
from data.plan import Packing
from data.records import Cached
from data.sources import Digits, Folder, Parquet
from navit_eqx import config as sizes
from navit_eqx.config import Factorised, Flexi, Mean, ModelConfig, Rope
from navit_eqx.config_json import check
from navit_eqx.config_training import FSDP, Cosine, DataParallel, Loss, Muon, OptimConfig, Rsqrt, Sigmoid, Softmax


@dataclass(frozen=True)
class DataConfig:
    """Images, and how they are seen."""

    source: Digits | Folder | Parquet | Cached = Folder()
    root: str = ""
    """Folder of the images."""
    resolution: Resolution = Sides(0, 0)
    """At which size training images are seen; sides of 0 are chosen from the data."""
    patch_sizes: PatchSizes = OneSize()
    """In patches of which size they are cut; evaluation takes the model's own."""
    dropping: Dropping = Constant(0.0)
    """Share of tokens dropped in training; evaluation drops none."""
    choosing: Choosing = AtRandom()
    """Which tokens stay."""
    augment: Augment = Augment()
    decoding: Decoding = Shrunk()
    """How large training images are decoded; evaluation decodes them whole."""
    packing: Packing = Packing()
    val_resolution: float = 0
    """At which size accuracy is reported; 0 is the largest seen in training."""
    eval_resolutions: tuple[float, ...] = ()
    """Sizes of the final sweep; empty chooses five around those seen in training."""
    max_unreadable: float = 0.01
    """Share of images that may be unreadable before the run stops."""
    memory: float = 0.0
    """GiB of decoded training images that each process keeps; a set that fits is decoded once."""
    workers: int = 0
    """Processes that read images; 0 reads them in threads of the main one."""


@dataclass(frozen=True)
class TensorBoard:
    """Event files in the run's folder, for `tensorboard --logdir runs`; needs the extra `tensorboard`."""


@dataclass(frozen=True)
class Wandb:
    """A run of Weights & Biases; needs the extra `wandb`. With WANDB_MODE=offline it stays on this machine."""

    project: str = "navit"


@dataclass(frozen=True)
class Config:
    """Everything a run depends on."""

    model: ModelConfig = field(default_factory=sizes.ti)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: Loss = Softmax()
    rows: int = 16
    """Rows in a batch, B, over all devices."""
    steps: int = 0
    """Training steps; 0 chooses from the number of images."""
    start: str = ""
    """A run, or a folder with a model, to start from: its shape and parameters; a classifier of other classes starts
    anew. RUN@STEP branches off: parameters, optimiser and step of that save. Empty starts from scratch."""
    seed: int = 0
    mesh: DataParallel | FSDP = DataParallel()
    """What lies on which device; rows are always split over all of them."""
    distributed: Literal["auto", "on", "off"] = "auto"
    """One of several processes: on, off, or where a launcher says so (Slurm, MPI, Kubernetes, TPU pod, variables)."""
    log_every: int = 50
    logger: TensorBoard | Wandb | None = None
    """Where numbers go beside metrics.jsonl."""
    eval_every: int = 0
    """Steps between evaluations; 0 evaluates at the end alone."""
    save_every: int = 500
    """Steps between saves, from which the same command continues; 0 saves only when stopped."""
    keep: int = 2
    """Saves to keep."""
    max_refused: int = 10
    """Steps in a row that are not finite, or spikes, after which the run ends."""
    override: bool = False
    """Continue an unfinished run with another learning rate, number of steps, …; see ON_REQUEST."""
    out: str = "runs"
    name: str = ""
    """Folder of the run inside `out`; empty takes the preset's name."""

    def __post_init__(self):
        check(self.rows >= 1, f"rows must be at least 1, got {self.rows}")
        check(self.steps >= 0, f"steps must not be negative, got {self.steps}")
        for name in ("log_every", "keep", "max_refused"):
            check(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        check(self.save_every >= 0, f"save_every must not be negative, got {self.save_every}")


# What a command may change of the unfinished run that it continues. A key stands for all below it that are not named.
FREELY = {
    *("log_every", "logger", "eval_every", "save_every", "keep", "max_refused", "override", "out", "name"),
    *("data.root", "data.memory", "data.workers", "data.max_unreadable", "data.val_resolution"),
    *("data.eval_resolutions", "loss.teacher", "mesh", "distributed"),
}
ON_REQUEST = {
    *("steps", "loss", "model.attention", "model.remat", "model.unroll", "model.dtype"),
    "model.stochastic_depth",
    *("optim.lr", "optim.schedule", "optim.warmup", "optim.weight_decay", "optim.head_decay", "optim.clip"),
    "optim.accumulate",
}
NEVER = {
    *("model", "rows", "seed", "start", "loss.row_tokens", "loss.digest", "optim.rule", "optim.ema", "optim.skip"),
    *("data.source", "data.resolution", "data.patch_sizes", "data.dropping", "data.choosing", "data.augment"),
    *("data.packing", "data.decoding"),
}


def digits() -> Config:
    """Digit strips at their own aspect ratio; embedded data, a few minutes on a laptop."""
    return Config(
        model=ModelConfig(8, width=64, depth=3, heads=4, mlp_width=256, posembed=Factorised(40), unroll=3),
        data=DataConfig(
            source=Digits(),
            resolution=Native(0.8, 1.4),
            packing=Packing(row_tokens=96, row_images=16),
            val_resolution=1.2,
            eval_resolutions=(0.8, 1.0, 1.2, 1.4, 1.6),
        ),
        optim=OptimConfig(lr=2e-3, schedule=Cosine(), weight_decay=0.05),
        rows=16,
        steps=3000,
        log_every=100,
    )


def digits_flexi() -> Config:
    """The same strips in patches of 4 to 14 pixels, all sizes in one packed row: one model for every token budget.

    Fine patches make images dear, so there are half as many, and the optimiser is one that needs few.
    """
    base = digits()
    return replace(
        base,
        model=replace(base.model, posembed=Factorised(16, "fractional"), flexi=Flexi((4, 6, 8, 10, 12, 14))),
        data=replace(base.data, patch_sizes=PerImage(), packing=Packing(row_tokens=416, row_images=48)),
        optim=replace(base.optim, rule=Muon(), lr=1e-2),
        rows=4,
        steps=2000,
    )


def digits_square() -> Config:
    """The same strips squeezed to squares of equal tokens: what a model with square inputs would see."""
    native = digits()
    return replace(native, data=replace(native.data, resolution=Square(Native(0.8, 1.4))))


def digits_vit() -> Config:
    """The baseline: a plain ViT on square strips of one size, one image a row, nothing packed."""
    square = digits_square()
    side = 8 * 6  # about the mean tokens of the digit strips
    return replace(
        square,
        data=replace(
            square.data,
            resolution=OneSquare(side),
            packing=Packing(row_tokens=36, row_images=1),
            val_resolution=side,
            eval_resolutions=(32, 40, 48, 56, 64),
        ),
        rows=42,
    )


def folder() -> Config:
    """Any folder of images, one class per sub-folder; sizes, row length and steps are chosen from the data."""
    return Config(
        model=ModelConfig(16, width=128, depth=5, heads=4, mlp_width=512, unroll=5),
        data=DataConfig(
            dropping=Beta(0.35, 0.7),
            augment=Augment(flip=True, crop=0.25, stretch=0.4, turn=0.25, jitter=0.4),
        ),
        optim=OptimConfig(rule=Muon(), lr=2e-3, schedule=Cosine(), weight_decay=0.3),
        loss=Softmax(0.1),
    )


def caltech101() -> Config:
    """Caltech-101 from scratch: `python train.py caltech101 --data.root DIR`. Few images, so all that helps against
    overfitting, and an optimiser that gets far in few of them: docs/real_images.md."""
    base = folder()
    return replace(
        base,
        model=replace(base.model, patch_size=8, rope=Rope(), pool=Mean(), stochastic_depth=0.1),
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
    """Caltech-101 in patches of 4 to 16 pixels, all sizes in one packed row: one model for every token budget."""
    base = caltech101()
    return replace(
        base,
        model=replace(base.model, posembed=Factorised(16, "fractional"), rope=None, flexi=Flexi((4, 6, 8, 10, 12, 16))),
        data=replace(base.data, patch_sizes=PerImage(), packing=Packing(row_tokens=336, row_images=48)),
        rows=6,
    )


def caltech101_vit() -> Config:
    """The baseline on Caltech-101: a plain ViT at 56 x 56, inception crops and flips, one image a row."""
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

    24 M parameters, 311 M images seen in 240,000 steps of 65,536 tokens, 2.3e18 FLOPs. Memory 0.4 GiB for parameters
    and optimiser, about 17 GiB for activations. 2 hours on an H200 at 40 % of 790 TFLOP/s if fed 43,000 images/s;
    12 workers that read 700 images/s each make it 10 hours.
    """
    return Config(
        model=replace(sizes.s(16)),
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
        loss=Sigmoid(),
        rows=256,
        steps=240_000,
        eval_every=20_000,
        save_every=5_000,
    )


def imagenet_b16() -> Config:
    """B/16 on an ImageNet-1k folder: `python train.py imagenet-b16 --data.root DIR`. Computed, not measured:

    94 M parameters, 314 M images seen in 240,000 steps of 65,536 tokens, 8.7e18 FLOPs. Memory 1.4 GiB for parameters
    and optimiser, about 35 GiB for activations. 8 hours on an H200 at 40 % of 790 TFLOP/s if fed 11,400 images/s;
    12 workers that read 700 images/s each make it 10 hours.
    """
    return replace(imagenet_s16(), model=sizes.b(16))


PRESETS = {
    "digits": digits,
    "digits-flexi": digits_flexi,
    "digits-square": digits_square,
    "digits-vit": digits_vit,
    "folder": folder,
    "caltech101": caltech101,
    "caltech101-flexi": caltech101_flexi,
    "caltech101-vit": caltech101_vit,
    "grocery": grocery,
    "imagenet-s16": imagenet_s16,
    "imagenet-b16": imagenet_b16,
}
