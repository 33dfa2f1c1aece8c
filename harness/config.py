"""The configuration of a run as a frozen dataclass."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from data.embedded import Embedded
from data.sampling.augment import Augment
from data.sampling.balance import ByClass
from data.sampling.dropping import Constant, Dropping
from data.sampling.merge import Law, Merge, MergeByContent, MergeByThreshold, law_of
from data.sampling.packing import Packing
from data.sampling.patch_size import OneSize, PatchSizes
from data.sampling.resolution import Resolution, Sides
from data.sampling.token_selection import AtRandom, TokenSelection
from data.sources.boxed import Boxed
from data.sources.captions import Captions
from data.sources.clip_folder import ClipFolder
from data.sources.decode import Decoding, Shrunk
from data.sources.digit_boxes import DigitBoxes
from data.sources.digit_captions import DigitCaptions
from data.sources.digits import Digits
from data.sources.emoji import Emoji
from data.sources.folder import Folder
from data.sources.glyph_captions import GlyphCaptions
from data.sources.glyph_scenes import GlyphScenes
from data.sources.label_sets import LabelSets
from data.sources.masks import Masks
from data.sources.moving_digits import MovingDigits
from data.sources.parquet import Parquet
from data.sources.records import Cached
from navit_eqx.config import ModelConfig
from navit_eqx.errors import ConfigError, check, check_in
from navit_eqx.tasks.config import Classify, Task
from navit_eqx.training.config import FSDP, DataParallel, OptimConfig


@dataclass(frozen=True)
class DataConfig:
    """Images, sampling and packing."""

    source: (
        Digits
        | DigitBoxes
        | DigitCaptions
        | GlyphCaptions
        | GlyphScenes
        | MovingDigits
        | ClipFolder
        | Folder
        | LabelSets
        | Parquet
        | Captions
        | Boxed
        | Masks
        | Emoji
        | Cached
    ) = Folder()
    """Kind of the source of images."""
    root: str = ""
    """Folder of the images; the URL of one for tar and parquet shards."""
    resolution: Resolution = Sides()
    """Sampling of the resolution of training images."""
    patch_sizes: PatchSizes = OneSize()
    """Sampling of the patch size of training images; evaluation uses the patch size of the model."""
    merge: Merge | MergeByContent | MergeByThreshold | None = None
    """Merging of flat regions into larger patches, in training and evaluation; none: patches of an image are equal."""
    dropping: Dropping = Constant(0.0)
    """Sampling of the share of tokens dropped in training; evaluation drops none."""
    token_selection: TokenSelection = AtRandom()
    """Selection of the tokens that are kept."""
    augment: Augment = Augment()
    """Random changes of training images."""
    balance: ByClass | None = None
    """Repetition of the images of small classes in training; none: each image once in an epoch."""
    decoding: Decoding = Shrunk()
    """Size at which training images are decoded; evaluation decodes at full size."""
    packing: Packing = Packing()
    """Packing of images into rows."""
    val_resolution: float | None = None
    """Resolution at which validation metrics are reported, in the unit of `resolution`; auto: the largest in
    training."""
    eval_resolutions: tuple[float, ...] = ()
    """Resolutions of the final sweep, in the unit of `resolution`; empty: five, from the smallest in training to 1.25
    times the largest."""
    max_unreadable: float = 0.01
    """Largest share of unreadable images; above it the run ends with an error."""
    embedded: Embedded | None = None
    """Training on the vector that a frozen backbone gives of each image, computed once; none: on pixels."""
    memory: float = 0.0
    """Cache of decoded training images, in GiB per process; 0 turns it off."""
    workers: int = 0
    """Worker processes that read images; 0 reads images in the main process."""

    def __post_init__(self):
        check_in("data", "(0, inf)", val_resolution=self.val_resolution, eval_resolutions=self.eval_resolutions)
        check_in("data", "[0, 1]", max_unreadable=self.max_unreadable)
        check_in("data", "[0, inf)", memory=self.memory)
        check_in("data", "[0, 1024]", workers=self.workers)
        try:
            law_of(self.resolution, self.merge)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    @property
    def law(self) -> Law:
        """How grids of patches are planned: resolution and merging."""
        return law_of(self.resolution, self.merge)

    @property
    def reported_at(self) -> float:
        """Resolved `val_resolution`."""
        assert self.val_resolution is not None, "data.val_resolution is auto: call `harness.resolve.resolve` first"
        return self.val_resolution


@dataclass(frozen=True)
class TensorBoard:
    """Log event files to the run folder, for `tensorboard --logdir runs`; needs the extra `tensorboard`."""


@dataclass(frozen=True)
class Wandb:
    """Log to Weights & Biases; needs the extra `wandb`. WANDB_MODE=offline keeps the logs on this machine."""

    project: str = "navit"
    """Name of the project."""


@dataclass(frozen=True)
class Last:
    """The parameters after the last step."""


@dataclass(frozen=True)
class Best:
    """The parameters with the best validation score of all evaluations, the one after the last step included."""

    patience: int | None = None
    """Evaluations in a row without a better score after which training stops early; auto: it never does."""

    def __post_init__(self):
        check_in("select", "[1, 2147483647]", patience=self.patience)


@dataclass(frozen=True)
class Config:
    """Configuration of a run."""

    model: ModelConfig = ModelConfig()
    """Shape and arithmetic of the model."""
    data: DataConfig = field(default_factory=DataConfig)
    """Images, sampling and packing."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and learning-rate schedule."""
    task: Task = Classify()
    """Head, loss and metric."""
    rows: int = 16
    """B, rows in a batch over all devices."""
    steps: int | None = None
    """Training steps; auto: chosen from the number of images, or from `minutes`."""
    minutes: float | None = None
    """Minutes of training where `steps` is auto, as it is where `--minutes` is given: a step is timed first, and as
    many steps follow as fit, at most 200 passes over the images; auto: no limit."""
    start: str = ""
    """Run or model folder to start from: its shape and parameters; the head is initialized where the classes differ.
    RUN@STEP continues parameters, optimizer and step of a save of that run. Empty: start from scratch."""
    seed: int = 0
    """Seed of initialization, order, sampling and augmentation."""
    parallelism: DataParallel | FSDP = DataParallel()
    """Distribution of parameters over devices; rows are always split over all devices."""
    distributed: Literal["auto", "on", "off"] = "auto"
    """Training in several processes. auto: if a launcher has set it up (Slurm, MPI, Kubernetes, TPU pod, environment
    variables)."""
    log_every: int | None = None
    """Steps between lines of metrics; auto: a line every 10 seconds."""
    logger: TensorBoard | Wandb | None = None
    """Logger besides metrics.jsonl; none turns it off."""
    trace: int = 0
    """Steps to record with the profiler of JAX, after the first 20 or at the end of a shorter run, in RUN/trace/: for
    Perfetto or TensorBoard."""
    eval_every: int = 0
    """Steps between evaluations; 0 evaluates at the end only."""
    select: Last | Best = Last()
    """Parameters that are evaluated at the end and saved as the model."""
    save_every: int | None = None
    """Steps between checkpoints, from which the same command continues; auto: one every 2 minutes; 0 saves only when
    stopped."""
    keep: int = 2
    """Number of checkpoints to keep."""
    max_refused: int = 10
    """Refused steps in a row (not finite, or spikes) after which the run ends with an error."""
    override: bool = False
    """Allow another learning rate, number of steps and so on when an unfinished run is continued: docs/resume.md."""
    out: str = "runs"
    """Folder of run folders."""
    name: str = ""
    """Name of the run folder inside `out`; empty: the name of the preset."""

    def __post_init__(self):
        check_in("", "[1, 2147483647]", rows=self.rows, steps=self.steps)
        check(
            self.optim.accumulate == 1 or self.task.accumulates,
            f"optim.accumulate={self.optim.accumulate}, but the loss compares all images with all texts of a batch and "
            f"does not add up from parts: --task.parts {self.optim.accumulate} saves as much memory",
        )
        cuts = {"optim.accumulate": self.optim.accumulate, "task.parts": getattr(self.task, "parts", 1)}
        for name, count in cuts.items():
            check(self.rows % count == 0, f"rows={self.rows} must be a multiple of {name}={count}")
        check_in("", "(0, inf)", minutes=self.minutes)
        check_in("", "[0, 4294967295]", seed=self.seed)
        check_in("", "[1, 2147483647]", log_every=self.log_every, keep=self.keep, max_refused=self.max_refused)
        check_in("", "[0, 2147483647]", eval_every=self.eval_every, save_every=self.save_every, trace=self.trace)

    @property
    def total_steps(self) -> int:
        """Resolved number of training steps."""
        assert self.steps is not None, "steps is auto: call `harness.resolve.resolve` first"
        return self.steps


def with_data(config: Config, **fields: Any) -> Config:
    """The configuration with changed fields of `data`."""
    return replace(config, data=replace(config.data, **fields))
