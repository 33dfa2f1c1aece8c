"""Evaluate a trained model.

    python evaluate.py runs/digits                             accuracy, cost and time over resolutions
    python evaluate.py runs/digits --resolutions 0.8 1.0 1.2
    python evaluate.py runs/digits --studies all               every study
    python evaluate.py runs/digits --studies aspect cascade    some studies
    python evaluate.py runs/digits --studies corruptions --compare runs/digits-square
    python evaluate.py runs/digits --patch-size 12             the same weights at another patch size
    python evaluate.py runs/digits --budget 5ms                the best setting within a budget, for predict.py
    python evaluate.py runs/folder --data.root DIR
    python evaluate.py dinov2-small --data.root DIR            a tower of another project: a probe of its features

Every option of `data` can be changed. Each study writes a table (CSV and JSON) and a picture into the run folder, or
into --out, and report.html shows all of them: docs/evaluation.md.
"""

from harness.cli import check_used, check_words, parse
from harness.exit_codes import run
from harness.process import find_temporary_folder, tune_allocator

if __name__ == "__main__":
    tune_allocator()
    find_temporary_folder()

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jax

from data.errors import DataError, UnknownClasses
from data.sources.source import Source, with_classes
from data.tasks import DataTask
from harness.config import Config, DataConfig
from harness.content import content
from harness.evaluation.budget import Budget, Choice, Reading, store
from harness.evaluation.label_map import SUITED, Mapped, answerable, read_map
from harness.evaluation.loaded import config_of, is_run
from harness.evaluation.predictions import Context, context_of
from harness.evaluation.report import write_report
from harness.evaluation.studies import chosen, publish_all, studies_of, suited
from harness.evaluation.studies.calibration import link_of
from harness.evaluation.studies.findings import cheapest_within
from harness.evaluation.studies.sweep import check_share, in_words
from harness.evaluation.studies.trade_off import AXES
from harness.habits import EVALUATION, answer_habits, check_read
from harness.lengths import Images
from harness.run.folder import read_config, read_saved
from harness.run.loading import open_source, task_of
from harness.run.trained import trained_model
from harness.working import working
from navit_eqx.config import Flexi
from navit_eqx.errors import check, check_in
from navit_eqx.files import make_folder
from navit_eqx.front import info_of
from reference.evaluation.label_map import How

USED = {  # options that count in some studies alone
    "compare": ("corruptions",),
    "patch_sizes": ("patches", "similarity", "trade_off"),
    "merge_rates": ("merge", "trade_off"),
}


@dataclass(frozen=True)
class Options:
    """Options of evaluation."""

    data: DataConfig
    """Images; by default those of the run."""
    split: Literal["auto", "train", "val", "test", "all"] = "auto"
    """Split of the images; auto: val for the images of the run, all for other images."""
    resolutions: tuple[float, ...] = ()
    """Resolutions, in the unit of data.resolution; empty: data.eval_resolutions of the run."""
    studies: tuple[str, ...] = ()
    """Studies besides those of every evaluation: aspect, upscaling, dropping, merge, probe, cascade, patches,
    similarity, crops, attributes, corruptions, or all."""
    compare: str = ""
    """Run or model folder on the same images, for the study `corruptions`; empty: none."""
    label_map: str = ""
    """CSV file with columns source and target: classes of the model that mean classes of the images; empty: equal
    names."""
    label_map_how: How = "mean"
    """What of its sources counts for a target: the mean, largest or total probability, or log Σ exp of their logits."""
    patch_size: int | None = None
    """Side of the patches in pixels, except in the studies `patches` and `similarity`; auto: the patch of the model."""
    patch_sizes: tuple[int, ...] = ()
    """Patch sizes of the studies `patches` and `similarity`, in pixels; empty: the sizes of the model."""
    merge_rates: tuple[float, ...] = ()
    """Shares of the possible merges for the study `merge` and, as an axis, --budget; empty: 0.25, 0.5 and 0.75 for the
    study, and for --budget the rate of a run with merging, and 0."""
    within: float = 0.5
    """Largest loss against the best accuracy, in percentage points, for the cheapest setting printed at the end."""
    budget: str = ""
    """What an image may cost in the mean, such as 5ms or 2GFLOP: chooses resolution, patch size, merging and
    cascade, and stores the choice with the model, for predict.py."""
    out: str = ""
    """Folder for the results; empty takes the run folder."""

    def __post_init__(self):
        check_in("", "(0, inf)", resolutions=self.resolutions)
        check_in("", "[1, 2147483647]", patch_size=self.patch_size, patch_sizes=self.patch_sizes)
        check_in("", "[0, 100]", within=self.within)
        check_in("", "[0, 1]", merge_rates=self.merge_rates)
        check(
            not (self.budget and self.label_map), "--budget chooses for the classes of the model: not with --label-map"
        )
        check(
            bool(self.label_map) or self.label_map_how == "mean",
            "--label-map-how says how --label-map is read: give both",
        )
        if self.budget:
            Budget.parse(self.budget)


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0].startswith("-"):
        print(__doc__ or "PYTHONOPTIMIZE=2 removes the help: docs/evaluation.md")
        sys.exit(0 if arguments[:1] in (["-h"], ["--help"]) else 2)
    check_words(arguments)
    answer_habits(arguments[1:], EVALUATION)
    folder = Path(arguments[0])
    config = config_of(folder)
    options = parse(Options, default=Options(config.data), args=arguments[1:], prog="evaluate.py RUN")
    check_read(options.data, type(config.task).__name__)
    if options.split == "auto":
        options = replace(options, split="val" if options.data.root == config.data.root else "all")
    evaluate(folder, replace(config, data=options.data), options)


