"""Train NaViT.

    python train.py                                        digit strips, embedded, minutes on a laptop CPU
    python train.py digits-square                          the same strips squeezed to squares
    python train.py folder --data.root DIR                 any folder of images
    python train.py caltech101 --data.root DIR --steps 100  a preset, and any field of its configuration
    python train.py doctor caltech101 --data.root DIR      is all in order for it? nothing is written

`python train.py PRESET --help` lists every field. A run leaves `runs/<name>/`: docs/run_folder.md.
The same command continues it if it was interrupted: docs/resume.md.
"""

from harness.command import Request, keep_programs, parse, run, tune_allocator

if __name__ == "__main__":
    tune_allocator()

import difflib
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr

from data.check import undecodable, why_not
from data.errors import DataError
from data.pipeline import batches
from data.plan import Plan
from data.sources import Source
from harness import choose, doctor, pictures, report, resume
from harness.attention import shape_for
from harness.config import PRESETS, Config
from harness.loading import check_left_out, open_source, training_lessons, training_rows
from harness.looks import Context
from harness.program import program_of
from harness.start import begin, branch, shape_from
from harness.studies import publish
from harness.studies.sweep import evaluate_at
from harness.teaching import apart, open_teacher
from navit_eqx import hosts, save_model
from navit_eqx.config_json import check, encode
from navit_eqx.optim import schedule
from navit_eqx.saver import Saver
from navit_eqx.sharding import data_mesh
from reference.types import Row

PICTURED_ROWS = 5


def main() -> None:
    if sys.argv[1:2] == ["doctor"]:
        preset, config = command_line(sys.argv[2:])
        sys.exit(doctor.examine(doctor.Case(config, preset)))
    preset, config = command_line(sys.argv[1:])
    hosts.join(config.distributed)
    mesh = data_mesh()
    keep_programs()
    check(config.rows % mesh.size == 0, f"rows={config.rows} must be a multiple of the {mesh.size} devices")

    # data -----------------------------------------------------------------------------------------
    train, val = open_source(config.data, "train"), open_source(config.data, "val")
    config, notes = shape_from(config)
    teacher = open_teacher(config.loss, train.manifest)
    config, more = choose.resolve(config, train.manifest, teacher)
    notes += more
    hosts.alike(resume.flat(encode(config)) | {"the images": train.manifest.digest})
    view = teacher and teacher.view(config.loss)

    # the run's folder, and what an interrupted run left there -------------------------------------
    folder, _lock = resume.claim(config.out, config.name or preset)
    planned = training_rows(config, train, view, folder / resume.BLOCKS)
    plan = planned.epochs.locate(0)[1]
    introduce(config, train, val, folder, notes, plan)
    saver = Saver(folder / "checkpoints", config.keep)
    changed = resume.reconcile(folder, config) if saver.steps else []

    # model, optimiser, step -----------------------------------------------------------------------
    shape, found = shape_for(config, plan, folder)
    for note in found:
        print(f"attention: {note}", flush=True)
    program = program_of(replace(config, model=shape), mesh, teacher and teacher.model)
    restored = saver.restore(program.like) or branch(config, program.like)
    state, position = restored or (program.fresh(jr.key(config.seed)), {})
    if config.start and not restored:
        begun = begin(program.model(hosts.whole(state.model)), config, train.manifest.classes)
        state = program.begun(jax.device_get(eqx.filter(begun, eqx.is_inexact_array)))
    rate = schedule(config.optim, config.steps)

    # where it stands ------------------------------------------------------------------------------
    start = int(state.step)
    history = resume.take_up(folder, config, train.manifest, start, position, changed)
    if hosts.first():
        report.write_config(folder, config, preset, history, shape.attention)
        picture([planned[r] for r in range(min(PICTURED_ROWS, config.rows))], config, folder)
    progress = report.Progress(folder, config, train.manifest, start, position.get("progress"))
    unreadable = {int(index): why for index, why in position.get("unreadable", {}).items()}
    host = {"host": jax.process_index(), "hosts": jax.process_count(), "workers": config.data.workers}
    stream = resume.Stream(partial(batches, training_lessons(config, planned, view), config.rows, **host), start)
    anywhere = hosts.Anywhere(mesh)

    # the loop -------------------------------------------------------------------------------------
    with closing(stream), saver, closing(progress), Request() as stop:
        for n in range(start + 1, config.steps + 1):
            batch = progress.next(stream)
            student = apart(batch)[0]
            set_aside(student, unreadable, train, config)
            state, metrics = program.step(state, *program.given(batch))
            progress.add(n, metrics, student.image_ids)
            if n % config.log_every == 0 or n == config.steps:
                progress.line(n, rate, len(unreadable))
            stopping = anywhere(bool(stop))
            if stopping or (config.save_every and (n % config.save_every == 0 or n == config.steps)):
                lost = hosts.merged({str(index): why for index, why in unreadable.items()})
                position = {"data": train.manifest.digest, "unreadable": lost, "progress": progress.position()}
                if not progress.in_a_row:  # a state that refuses steps must not replace one that did not
                    saver.save(n, state, position)
            if stopping:
                resume.leave(saver, n)
            if config.eval_every and n % config.eval_every == 0 and n < config.steps:
                best = program.model(hosts.whole(state.best))
                if hosts.first():
                    now = Context(best, config, val, (config.data.val_resolution,))
                    with progress.paused():
                        entry = evaluate_at(now, config.data.val_resolution)
                    progress.logger.log(n, {"val_accuracy": entry["accuracy"]})
                    print(f"step {n}: test accuracy {entry['accuracy']:.3f}", flush=True)
        batch = student = None  # they may lie in memory shared with a worker, which Grain frees with its last user

    # what it came to ------------------------------------------------------------------------------
    model = program.model(jax.device_get(hosts.whole(state.best)))
    unreadable = hosts.merged({str(index): why for index, why in unreadable.items()})
    if not hosts.first():
        return  # and wait for the first to end, which evaluates
    save_model(folder / "model", model, config.model, about(config, train))
    at = config.data.val_resolution
    resolutions = tuple(sorted({*config.data.eval_resolutions, at}))
    entries = publish("sweep", Context(model, config, val, resolutions), folder).rows
    lost = undecodable(val) if any(e["unreadable"] for e in entries) else {}
    for name, why in lost.items():
        print(f"set aside {name}: {why}")
    summary = {
        "val_accuracy": next(e["accuracy"] for e in entries if e["resolution"] == at),
        "val_resolution": at,
        **progress.summary(),
        "compiles": program.step._cache_size(),
        "set_aside": {
            "train": dict(train.manifest.set_aside)
            | {train.manifest.name(int(i)): why for i, why in unreadable.items()},
            "val": dict(val.manifest.set_aside) | lost,
        },
        "sweep": entries,
    }
    report.write_json(folder / "summary.json", summary)
    print(
        f"\ntest accuracy {summary['val_accuracy']:.3f} at resolution {at:g} after "
        f"{report.clock(summary['train_seconds'])} of training on {summary['images_seen']} images; "
        f"padding {summary['padding']:.2%}, {summary['compiles']} compiled program\nmodel and pictures: {folder}/"
    )


