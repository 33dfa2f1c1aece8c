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
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import equinox as eqx
import jax
import jax.random as jr

from data.check import undecodable, why_not
from data.errors import DataError
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
from harness.evaluation.studies.sweep import evaluate_at, in_words
from harness.exit_codes import run
from harness.habits import TRAINING, answer_folder, answer_habits, check_obeyed
from harness.presets import PRESETS, adapted
from harness.process import Interrupted, StopSignal, enable_compilation_cache
from harness.resolve import resolve
from harness.run.ahead import look_ahead, resolutions_of
from harness.run.attention import shape_for
from harness.run.budget import is_timed, steps_of, steps_within
from harness.run.cadence import LOG_SECONDS, SAVE_SECONDS, Cadence
from harness.run.embedded import rows_to_train
from harness.run.folder import BLOCKS, acquire_run_dir, write_config, write_json
from harness.run.loading import check_left_out, imbalance_of, open_sources, open_task, training_batches, training_rows
from harness.run.program import program_of
from harness.run.progress import VALIDATION, Progress, append
from harness.run.resume import RunPosition, check_alone, exit_saved, flat, reconcile, resume_at
from harness.run.selection import Selection, check_selection
from harness.run.stream import Stream
from harness.run.trace import Trace
from harness.run.warm_start import resume_from, shape_from, warm_start
from harness.terminal import clock
from harness.working import working
from navit_eqx import ModelInfo, save_model
from navit_eqx.errors import check
from navit_eqx.preprocessing import Preprocessing, size_rule
from navit_eqx.serialize import encode
from navit_eqx.training import hosts
from navit_eqx.training.checkpoints import Checkpointer
from navit_eqx.training.optim import schedule
from navit_eqx.training.program import Program
from navit_eqx.training.sharding import data_mesh
from reference.rows import Row

