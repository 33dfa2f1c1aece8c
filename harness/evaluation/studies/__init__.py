"""Studies of a trained model: functions of a `Context` that return `Findings`. See docs/evaluation.md.

sweep.py        accuracy, cost and time at each resolution
mistakes.py     accuracy by class, confusion, mistakes of the highest confidence
aspect.py       aspect ratio kept or squashed to a square, at equal tokens
upscaling.py    small images enlarged to the resolution or kept at native size
dropping.py     smaller images or dropped tokens, at equal tokens
merge.py        merged patches, smaller images or dropped tokens, at equal tokens
calibration.py  confidence against accuracy at each resolution, before and after temperature scaling
probe.py        linear probe of frozen features from k labeled images per class
cascade.py      a cheap prediction for all images, a second one where confidence is low
trade_off.py    the best resolution, patch size, rate of merging and cascade within a budget
patches.py      accuracy and cost at each resolution and patch size, and of ensembles
similarity.py   similarity of tokens across patch sizes, layer by layer
attention.py    maps of attention, and how far it reaches, layer by layer
retrieval.py    texts found by images and images by texts
zeroshot.py     classes named by texts that were never classes in training
detections.py   average precision by class and size of boxes, the worst images
masks.py        IoU by class, the worst masks on their photographs
crops.py        whole images or their middle, aspect kept or squashed
attributes.py   linear probes of attributes, native aspect ratio and squares
corruptions.py  accuracy on corrupted images, consistency of errors with a second model
frames.py       accuracy and cost of clips over frames and resolution
leaks.py        a label of motion without motion: controls
findings.py     result of a study, comparisons of two settings
"""

import difflib
import re
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from data.errors import DataError
from data.tasks import DataTask
from navit_eqx.config import ModelConfig
from navit_eqx.errors import ConfigError

from ...run.folder import write_json
from ...working import working
from ..predictions import Context
from ..tables import table, write_csv
from .aspect import aspect
from .attention import attention
from .attributes import attributes
from .calibration import calibration
from .cascade import cascade
from .corruptions import corruptions
from .crops import crops
from .detections import detections
from .dropping import dropping
from .findings import Findings, Published, record
from .frames import frames
from .leaks import leaks
from .masks import masks
from .merge import merge
from .mistakes import mistakes
from .patches import patches
from .probe import probe
from .retrieval import retrieval
from .similarity import similarity
from .sweep import sweep
from .trade_off import trade_off
from .upscaling import upscaling
from .zeroshot import zeroshot

Study = Callable[[Context], Findings]
ALL = (
    *(sweep, mistakes, calibration, attention, aspect, upscaling, dropping, merge, probe, cascade, patches, similarity),
    *(crops, attributes, corruptions),
    *(retrieval, zeroshot, detections, masks, frames, leaks, trade_off),
)
OF_CLIPS = ("frames", "leaks")
OF_IMAGES = ("patches", "similarity", "crops", "corruptions", "merge")  # on a grid of two axes
OF_ONE_LENGTH = ("attention", "similarity")  # of models whose blocks all have the same tokens
OF_ONE_TASK = ("retrieval", "zeroshot", "detections", "masks", *OF_CLIPS)
ON_REQUEST = ("trade_off",)  # with --budget
STUDIES: dict[str, Study] = {study.__name__: study for study in ALL}


def studies_of(task: DataTask, model: ModelConfig) -> tuple[str, ...]:
    """Names of the studies of every evaluation: those of the task that suit the model; of clips, those of clips too."""
    if model.stages is not None:
        return tuple(name for name in task.studies if name not in OF_ONE_LENGTH)
    if model.tubelets is None:
        return task.studies
    return (*(name for name in task.studies if name not in OF_IMAGES), *OF_CLIPS)


