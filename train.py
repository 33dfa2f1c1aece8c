"""Train NaViT.

    python train.py                                         digit strips, embedded, minutes on a laptop CPU
    python train.py digits-square                           the same strips squashed to squares
    python train.py folder --data.root DIR                  any folder of images
    python train.py caltech101 --data.root DIR --steps 100  a preset and any option
    python train.py doctor caltech101 --data.root DIR       check data, devices and disk; nothing is written

`python train.py PRESET --help` lists all options. A run writes `runs/<name>/`: docs/run_folder.md.
The same command continues an interrupted run: docs/resume.md.
"""

from harness.process import find_temporary_folder, tune_allocator

if __name__ == "__main__":
    tune_allocator()
    find_temporary_folder()

import difflib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax

from data.check import undecodable
from data.plan import Plan
from data.segments import prefix_of
from data.sources.source import Source
from data.tasks import TASKS
from harness import doctor
from harness.cli import parse
from harness.config import Config
from harness.evaluation import pictures
from harness.evaluation.clip_pictures import draw_tubelets
from harness.evaluation.learning_curve import draw_learning_curve
from harness.evaluation.loaded import merging_of
from harness.evaluation.predictions import Context, context_of
from harness.evaluation.report import write_report
from harness.evaluation.studies import named, publish_all, studies_of
from harness.evaluation.studies.sweep import in_words
from harness.exit_codes import run as run_program
from harness.habits import TRAINING, answer_folder, answer_habits, check_obeyed
from harness.presets import PRESETS, adapted
from harness.process import enable_compilation_cache
from harness.run.ahead import look_ahead, resolutions_of
from harness.run.attention import shape_for
from harness.run.embedded import rows_to_train
from harness.run.folder import BLOCKS, SUMMARY, acquire_run_dir, check_place, write_config, write_sealed
from harness.run.loading import check_left_out, training_batches, training_rows
from harness.run.opened import Opened, opened, within_minutes
from harness.run.program import program_of
from harness.run.resume import reconcile, resume_at
from harness.run.selection import check_selection
from harness.run.stream import Stream
from harness.run.trace import Trace
from harness.run.training import Training, first_state, progress_of, score_text
from harness.terminal import clock
from harness.working import working
from navit_eqx import ModelInfo, save_model
from navit_eqx.errors import check
from navit_eqx.preprocessing import Preprocessing, size_rule
from navit_eqx.serialize import encode
from navit_eqx.training import hosts
from navit_eqx.training.checkpoints import Checkpointer
from navit_eqx.training.sharding import data_mesh
from reference.rows import Row

PICTURED_ROWS = 5
NO_HELP = "PYTHONOPTIMIZE=2 removes the help: docs/run_folder.md"


def main() -> None:
    if sys.argv[1:2] == ["doctor"]:
        preset, config = command_line(sys.argv[2:])
        sys.exit(doctor.examine(doctor.Case(config, preset)))
    preset, config = command_line(sys.argv[1:])
    hosts.initialize_distributed(config.distributed)
    train(config, preset)


def train(config: Config, preset: str) -> None:
    """Train and evaluate a model, and write its run folder."""
    mesh = data_mesh()
    enable_compilation_cache()
    check_selection(config)
    check_place(config)
    check(config.rows % mesh.size == 0, f"rows={config.rows} must be a multiple of the {mesh.size} devices")

    # data, run folder, plan -------------------------------------------------------------------------
    run = opened(config)
    folder, lock = acquire_run_dir(config.out, config.name, preset)
    run = within_minutes(run, folder, mesh)
    config, images = run.config, run.images
    with working("planning the first rows"):
        planned = training_rows(config, images, run.task, folder / BLOCKS)
        plan = planned.epochs.locate(0)[1]
    introduce(run, folder, plan)

    # program, state of this run or of an interrupted one --------------------------------------------
    checkpointer = Checkpointer(folder / "checkpoints", config.keep)
    changed = reconcile(folder, config, images.manifest) if checkpointer.steps else []
    shape, found = shape_for(config, plan, folder)
    for note in found:
        print(f"attention: {note}", flush=True)
    program = program_of(replace(config, model=shape), run.prepared, mesh)
    state, position = first_state(run, program, checkpointer)
    start = int(state.step)
    history = resume_at(folder, config, images.manifest, start, position, changed)
    if hosts.is_main_process():
        info, manifests = info_of(config, images), (images.manifest, run.val.manifest)
        write_config(folder, config, preset, history, shape.attention, info, manifests)
        picture([planned[r] for r in range(min(PICTURED_ROWS, config.rows))], config, folder)

    # training ---------------------------------------------------------------------------------------
    progress = progress_of(run, folder, planned, (state, position))
    training = Training(run, program, checkpointer, progress, (state, position), lock, mesh)
    host = {"host": jax.process_index(), "hosts": jax.process_count(), "workers": config.data.workers}
    rows = rows_to_train(config, planned, program, state)
    stream = Stream(training_batches(config, run.task, rows, prefix=prefix_of(folder), **host), start)
    training.to_the_end(stream, Trace(folder / "trace", start, config.trace, config.total_steps))

    # model, evaluation, summary ---------------------------------------------------------------------
    model, unreadable = training.model(), training.unreadable_everywhere()
    if not hosts.is_main_process():
        return  # the main process evaluates
    with working("saving the model"):
        save_model(folder / "model", model, info_of(config, images))
    conclude(context_of(model, config, run.val, run.task), training, folder, unreadable)