PICTURED_ROWS = 5
NO_HELP = "PYTHONOPTIMIZE=2 removes the help: docs/run_folder.md"
PATIENCE = 20.0  # seconds after a signal in which a batch may still come, where other processes wait for this one


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
    check(config.rows % mesh.size == 0, f"rows={config.rows} must be a multiple of the {mesh.size} devices")

    # data -----------------------------------------------------------------------------------------
    with working("reading the images"):
        images, val = open_sources(config)
    config, notes = shape_from(config)
    prepared, task = open_task(config, images.manifest)
    asked = replace(config, task=prepared.config)
    config, more = resolve(asked, images.manifest, task)
    hosts.assert_same_on_hosts(flat(encode(config)) | {"the images": images.manifest.digest})

    # run folder, checkpoints of an interrupted run ------------------------------------------------
    folder, held = acquire_run_dir(config.out, config.name, preset)
    if is_timed(asked):
        print(f"training takes {config.minutes:g} minutes at most; --minutes N makes it shorter or longer", flush=True)
        steps = hosts.broadcast_from_main(steps_of(folder, config))
        steps = steps or steps_within(config, images, task, prepared, mesh)
        config, more = resolve(replace(asked, steps=steps), images.manifest, task)
    with working("planning the first rows"):
        planned = training_rows(config, images, task, folder / BLOCKS)
        plan = planned.epochs.locate(0)[1]
    introduce(config, images, val, folder, notes + more, plan)
    checkpointer = Checkpointer(folder / "checkpoints", config.keep)
    changed = reconcile(folder, config, images.manifest) if checkpointer.steps else []

    # model, optimizer, step -----------------------------------------------------------------------
    shape, found = shape_for(config, plan, folder)
    for note in found:
        print(f"attention: {note}", flush=True)
    program = program_of(replace(config, model=shape), prepared, mesh)
    state, position = restored(checkpointer, config, program)
    if state is None:
        state = program.init_state(jr.key(config.seed))
        if config.start:
            initial = program.model(hosts.replicate_to_host(state.model))
            warm = warm_start(initial, config, images.manifest.classes)
            state = program.state_from(jax.device_get(eqx.filter(warm, eqx.is_inexact_array)))
    rate = schedule(config.optim, config.total_steps)

    # position -------------------------------------------------------------------------------------
    start = int(state.step)
    history = resume_at(folder, config, images.manifest, start, position, changed)
    if hosts.is_main_process():
        info, manifests = info_of(config, images), (images.manifest, val.manifest)
        write_config(folder, config, preset, history, shape.attention, info, manifests)
        picture([planned[r] for r in range(min(PICTURED_ROWS, config.rows))], config, folder)
    selection = Selection(config.select, position.best)
    balance = imbalance_of(config, task, planned)
    progress = Progress(folder, config, images.manifest, start, position.progress, balance)
    unreadable = dict(position.unreadable)
    host: dict[str, Any] = {"host": jax.process_index(), "hosts": jax.process_count(), "workers": config.data.workers}
    host["prefix"] = prefix_of(folder)
    stream = Stream(training_batches(config, task, rows_to_train(config, planned, program, state), **host), start)
    trace = Trace(folder / "trace", start, config.trace, config.total_steps)
    any_host = hosts.AnyHost(mesh)

    def validated(step: int) -> Any:
        """Evaluate the state after a step; the state with the best parameters so far."""
        model = program.model(hosts.replicate_to_host(state.eval_params))
        score = None
        if hosts.is_main_process():
            with progress.paused():
                score = validate(context_of(model, config, val, task), progress, step)
        return selection.see(state, hosts.broadcast_from_main(score), step)

    def save(step: int, refused_too: bool) -> None:
        """Save the state after a step; after a refused one only where asked, to keep a good checkpoint."""
        everywhere = hosts.merge_from_hosts({str(index): why for index, why in unreadable.items()})
        missing = {int(index): why for index, why in everywhere.items()}
        position = RunPosition(images.manifest.digest, missing, progress.position(), selection.position())
        if refused_too or not progress.in_a_row:
            if held:
                held.check()
            checkpointer.save(step, state, position.as_json())

    def stop_after(step: int) -> NoReturn:
        """Save the state after a step unless it is saved, and exit."""
        checkpointer.finish()
        if step > start and step not in hosts.broadcast_from_main(checkpointer.steps):
            save(step, refused_too=True)
        exit_saved(checkpointer, step)

    # training loop --------------------------------------------------------------------------------
    line, saving = Cadence(config.log_every, LOG_SECONDS), Cadence(config.save_every, SAVE_SECONDS)
    with StopSignal(0.0 if jax.process_count() == 1 else PATIENCE) as stop:
        with closing(stream), checkpointer, closing(progress), closing(trace), progress.shown(start) as advance:
            for n in range(start + 1, config.total_steps + 1):
                try:
                    with stop.waiting():
                        batch = progress.next(stream)
                except Interrupted:
                    check_alone(n)
                    stop_after(n - 1)
                if config.eval_every and n > 1 and (n - 1) % config.eval_every == 0:  # after a save: again when resumed
                    state = validated(n - 1)
                    if selection.enough:
                        print(f"no better score since step {selection.standing.step}: training stops", flush=True)
                        progress.line(n - 1, rate, len(unreadable))
                        break
                set_aside(batch.row, unreadable, images, config)
                with progress.compiling(n) if n == start + 1 else nullcontext():
                    state, metrics = program.step(state, program.device_batch(batch))
                trace.after(n, metrics)
                progress.add(n, metrics, batch.row.image_ids)
                advance(1)
                last = n == config.total_steps
                stopping, line_wanted, save_wanted = any_host(bool(stop), line.wanted, saving.wanted)
                if line.due(n, line_wanted) or last:
                    progress.line(n, rate, len(unreadable))
                if stopping:
                    stop_after(n)
                if saving.due(n, save_wanted) or (last and config.save_every != 0):
                    save(n, refused_too=False)
            batch = None  # may be in memory shared with a worker, which Grain frees after the last reference
            if any_host(bool(stop))[0]:
                stop_after(int(state.step))
            if selection.wanted and not selection.enough:
                state = validated(config.total_steps)
            with working("saving"):
                checkpointer.finish()
        if any_host(bool(stop))[0]:  # of several processes, each tells its signal one call late
            stop_after(int(state.step))

    # model, evaluation, summary -------------------------------------------------------------------
    model = program.model(jax.device_get(hosts.replicate_to_host(selection.params(state)))).for_inference()
    everywhere = hosts.merge_from_hosts({str(index): why for index, why in unreadable.items()})
    if not hosts.is_main_process():
        return  # the main process evaluates
    with working("saving the model"):
        save_model(folder / "model", model, info_of(config, images))
    conclude(context_of(model, config, val, task), images, folder, progress, program, everywhere, selection)