def evaluate(folder: Path, config: Config, options: Options) -> None:
    """Run studies; write and print their findings."""
    model = trained_model(folder)
    if info_of(model).left_out:
        print(f"not read of {folder}: {info_of(model).left_out}")
    task = task_of(model)
    always = ("sweep",) if options.label_map else studies_of(task, model.config)
    budget = Budget.parse(options.budget) if options.budget else None
    names = (
        chosen((*options.studies, "trade_off"), always if options.studies else ())
        if budget
        else chosen(options.studies, always)
    )
    check_used(options, Options(options.data), idle(names))
    shape = model.config
    if options.patch_sizes:
        shape = replace(shape, flexi=Flexi(options.patch_sizes, shape.interpolation))
    config = replace(config, model=shape)
    with working("reading the images"):
        source = open_source(config, options.split)
    if options.label_map:
        check(hasattr(task, "truth"), f"--label-map: {type(task).__name__} has no class of an image, leave it out")
        source, task, names = mapped(options, source, config, info_of(model).classes, names)
    elif task.own_classes:
        source = in_classes(source, info_of(model).classes, task)
    config, found = content(config, Images(source.manifest, task))
    manifest = source.manifest
    print(f"{len(manifest)} images, {len(manifest.classes)} classes: {manifest.where}")
    for note in (*manifest.notes, *found):
        print(note)
    for name, why in manifest.set_aside:
        print(f"set aside {name}: {why}")
    out = Path(options.out) if options.out else folder_for(folder, config, options, source.manifest.digest)
    make_folder(out)
    resolutions = options.resolutions or (*config.data.eval_resolutions, config.data.reported_at)
    patch = (options.patch_size, options.patch_size) if options.patch_size else None
    context = context_of(model, config, source, task, tuple(sorted(set(resolutions))), patch)
    other = on_same_images(Path(options.compare), source, task.metric) if options.compare else None
    context = replace(context, other=other, budget=budget, merge_rates=options.merge_rates)
    outcomes = publish_all(names, context, out, ("sweep", "trade_off") if budget else ("sweep",))
    found = outcomes.rows
    aside = None if out == folder else {options.split: dict(source.manifest.set_aside)}
    print(f"\nall on one page: {write_report(out, folder, aside)}")
    if budget:
        print(settle(folder, context, info_of(model).digest, next(row for row in found["trade_off"] if row["chosen"])))
    for name in ("sweep", "cascade"):
        if name in found:
            best = choice(found[name], options.within, context.metric)
            print(f"cheapest within {options.within:g} points of the best ({name}): {best}")
    if "sweep" not in found:
        print(f"tables and pictures: {out}/")
        outcomes.check()
        return
    if not options.studies:
        print(f"more studies: --studies {' '.join(n for n in suited(always) if n not in always)}, or all")
    row = next((row for row in found["sweep"] if row["resolution"] == config.data.reported_at), found["sweep"][-1])
    print(f"resolution {row['resolution']:g}: {in_words(row, manifest)}\ntables and pictures: {out}/")
    check_share(row, manifest, config.data.max_unreadable)
    outcomes.check()


