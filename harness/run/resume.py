"""Resume an interrupted run in its folder: allowed changes of the configuration, position, logs, exit."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import jax

from data.errors import DataError
from data.manifest import Manifest
from navit_eqx.errors import ConfigError, check
from navit_eqx.files import replacing
from navit_eqx.serialize import encode
from navit_eqx.training.checkpoints import Checkpointer
from navit_eqx.training.hosts import broadcast_from_main, is_main_process

from ..cli import option_text
from ..config import Config
from ..exit_codes import Stopped
from .folder import read_run, read_saved
from .progress import VALIDATION, is_sound

# Options that a command may change when it resumes a run: freely, with --override True, or never. A key includes all
# keys below it that are not listed.
FREELY = {
    *("log_every", "logger", "trace", "eval_every", "save_every", "keep", "max_refused", "override", "out", "name"),
    *("data.root", "data.memory", "data.workers", "data.max_unreadable", "data.val_resolution"),
    *("data.eval_resolutions", "task.teacher", "task.tokenizer.file", "parallelism", "distributed"),
}
ON_REQUEST = {
    *("steps", "minutes", "task", "model.attention", "model.remat", "model.unroll", "model.dtype"),
    "model.stochastic_depth",
    *("optim.lr", "optim.schedule", "optim.warmup", "optim.weight_decay", "optim.head_decay", "optim.clip"),
    *("optim.accumulate", "optim.layers"),
}
NEVER = {
    *("model", "rows", "seed", "start", "select", "task.row_tokens", "task.digest", "task.classes"),
    *("task.text", "task.tokenizer", "task.embedding", "task.texts", "task.shards"),
    *("optim.rule", "optim.ema", "optim.skip", "optim.frozen"),
    *("data.source", "data.resolution", "data.patch_sizes", "data.dropping", "data.token_selection", "data.augment"),
    *("data.packing", "data.decoding", "data.balance", "data.merge", "data.embedded"),
}


# Last line that is kept when a run continues, relative to its step: the evaluation after that step is made again.
LOGS = {"metrics.jsonl": 0, "refused.jsonl": 0, VALIDATION: -1}


@dataclass
class RunPosition:
    """Position of a run besides its state, saved with every checkpoint."""

    data: str = ""
    """Digest of the images; empty at the start of a run."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Images that could not be decoded so far, by index, with the reasons."""
    progress: dict[str, Any] | None = None
    """Sums and times of `Progress.position`."""
    best: dict[str, Any] | None = None
    """`Selection.position`."""

    def as_json(self) -> dict[str, Any]:
        """JSON form for checkpoints."""
        return {**asdict(self), "unreadable": {str(index): why for index, why in self.unreadable.items()}}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "RunPosition":
        """Inverse of `as_json`."""
        unreadable = {int(index): why for index, why in saved["unreadable"].items()}
        return cls(saved["data"], unreadable, saved["progress"], saved["best"])


def differences(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """Keys with different values, with both values; None where a key is missing."""
    a, b = flat(encode(before)), flat(encode(now))
    return {key: (a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with dotted keys."""
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def rule_for(key: str) -> set[str]:
    """FREELY, ON_REQUEST or NEVER: the set with the key, or else with the nearest key above it."""
    while key:
        for rule in (FREELY, ON_REQUEST, NEVER):
            if key in rule:
                return rule
        key = key.rpartition(".")[0]
    return NEVER


def reconcile(folder: Path, config: Config, manifest: Manifest | None = None) -> list[str]:
    """Changes of the configuration since the run in `folder` was interrupted, in words.

    Raises ConfigError where a change is not allowed, and before that DataError where the images are others: options
    that are chosen from the images would differ too.
    """
    before = read_run(folder)[0]
    if manifest:
        check_images(folder, manifest, next(iter(read_saved(folder).get("images", ())), ""))
    changed, sides = differences(before, config), [flat(encode(each)) for each in (before, config)]
    there, here = ({key: option_text(side[key]) if key in side else "nothing" for key in changed} for side in sides)
    words = {key: f"{key} ({there[key]} there, {here[key]} here)" for key in changed}
    never = [words[key] for key in changed if rule_for(key) is NEVER]
    if never:
        raise ConfigError(
            f"{folder} holds an unfinished run that differs in {', '.join(never)}: "
            "give the same values to continue it, or another --name to start a new run"
        )
    asked = [words[key] for key in changed if rule_for(key) is ON_REQUEST]
    if asked and not config.override:
        raise ConfigError(
            f"{folder} holds an unfinished run that differs in {', '.join(asked)}: "
            "--override True continues it with these values, the same values continue it unchanged, "
            "another --name starts a new run"
        )
    return list(words.values())


def resume_at(
    folder: Path, config: Config, manifest: Manifest, start: int, position: RunPosition, changed: list[str]
) -> list[dict[str, Any]]:
    """Truncate logs after step `start` and print the position; the list of continuations so far.

    Raises DataError where the images differ, ConfigError where the run is already beyond its last step.
    """
    check_images(folder, manifest, position.data)
    steps = config.total_steps
    check(start <= steps, f"{folder} is at step {start} already: steps={steps} must not be less")
    for name, last in LOGS.items() if is_main_process() else ():
        truncate_log(folder / name, start + last)
    if not position.data:  # a new run, perhaps from a step of another run
        return []
    for words in changed:
        print(f"changed: {words}")
    print(f"continuing {folder} from step {start}", flush=True)
    return [*read_run(folder)[1], {"step": start, "changed": changed}]


def check_images(folder: Path, manifest: Manifest, digest: str) -> None:
    """Raises DataError where the digest of the images of a run is another one; empty: unknown."""
    if digest not in ("", manifest.digest):
        raise DataError(
            f"the images in {manifest.where} are not those that {folder} was trained on: names, sizes or labels "
            "differ. Use the same images, or start a new run with another --name"
        )


def exit_saved(saver: Checkpointer, step: int) -> NoReturn:
    """Raises Stopped once the state after `step` is on disk, OSError if it could not be written."""
    saver.finish()
    last = max(broadcast_from_main(saver.steps), default=0)
    if last != step:
        raise OSError(f"stopped after step {step}, which is not saved; the same command continues from step {last}")
    raise Stopped(f"step {step} is saved; the same command continues from there")


def check_alone(step: int) -> None:
    """Raises OSError where other processes wait for this one: they cannot save without it."""
    if jax.process_count() > 1:
        raise OSError(f"stopped while batch {step} did not come; the same command continues from the last save")


def truncate_log(path: Path, step: int) -> None:
    """Drop lines of a JSON-lines file after `step`, and damaged lines."""
    if path.exists():
        lines = path.read_text(errors="replace").splitlines()
        sound = [line for line in lines if is_sound(line)]
        if len(sound) < len(lines):
            print(f"{path}: {len(lines) - len(sound)} lines are damaged and are dropped", flush=True)
        kept = [line for line in sound if json.loads(line)["step"] <= step]
        with replacing(path) as draft:
            draft.write_text("".join(f"{line}\n" for line in kept))
