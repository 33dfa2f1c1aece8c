"""A run from its first step to its last: steps, lines, saves, evaluations on the way, and what ends it early."""

from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import equinox as eqx
import jax
import jax.random as jr
from jax.sharding import Mesh

from data.check import why_not
from data.errors import DataError
from data.rows import PlannedRows
from data.sources.source import Source
from navit_eqx.training import hosts
from navit_eqx.training.checkpoints import Checkpointer
from navit_eqx.training.optim import schedule
from navit_eqx.training.program import Program
from navit_eqx.training.step import State
from reference.rows import Batch, Row

from ..config import Config
from ..evaluation.predictions import Context, context_of
from ..evaluation.studies.sweep import evaluate_at
from ..process import Interrupted, StopSignal
from ..working import working
from .cadence import LOG_SECONDS, SAVE_SECONDS, Cadence
from .folder import RunLock
from .loading import imbalance_of
from .opened import Opened
from .progress import VALIDATION, Progress, append
from .resume import RunPosition, check_alone, exit_saved
from .selection import Selection
from .stream import Stream
from .trace import Trace
from .warm_start import resume_from, warm_start

PATIENCE = 20.0  # seconds after a signal in which a batch may still come, where other processes wait for this one


class Training:
    """The state of a run, and all that is counted, logged and saved with it."""

    def __init__(
        self,
        run: Opened,
        program: Program,
        checkpointer: Checkpointer,
        progress: Progress,
        started: tuple[State, RunPosition],
        lock: RunLock | None,
        mesh: Mesh,
    ):
        self.run, self.config, self.program, self.progress = run, run.config, program, progress
        self.checkpointer, self.lock = checkpointer, lock
        self.state, position = started
        self.start = int(self.state.step)
        self.selection = Selection(self.config.select, position.best)
        self.unreadable = dict(position.unreadable)
        self.rate = schedule(self.config.optim, self.config.total_steps)
        self.any_host = hosts.AnyHost(mesh)
        self.lines = Cadence(self.config.log_every, LOG_SECONDS)
        self.saves = Cadence(self.config.save_every, SAVE_SECONDS)

    def to_the_end(self, stream: Stream, trace: Trace) -> None:
        """Do all steps that are left.   Raises Stopped after a signal, once the state is saved."""
        patience = 0.0 if jax.process_count() == 1 else PATIENCE
        with StopSignal(patience) as stop:
            with closing(stream), self.checkpointer, closing(self.progress), closing(trace):
                self.steps(stream, trace, stop)
                if self.any_host(bool(stop))[0]:
                    self.stop_after(int(self.state.step))
                if self.selection.wanted and not self.selection.enough:
                    self.validate(self.config.total_steps)
                with working("saving"):
                    self.checkpointer.finish()
            if self.any_host(bool(stop))[0]:  # of several processes, each tells its signal one call late
                self.stop_after(int(self.state.step))

    def steps(self, stream: Stream, trace: Trace, stop: StopSignal) -> None:
        """The training loop."""
        with self.progress.shown(self.start) as advance:
            for n in range(self.start + 1, self.config.total_steps + 1):
                batch = self.next_batch(stream, stop, n)
                if self.config.eval_every and n > 1 and (n - 1) % self.config.eval_every == 0:
                    self.validate(n - 1)  # after a save: again when resumed
                    if self.selection.enough:
                        print(f"no better score since step {self.selection.standing.step}: training stops", flush=True)
                        self.progress.line(n - 1, self.rate, len(self.unreadable))
                        break
                metrics = self.step(batch, n)
                trace.after(n, metrics)
                self.progress.add(n, metrics, batch.row.image_ids)
                advance(1)
                batch = None  # may be in memory shared with a worker, which Grain frees after the last reference
                self.after(n, bool(stop))

    def next_batch(self, stream: Stream, stop: StopSignal, step: int) -> Batch:
        """The batch of a step; a signal meanwhile stops the run after the one before."""
        try:
            with stop.waiting():
                return self.progress.next(stream)
        except Interrupted:
            check_alone(step)
            self.stop_after(step - 1)

    def step(self, batch: Batch, step: int) -> Any:
        """Train on a batch; its metrics."""
        set_aside(batch.row, self.unreadable, self.run.images, self.config)
        with self.progress.compiling(step) if step == self.start + 1 else nullcontext():
            self.state, metrics = self.program.step(self.state, self.program.device_batch(batch))
        return metrics

    def after(self, step: int, stopping: bool) -> None:
        """A line, the end of a run that is stopped, and a save, where they are due after a step."""
        last = step == self.config.total_steps
        stopping, line, save = self.any_host(stopping, self.lines.wanted, self.saves.wanted)
        if self.lines.due(step, line) or last:
            self.progress.line(step, self.rate, len(self.unreadable))
        if stopping:
            self.stop_after(step)
        if self.saves.due(step, save) or (last and self.config.save_every != 0):
            self.save(step)

    def validate(self, step: int) -> None:
        """Evaluate the state after a step; it keeps the best parameters so far."""
        model, score = self.program.model(hosts.replicate_to_host(self.state.eval_params)), None
        if hosts.is_main_process():
            context = context_of(model, self.config, self.run.val, self.run.task)
            with self.progress.paused():
                score = validation_score(context, self.progress, step)
        self.state = self.selection.see(self.state, hosts.broadcast_from_main(score), step)

    def save(self, step: int, refused_too: bool = False) -> None:
        """Save the state after a step; after a refused one only where asked, to keep a good checkpoint."""
        missing = {int(index): why for index, why in self.unreadable_everywhere().items()}
        digest = self.run.images.manifest.digest
        position = RunPosition(digest, missing, self.progress.position(), self.selection.position())
        if refused_too or not self.progress.in_a_row:
            if self.lock:
                self.lock.check()
            self.checkpointer.save(step, self.state, position.as_json())

    def stop_after(self, step: int) -> NoReturn:
        """Save the state after a step unless it is saved, and exit."""
        self.checkpointer.finish()
        if step > self.start and step not in hosts.broadcast_from_main(self.checkpointer.steps):
            self.save(step, refused_too=True)
        exit_saved(self.checkpointer, step)

    def unreadable_everywhere(self) -> dict[str, str]:
        """Images that any process could not decode, by index, with the reasons."""
        return hosts.merge_from_hosts({str(index): why for index, why in self.unreadable.items()})

    def model(self) -> Any:
        """The selected model, for inference."""
        params = hosts.replicate_to_host(self.selection.params(self.state))
        return self.program.model(jax.device_get(params)).for_inference()


def first_state(run: Opened, program: Program, checkpointer: Checkpointer) -> tuple[State, RunPosition]:
    """State and position to go on from: of this run, of RUN@STEP in `start`, or of a new run."""
    if found := checkpointer.restore(program.abstract_state):
        return found[0], RunPosition.from_json(found[1])
    if resumed := resume_from(run.config, program.abstract_state):
        return resumed
    state = program.init_state(jr.key(run.config.seed))
    if run.config.start:
        initial = program.model(hosts.replicate_to_host(state.model))
        warm = warm_start(initial, run.config, run.images.manifest.classes)
        state = program.state_from(jax.device_get(eqx.filter(warm, eqx.is_inexact_array)))
    return state, RunPosition()


def progress_of(run: Opened, folder: Path, planned: PlannedRows, started: tuple[State, RunPosition]) -> Progress:
    """The lines and sums of a run, from its position on."""
    (state, position), balance = started, imbalance_of(run.config, run.task, planned)
    return Progress(folder, run.config, run.images.manifest, int(state.step), position.progress, balance)


def validation_score(context: Context, progress: Progress, step: int) -> float | None:
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