def restored(checkpointer: Checkpointer, config: Config, program: Program) -> tuple[Any, RunPosition]:
    """State and position to continue from, of this run or of RUN@STEP in `start`; None for a new run."""
    found = checkpointer.restore(program.abstract_state)
    if found:
        return found[0], RunPosition.from_json(found[1])
    return resume_from(config, program.abstract_state) or (None, RunPosition())


def validate(context: Context, progress: Progress, step: int) -> float | None:
    """The score at the validation resolution, logged and printed."""
    at = context.config.data.reported_at
    score = evaluate_at(context, at)["score"]
    if score is not None:
        progress.logger.log(step, {f"val_{context.task.metric}": score})
        append(progress.folder / VALIDATION, {"step": step, context.task.metric: score})
    print(f"step {step}: validation {context.metric} {score_text(score)}", flush=True)
    return score


def score_text(score: float | None) -> str:
    """A score for printing."""
    return "unknown, no image can be read," if score is None else f"{score:.3f}"


def conclude(
    context: Context,
    images: Source,
    folder: Path,
    progress: Progress,
    program: Program,
    unreadable: dict[str, str],
    selection: Selection,
) -> None:
    """Evaluate at all resolutions; write and print the summary."""
    config, val, metric = context.config, context.source, context.task.metric
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
        **selection.summary(),
        **progress.summary(),
        "compiles": program.step._cache_size(),
        "set_aside": {
            "train": dict(images.manifest.set_aside)
            | {images.manifest.name(int(i)): why for i, why in unreadable.items()},
            "val": dict(val.manifest.set_aside) | undecoded,
        },
        "sweep": [named(entry, metric) for entry in entries],
    }
    write_json(folder / "summary.json", summary)
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


def introduce(config: Config, train: Source, val: Source, folder: Path, notes: list[str], plan: Plan) -> None:
    """Print data, resolved options, the first plan, and what the evaluation at the end leaves out."""
    print(f"run {folder} on {jax.device_count()} {jax.devices()[0].device_kind} device(s)")
    for source in (train, val):
        manifest = source.manifest
        print(f"{len(manifest)} images, {len(manifest.classes)} classes: {manifest.where}")
        for note in manifest.notes:
            print(f"  {note}")
        for name, reason in manifest.set_aside:
            print(f"  set aside {name}: {reason}")
    for note in notes:
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
    if config.model.tubelets:
        draw_tubelets(first[0], config.model, folder / "tubelets.png")
    else:
        patch = pictures.patch_of(first[0], config.model)
        pictures.draw_rows(first, patch, folder / "packed_rows.png", **normalized)
    pictures.draw_mask(first[0], folder / "attention_mask.png")


def set_aside(batch: Row, unreadable: dict[int, str], source: Source, config: Config) -> None:
    """Print and record images that could not be decoded.   Raises DataError where there are too many."""
    empty = (batch.image_ids >= 0) & (batch.grids[..., 0] == 0)
    new = set(batch.image_ids[empty].tolist()) - unreadable.keys()
    for index in sorted(new):
        unreadable[index] = why_not(partial(source.image, index)) or "could not be read at first"
        print(f"set aside {source.manifest.name(index)}: {unreadable[index]}", flush=True)
    if new and len(unreadable) > config.data.max_unreadable * len(source.manifest):
        raise DataError(
            f"{len(unreadable)} of {len(source.manifest)} images cannot be decoded, more than the share "
            f"data.max_unreadable={config.data.max_unreadable}: fix them, or raise the share"
        )


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
    run(main)