def chosen(names: Sequence[str], always: Sequence[str]) -> list[str]:
    """Names of the studies to run: those of `always` and `names`; "all": every study.   Raises ConfigError."""
    for name in names:
        if name not in STUDIES and name != "all":
            near = difflib.get_close_matches(name, [*STUDIES, "all"], n=1)
            hint = f", did you mean {near[0]}?" if near else "."
            raise ConfigError(f"no study {name!r}{hint} Studies: {', '.join(STUDIES)}, all")
    return [name for name in STUDIES if name in always or name in names or ("all" in names and name in suited(always))]


def suited(always: Sequence[str]) -> list[str]:
    """Names of the studies that suit a task with these studies: those of one task suit what always has them."""
    return [name for name in STUDIES if name in always or name not in (*OF_ONE_TASK, *ON_REQUEST)]


def publish(name: str, context: Context, folder: Path) -> Findings:
    """Run a study; print its table and summary, write `name.csv`, `name.json` and its picture into `folder`."""
    if name in OF_IMAGES and context.config.model.tubelets:
        raise ConfigError("this study is of images, and the model reads clips")
    if name in OF_ONE_LENGTH and context.config.model.stages:
        raise ConfigError("this study compares blocks token by token, and stages of the model differ in tokens")
    with working(name):
        findings = STUDIES[name](context)
    rows = [named(row, context.task.metric) for row in findings.rows]
    print(f"\n{findings.title}\n\n{table(rows[: findings.most])}\n\n{findings.summary}", flush=True)
    write_csv(folder / f"{name}.csv", rows)
    write_json(folder / f"{name}.json", rows)
    with working(f"drawing {findings.picture}"):
        findings.draw(folder / findings.picture)
    record(name, Published(findings.title, findings.summary, findings.picture), folder)
    return findings


class Outcomes(NamedTuple):
    """Rows of the studies that succeeded, by name, and the errors of those that failed without a known reason."""

    rows: dict[str, list[dict]]
    failed: dict[str, Exception]

    def check(self) -> None:
        """Raise the first error, after all that could be done is done."""
        for error in self.failed.values():
            raise error


def publish_all(names: Sequence[str], context: Context, folder: Path, needed: Sequence[str] = ("sweep",)) -> Outcomes:
    """Run studies. One that is not possible, or fails, is reported and the others continue; those that are `needed`
    must succeed.

    The traceback of a failure is in `NAME-error.txt`: it is a fault of the program, or of the machine.
    """
    rows: dict[str, list[dict]] = {}
    failed: dict[str, Exception] = {}
    for name in names:
        report = folder / f"{name}-error.txt"
        with suppress(OSError):
            report.unlink(missing_ok=True)
        try:
            rows[name] = publish(name, context, folder).rows
            if name == "sweep":
                context = where_images_fit(context, rows[name])
        except Exception as error:  # of any kind: an hour of training and the other studies must not be lost
            if name in needed:
                raise
            if isinstance(error, ConfigError | DataError):
                print(f"\n{name}: not possible, {error}", flush=True)
                record(name, Published(impossible=str(error)), folder)
                continue
            failed[name] = error
            print(f"\n{name}: failed, {type(error).__name__}: {error}; traceback: {report}", flush=True)
            with suppress(OSError):
                record(name, Published(impossible=f"failed, {type(error).__name__}: {error}"), folder)
                report.write_text("".join(traceback.format_exception(error)))
    return Outcomes(rows, failed)


def where_images_fit(context: Context, sweep: Sequence[dict]) -> Context:
    """Without the resolutions at which the sweep found no image that fits and can be read; they are said."""
    none = [row["resolution"] for row in sweep if not row["images"]]
    if not none:
        return context
    print(f"\nno image can be evaluated at resolution {', '.join(f'{r:g}' for r in none)}: left out of other studies")
    return replace(context, resolutions=tuple(r for r in context.resolutions if r not in none))


def named(row: dict, metric: str) -> dict:
    """A row with `score` in column names replaced by the name of the metric."""
    return {re.sub(r"(^|_)score(?=_|$)", rf"\1{metric}", key): value for key, value in row.items()}