def conclude(context: Context, training: Training, folder: Path, unreadable: dict[str, str]) -> None:
    """Evaluate at all resolutions; write and print the summary."""
    config, val, metric = context.config, context.source, context.task.metric
    manifest = training.run.images.manifest
    at = config.data.reported_at
    draw_learning_curve(folder, metric)
    names, context = studies_of(context.task, config.model), replace(context, resolutions=tuple(resolutions_of(config)))
    outcomes = publish_all(names, context, folder)
    entries = outcomes.rows["sweep"]
    with working("naming the images that cannot be read"):
        undecoded = undecodable(val) if any(e["unreadable"] for e in entries) else {}
    for name, why in undecoded.items():
        print(f"set aside {name}: {why}")
    at_reported = next(e for e in entries if e["resolution"] == at)
    summary = {
        f"val_{metric}": at_reported["score"],
        "val_resolution": at,
        "val_images": at_reported["images"],
        "val_left_out": at_reported["left_out"],
        "val_unreadable": at_reported["unreadable"],
        **training.selection.summary(),
        **training.progress.summary(),
        "compiles": training.program.step._cache_size(),
        "set_aside": {
            "train": dict(manifest.set_aside) | {manifest.name(int(i)): why for i, why in unreadable.items()},
            "val": dict(val.manifest.set_aside) | undecoded,
        },
        "sweep": [named(entry, metric) for entry in entries],
    }
    write_sealed(folder / SUMMARY, summary)
    print(
        f"\nvalidation {context.metric} {score_text(at_reported['score'])} at resolution {at:g} "
        f"({in_words(at_reported, val.manifest)}) after "
        f"{clock(summary['train_seconds'])} of training on {summary['images_seen']} images; "
        f"padding {summary['padding']:.2%}, {summary['compiles']} compiled program\n"
        f"model and pictures: {folder}/, all on one page: {write_report(folder)}"
    )
    outcomes.check()


def command_line(arguments: list[str]) -> tuple[str, Config]:
    """Name of the preset (by default `digits`) and the configuration."""
    if arguments and arguments[0] in ("-h", "--help"):
        lines = "\n".join(
            f"  {name:14} {((make.__doc__ or '') + chr(10)).splitlines()[0]}" for name, make in PRESETS.items()
        )
        print(f"{__doc__ or NO_HELP}\npresets\n{lines}")
        sys.exit(0)
    if not arguments or arguments[0].startswith("-"):
        arguments = ["digits", *arguments]
    preset, *rest = arguments
    answer_habits(rest, TRAINING)
    answer_folder(preset, rest)
    if preset not in PRESETS:
        near = difflib.get_close_matches(preset, PRESETS, n=1)
        hint = f", did you mean {near[0]}?" if near else "."
        print(f"error: no preset {preset!r}{hint} Presets: {', '.join(PRESETS)}", file=sys.stderr)
        sys.exit(2)
    make = PRESETS[preset]
    default = adapted(make(), rest)
    config = parse(Config, default=default, args=rest, prog=f"train.py {preset}", description=make.__doc__)
    check_obeyed(default, config)
    return preset, config


def introduce(run: Opened, folder: Path, plan: Plan) -> None:
    """Print data, resolved options, the first plan, and what the evaluation at the end leaves out."""
    config, train, val = run.config, run.images, run.val
    print(f"run {folder} on {jax.device_count()} {jax.devices()[0].device_kind} device(s)")
    for source in (train, val):
        manifest = source.manifest
        print(f"{len(manifest)} images, {len(manifest.classes)} classes: {manifest.where}")
        for note in manifest.notes:
            print(f"  {note}")
        for name, reason in manifest.set_aside:
            print(f"  set aside {name}: {reason}")
    for note in run.taken + run.chosen:
        print(f"auto: {note}")
    planned = int((plan.image_ids >= 0).sum()) + len(plan.left_out)
    part = "" if planned == len(train.manifest) else f"the first {planned} images of "
    print(
        f"{part}an epoch: {len(plan.image_ids)} rows of {config.data.packing.shape[0]} tokens, "
        f"{(plan.image_ids >= 0).sum() / len(plan.image_ids):.2f} images per row, "
        f"padding {plan.padding(config.data.packing.shape[0]):.3%}"
    )
    if plan.left_out:
        index, reason = plan.left_out[0]
        print(f"{len(plan.left_out)} images are left out; {train.manifest.name(index)}: {reason}")
    check_left_out(config, train.manifest, plan)
    for note in look_ahead(config, val):
        print(note)
    passes = config.total_steps * config.rows / len(plan.image_ids) * planned / len(train.manifest)
    print(f"{config.total_steps} steps, {passes:.3g} passes over the images", flush=True)


def picture(first: Sequence[Row], config: Config, folder: Path) -> None:
    """Draw the first rows, and the attention mask of the first."""
    normalized = {"mean": config.model.mean, "std": config.model.std}
    first = [pictures.without_parts(row, config.model) for row in first]
    if config.model.tubelets:
        draw_tubelets(first[0], config.model, folder / "tubelets.png")
    else:
        patch = pictures.patch_of(first[0], config.model)
        pictures.draw_rows(first, patch, folder / "packed_rows.png", **normalized)
    pictures.draw_mask(first[0], folder / "attention_mask.png")


def info_of(config: Config, images: Source) -> ModelInfo:
    """Classes and preprocessing for the saved model."""
    sampling = config.data.resolution.at(config.data.reported_at)
    row_tokens, row_images = config.data.packing.shape
    preprocessing = Preprocessing(
        size_rule(encode(sampling)),
        channels=config.model.channels,
        row_tokens=row_tokens,
        row_images=row_images,
        merge=merging_of(config.data.merge),
    )
    classes = images.manifest.classes if TASKS[type(config.task).__name__].own_classes else ()
    return ModelInfo(classes, preprocessing, images.manifest.where)


if __name__ == "__main__":
    run_program(main)