def command_line(arguments: list[str]) -> tuple[str, Config]:
    """The preset's name and the configuration; without a preset, `digits`."""
    if arguments and arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:14} {(make.__doc__ or '').splitlines()[0]}" for name, make in PRESETS.items())
        print(f"{__doc__}\npresets\n{lines}")
        sys.exit(0)
    if not arguments or arguments[0].startswith("-"):
        arguments = ["digits", *arguments]
    preset, *rest = arguments
    if preset not in PRESETS:
        near = difflib.get_close_matches(preset, PRESETS, n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        print(f"error: no preset {preset!r}{hint} Presets: {', '.join(PRESETS)}", file=sys.stderr)
        sys.exit(2)
    make = PRESETS[preset]
    return preset, parse(Config, default=make(), args=rest, prog=f"train.py {preset}", description=make.__doc__)


def introduce(config: Config, train: Source, val: Source, folder: Path, notes: list[str], plan: Plan) -> None:
    """What is about to happen, with every choice that the data made."""
    print(f"run {folder} on {jax.device_count()} {jax.devices()[0].device_kind} device(s)")
    for source in (train, val):
        manifest = source.manifest
        print(f"{len(manifest)} images, {len(manifest.classes)} classes: {manifest.where}")
        for name, reason in manifest.set_aside:
            print(f"  set aside {name}: {reason}")
    for note in notes:
        print(f"chosen from the data: {note}")
    planned = int((plan.image_ids >= 0).sum()) + len(plan.left_out)
    part = "" if planned == len(train.manifest) else f"the first {planned} images of "
    print(
        f"{part}an epoch: {len(plan.image_ids)} rows of {config.data.packing.row_tokens} tokens, "
        f"{(plan.image_ids >= 0).sum() / len(plan.image_ids):.2f} images a row, "
        f"padding {plan.padding(config.data.packing.row_tokens):.3%}"
    )
    if plan.left_out:
        index, reason = plan.left_out[0]
        print(f"{len(plan.left_out)} images are left out; {train.manifest.name(index)}: {reason}")
    check_left_out(config, train.manifest, plan)
    print("compiling ...", flush=True)


def picture(first: list[Row], config: Config, folder: Path) -> None:
    """Draw rows of the first batch."""
    pictures.draw_rows(first, config.model.patch_size, folder / "packed_rows.png")
    pictures.draw_mask(first[0], folder / "attention_mask.png")


def set_aside(batch: Row, unreadable: dict[int, str], source: Source, config: Config) -> None:
    """Name images that could not be decoded, with the reason.   Raises DataError when they are too many."""
    new = set(batch.image_ids[(batch.image_ids >= 0) & (batch.labels < 0)].tolist()) - unreadable.keys()
    for index in sorted(new):
        unreadable[index] = why_not(partial(source.image, index)) or "could not be read for a while"
        print(f"set aside {source.manifest.name(index)}: {unreadable[index]}", flush=True)
    if new and len(unreadable) > config.data.max_unreadable * len(source.manifest):
        raise DataError(
            f"{len(unreadable)} of {len(source.manifest)} images cannot be decoded, more than the share "
            f"data.max_unreadable={config.data.max_unreadable}: mend them, or raise the share"
        )


def about(config: Config, source: Source) -> dict:
    """What a user of the saved model must know beside its shape."""
    law = config.data.resolution.at(config.data.val_resolution)
    packing = replace(config.data.packing, fill="none")
    return {
        "classes": list(source.manifest.classes),
        "resolution": encode(law),
        "packing": encode(packing),
        "trained_on": source.manifest.where,
    }


if __name__ == "__main__":
    run(main)