def idle(studies: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options that change nothing in these studies, and those in which they would count."""
    for option, used in USED.items():
        if not {*used} & {*studies}:
            asked = [f"--studies {' '.join(name for name in used if name != 'trade_off')}", "--budget AMOUNT"]
            yield option, f"it is for {' or '.join(asked[: 1 + ('trade_off' in used)])}"


def in_classes(source: Source, classes: tuple[str, ...], task: DataTask) -> Source:
    """The source with the classes of the model.   Raises DataError, with the way of a label map if an image has one."""
    try:
        return with_classes(source, classes)
    except UnknownClasses as error:
        advice = ", or say which classes of the model mean them, --label-map FILE" if hasattr(task, "truth") else ""
        raise DataError(f"{error}{advice}") from None


def mapped(
    options: Options, source: Source, config: Config, classes: tuple[str, ...], names: list[str]
) -> tuple[Source, DataTask, list[str]]:
    """Images that a label map can answer, the task with its answers, and the studies that look at scores alone."""
    labels = read_map(Path(options.label_map), classes, source.manifest.classes)
    left_out = [name for name in names if name not in SUITED]
    if left_out:
        print(f"not with a label map: {', '.join(left_out)}")
    task = Mapped(labels, link_of(config.task), options.label_map_how)
    return answerable(source, labels), task, [name for name in names if name in SUITED]


def on_same_images(folder: Path, source: Source, metric: str) -> Context:
    """Another model, sampled as in its own run.   Raises ConfigError or DataError where it reads no such images, or is
    measured otherwise."""
    model, config = trained_model(folder), config_of(folder)
    task, channels = task_of(model), source.manifest.channels
    check(task.metric == metric, f"--compare: {folder} is measured by {task.metric}, the model here by {metric}")
    check(
        model.config.channels == channels,
        f"{folder} reads {model.config.channels} channels, the images have {channels}",
    )
    return context_of(model, config, with_classes(source, info_of(model).classes) if task.own_classes else source, task)


def settle(folder: Path, context: Context, digest: str, row: dict) -> str:
    """Store the choice of a row of the study `trade_off` with the model; what was stored, in words."""
    budget = context.budget
    assert budget
    choice = Choice(
        budget=str(budget),
        first=Reading(**{axis.field: row[axis.field] for axis in AXES}),
        then=None if row["threshold"] is None else Reading(**{axis.field: row[f"then_{axis.field}"] for axis in AXES}),
        threshold=row["threshold"] or 0.0,
        cost=row["cost"] * budget.scale,
        metric=context.metric,
        score=row["score"],
        device=jax.devices()[0].device_kind,
        parameters=digest,
    )
    file = store(choice, folder)
    return f"stored in {file}: {choice.words()}\npredict.py {folder} reads images so; --choice none: as in training"


def folder_for(folder: Path, config: Config, options: Options, digest: str) -> Path:
    """Folder of the results: the run folder, or a subfolder for other images than those it was validated on.

    The digest knows names, sizes and labels, not pixels, so the place of the images counts too.
    """
    root = Path(options.data.root).resolve()
    name = f"{root.name or 'images'}-{options.split}-{short_hash(str(root), digest)}"
    if not is_run(folder):
        place = folder.resolve()
        return Path(config.out) / f"{place.name}-{short_hash(str(place))}" / "evaluations" / name
    known = read_saved(folder).get("images", [])[1:]
    same = root == Path(read_config(folder).data.root).resolve() and (digest in known or not known)
    return folder if same and options.split == "val" else folder / "evaluations" / name


def short_hash(*words: str) -> str:
    """Eight hexadecimal digits that tell things of one name apart."""
    return hashlib.sha256(repr(words).encode(errors="surrogateescape")).hexdigest()[:8]


def choice(rows: list[dict], points: float, metric: str) -> str:
    """The cheapest good setting, in words."""
    row = cheapest_within(rows, points)
    if "resolution" in row:
        how = f"resolution {row['resolution']:g}"
    elif row["better"] is None:
        how = f"resolution {row['cheap']:g} alone"
    else:
        how = f"resolution {row['cheap']:g}, then {row['better']:g} where confidence is below {row['threshold']:.3f}"
    return f"{how}: {metric} {row['score']:.3f} at {row['mean_gflops']:.3g} GFLOPs"


if __name__ == "__main__":
    run(main, "smaller --resolutions or --patch-size, fewer --data.workers, smaller --data.memory")
