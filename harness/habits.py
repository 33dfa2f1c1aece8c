"""Answers to options of other programs, and to a folder where a preset is expected."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data.plan import NOTHING
from data.sampling.packing import Template
from data.sampling.patch_size import OneSize
from data.sampling.resolution import Clips
from data.sources.generated import Generated
from navit_eqx.errors import ConfigError

from .cli import check_used
from .config import Config, DataConfig
from .presets import PRESETS, READERS
from .run.warm_start import ADDED, FREE

# Words of other programs, without dashes → what to write here. Options are named in full: a test looks them up.
SIZES = "img-size image-size input-size imgsz size resolution"
BATCHES = "batch-size batch bs b per-device-train-batch-size"
DATA = {
    "data data-dir data-path dataset data-root train-dir root dir images input": "--data.root DIR",
    "workers num-workers j": "--data.workers N",
    "output output-dir out-dir save-dir log-dir logdir": "--out DIR",
}
TRAINING = DATA | {
    SIZES: "--data.resolution.lo and --data.resolution.hi, sides in pixels; images keep their aspect ratio",
    BATCHES: "--rows N: a batch is N packed rows; how many images a row holds is printed at the start",
    "epochs num-epochs max-epochs num-train-epochs e": "--steps N, by default chosen from the number of images; the "
    "passes over the images are printed",
    "max-steps num-steps iterations iters": "--steps N",
    "lr learning-rate base-lr max-lr": "--optim.lr",
    "wd weight-decay": "--optim.weight-decay",
    "opt optimizer optim": "--optim.rule adamw, muon or adafactor",
    "momentum beta1 betas": "--optim.rule.b1",
    "sched scheduler lr-scheduler": "--optim.schedule cosine or rsqrt",
    "warmup warmup-steps warmup-epochs warmup-ratio": "--optim.warmup, a share of the run, or steps from 1 on",
    "clip-grad grad-clip max-grad-norm clip": "--optim.clip",
    "grad-accum gradient-accumulation-steps accum-iter accumulate": "--optim.accumulate",
    "model-ema ema ema-decay": "--optim.ema",
    "freeze freeze-backbone frozen linear-probe": "--start RUN --optim.frozen backbone",
    "layer-decay llrd": "--optim.layers layerdecay --optim.layers.decay 0.75",
    "pretrained checkpoint ckpt weights finetune init-from initial-checkpoint": "--start RUN, a run or a saved model",
    "resume resume-from-checkpoint continue": "the same command: it continues an interrupted run; --name chooses the "
    "run",
    "model arch architecture backbone": "--model.width, --model.depth, --model.heads and --model.mlp-width",
    "patch-size patch": "--model.patch 16 16",
    "num-classes classes nb-classes": "nothing: classes are the folders below --data.root",
    "drop-path dropout stochastic-depth": "--model.stochastic-depth",
    "smoothing label-smoothing": "--task.loss.smoothing",
    "mixup cutmix": "--data.augment.mix mix",
    "amp fp16 bf16 precision half dtype": "--model.dtype bfloat16, the default on accelerators",
    "gpus gpu device devices num-gpus": "nothing: all devices are used; JAX_PLATFORMS=cpu or CUDA_VISIBLE_DEVICES "
    "chooses",
    "eval-freq eval-interval eval-steps": "--eval-every STEPS",
    "save-freq save-interval save-steps": "--save-every STEPS",
    "wandb use-wandb log-wandb": "--logger wandb",
    "tensorboard": "--logger tensorboard",
    "exp-name experiment run-name project": "--name NAME",
}
EVALUATION = DATA | {
    SIZES: "--resolutions R1 R2, in the unit of the run",
    BATCHES: "nothing: images are packed into the rows of the run",
    "checkpoint ckpt weights model resume pretrained": "the folder of the run, first: python evaluate.py RUN",
    "linear-probe": "--studies probe",
}


def answer(arguments: Sequence[str], table: dict[str, str]) -> str:
    """The answer to the first option of another program; empty where there is none."""
    answers = {word: what for words, what in table.items() for word in words.split()}
    for word in (argument.partition("=")[0] for argument in arguments if argument.startswith("-")):
        what = answers.get(word.lstrip("-").replace("_", "-").lower())
        if what and "." not in word:
            return f"no option {word}; here it is {what}"
    return ""


def answer_habits(arguments: Sequence[str], table: dict[str, str]) -> None:
    """Exit with code 2 and an answer where an option is that of another program."""
    if found := answer(arguments, table):
        sys.exit(refused(found))


def answer_folder(word: str, rest: Sequence[str]) -> None:
    """Exit with code 2 and the right command where a folder stands in place of a preset."""
    if word not in PRESETS and Path(word).is_dir():
        more = "".join(f" {argument}" for argument in rest)
        sys.exit(refused(f"{word} is a folder, not a preset: python train.py folder --data.root {word}{more}"))


def refused(message: str) -> int:
    """Print an error of the command line; its exit code."""
    print(f"error: {message}", file=sys.stderr)
    return 2


def check_obeyed(default: Config, config: Config) -> None:
    """Raises ConfigError where an option was given that the rest of the command makes ineffective."""
    check_read(config.data, type(config.task).__name__, "python train.py {preset} --data.root {root}, or ")
    if config.start:
        changed = [f"model.{name}" for name in fixed_by_start(default.model, config.model)]
        if changed:
            raise ConfigError(
                f"{', '.join(changed)} was given, but --start takes the shape of the model in {config.start}: leave "
                "out one of them"
            )
    check_used(config, default, idle(config))


def check_read(data: DataConfig, task: str, way: str = "") -> None:
    """Raises ConfigError where a folder is given and the source reads none, with the source for a task that does."""
    if not (isinstance(data.source, Generated) and data.root):
        return
    clips = isinstance(data.resolution, Clips)
    preset, source = READERS.get(task, ("folder", "clipfolder" if clips else "folder"))
    way = "" if clips else way.format(preset=preset, root=data.root)
    raise ConfigError(
        f"data.root={data.root}, but {data.source.WHAT} are embedded, and no folder is read: "
        f"{way}--data.source {source}"
    )


def idle(config: Config) -> Iterator[tuple[str, str]]:
    """Options that change nothing beside the others, and what would make them count."""
    data, flexi = config.data, config.model.flexi
    if data.dropping == NOTHING and not isinstance(data.packing.rule, Template):
        yield "data.token_selection", "it selects the tokens that are kept, and all are: --data.dropping beta"
        if data.packing.fill == "rate":
            yield "data.packing.fill", "rows are filled by dropping less, and nothing is dropped: --data.dropping beta"
    if data.merge is None and not config.start:
        for name in ("levels", "detail", "areas"):
            yield f"model.{name}", "patches of several sizes are those of --data.merge merge"
    if flexi and flexi.sizes and data.patch_sizes == OneSize() and not config.start:
        yield (
            "model.flexi",
            "all images have the patch of the model: --data.patch-sizes perimage draws one of the sizes",
        )


def fixed_by_start(default: Any, model: Any) -> list[str]:
    """Fields of a model configuration that a start decides, and that differ from the default."""
    free = (*FREE, "flexi", *ADDED, *(("patch",) if model.flexi else ()))
    return [name for name in vars(model) if name not in free and getattr(model, name) != getattr(default, name)]
