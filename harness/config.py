"""A run as one frozen dataclass, and presets: functions that return one."""

from dataclasses import dataclass, field
from typing import Literal

from data.sampling.augment import Augment
from data.sampling.dropping import Constant, Dropping
from data.sampling.packing import Packing
from data.sampling.patch_size import OneSize, PatchSizes
from data.sampling.resolution import Resolution, Sides
from data.sampling.token_selection import AtRandom, TokenSelection
from data.sources.decode import Decoding, Shrunk
from data.sources.digits import Digits
from data.sources.folder import Folder
from data.sources.label_sets import LabelSets
from data.sources.parquet import Parquet
from data.sources.records import Cached
from navit_eqx.config import ModelConfig
from navit_eqx.errors import check_in
from navit_eqx.tasks.config import Classify, Task
from navit_eqx.training.config import FSDP, DataParallel, OptimConfig


@dataclass(frozen=True)
class DataConfig:
    """Images, and how they are seen."""

    source: Digits | Folder | LabelSets | Parquet | Cached = Folder()
    root: str = ""
    """Folder of the images."""
    resolution: Resolution = Sides()
    """At which size training images are seen."""
    patch_sizes: PatchSizes = OneSize()
    """In patches of which size they are cut; evaluation takes the model's own."""
    dropping: Dropping = Constant(0.0)
    """Share of tokens dropped in training; evaluation drops none."""
    token_selection: TokenSelection = AtRandom()
    """Which tokens stay."""
    augment: Augment = Augment()
    decoding: Decoding = Shrunk()
    """How large training images are decoded; evaluation decodes them whole."""
    packing: Packing = Packing()
    val_resolution: float | None = None
    """At which size accuracy is reported; auto: the largest seen in training."""
    eval_resolutions: tuple[float, ...] = ()
    """Sizes of the final sweep; empty chooses five around those seen in training."""
    max_unreadable: float = 0.01
    """Share of images that may be unreadable before the run stops."""
    memory: float = 0.0
    """GiB of decoded training images that each process keeps; a set that fits is decoded once."""
    workers: int = 0
    """Processes that read images; 0 reads them in threads of the main one."""

    def __post_init__(self):
        check_in("data", "(0, inf)", val_resolution=self.val_resolution, eval_resolutions=self.eval_resolutions)
        check_in("data", "[0, 1]", max_unreadable=self.max_unreadable)
        check_in("data", "[0, inf)", memory=self.memory)
        check_in("data", "[0, 1024]", workers=self.workers)

    @property
    def reported_at(self) -> float:
        """`val_resolution`, no longer left open."""
        assert self.val_resolution is not None, "chosen from the data before anything is evaluated"
        return self.val_resolution


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

    model: ModelConfig = ModelConfig()
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    task: Task = Classify()
    rows: int = 16
    """Rows in a batch, B, over all devices."""
    steps: int | None = None
    """Training steps; auto: chosen from the number of images."""
    start: str = ""
    """A run, or a folder with a model, to start from: its shape and parameters; a classifier of other classes starts
    anew. RUN@STEP branches off: parameters, optimiser and step of that save. Empty starts from scratch."""
    seed: int = 0
    parallelism: DataParallel | FSDP = DataParallel()
    """Which device holds which parameters; rows are always split over all of them."""
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
        check_in("", "[1, 2147483647]", rows=self.rows, steps=self.steps)
        check_in("", "[0, 4294967295]", seed=self.seed)
        check_in("", "[1, 2147483647]", log_every=self.log_every, keep=self.keep, max_refused=self.max_refused)
        check_in("", "[0, 2147483647]", eval_every=self.eval_every, save_every=self.save_every)

    @property
    def total_steps(self) -> int:
        """Training steps, no longer left open."""
        assert self.steps is not None, "steps are chosen from the data before anything is trained"
        return self.steps
