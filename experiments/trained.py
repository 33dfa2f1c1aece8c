"""An experiment on trained models: arms that differ in one choice, equal in tokens, paired by seed.

    python experiments/NAME/run.py                   train what is missing, judge, draw
    python experiments/NAME/run.py --seeds 5         more seeds
    python experiments/NAME/run.py --only sum        the arms whose name holds this
    python experiments/NAME/run.py --judge           judge the trials of result.json again, and draw
    python experiments/NAME/run.py --draw            picture and tables from result.json alone
    python experiments/NAME/run.py --tiny            does it run? two arms, two steps, one seed; nothing is written
    python experiments/NAME/run.py --accelerator     wider models and more rows: accelerator.json and accelerator.png

Every finished training is a line of runs/experiments/trials.jsonl, known by a digest of its configuration: an
interrupted experiment goes on where it stopped, a changed setting is trained anew, and experiments share what they
have in common. Trials that stand in result.json are finished too. Models from which other arms start, or that several
experiments look at, are kept beside the log, in models/. Remove all three to train everything again, as after a change
of the code.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax

from experiments.accelerator import enlarged
from experiments.bed import STEPS
from experiments.claims import Claim, estimate, judge
from experiments.kept import digest, kept, located, others, seeded
from experiments.results import ACCELERATOR, RESULT, fill_readme, load, renew, save
from experiments.settings import AnySetting
from experiments.trial import training_flops, trial
from harness.config import Config, with_data
from harness.process import tune_allocator

SEEDS = 3
FEW = 100  # validation images of a rehearsal
LOG = Path(__file__).parent.parent / "runs" / "experiments" / "trials.jsonl"


@dataclass(frozen=True)
class Experiment:
    """What is compared, how it is judged, and what is claimed."""

    folder: Path
    arms: Callable[[int], Mapping[str, Config]]
    """Configurations by name, for so many steps."""
    settings: tuple[AnySetting, ...]
    """How it is judged: resolutions, or settings with a patch size."""
    claims: tuple[Claim, ...]
    draw: Callable[[Mapping, Path], None]
    read: Callable[[list[dict]], list[dict]] = list
    """Trials as they are judged: a model evaluated at several settings may stand for several arms."""
    trial: Callable[..., dict] = trial
    """One training and what came of it."""
    keep: bool = False
    """Whether all models are kept, for experiments that look at the same ones."""
    cost: Callable[[Config], float] = training_flops
    """What arms share: with `--accelerator` each has as large a part of it as without."""


def main(experiment: Experiment) -> None:
    options = command_line()
    if options.tiny:
        return tiny(experiment)
    folder, name = experiment.folder, ACCELERATOR if options.accelerator else RESULT
    if options.draw:
        result = load(folder, name)
    elif options.judge:
        result = renew(folder, name, **summary(experiment, trials_in(folder, name)))
    else:
        trials = train(experiment, options, name)
        if waiting := too_few(experiment.arms(options.steps), trials):
            return print(f"no result yet: fewer than two seeds of {len(waiting)} arms, {waiting[0]} the first")
        result = save(folder, name, steps=options.steps, **summary(experiment, trials))
    experiment.draw(result, folder / f"{name}.png")
    if not options.accelerator:
        fill_readme(folder, result)
    for claim in result["claims"]:
        print(f"{claim['verdict']}: {claim['says']}")


def command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", default="", metavar="NAME")
    parser.add_argument("--judge", action="store_true")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--accelerator", action="store_true")
    return parser.parse_args()


def too_few(arms: Iterable[str], trials: Sequence[Mapping]) -> list[str]:
    """Arms that no interval can be given for: those with fewer than two trials."""
    return [arm for arm in arms if [t["arm"] for t in trials].count(arm) < 2]


def tiny(experiment: Experiment) -> None:
    """Train two arms for two steps, and the arms that they need, and evaluate them on few images; nothing is kept."""
    jax.config.update("jax_disable_most_optimizations", True)
    arms = {name: with_few_images(config) for name, config in experiment.arms(2).items()}
    few = dict(islice(arms.items(), 2))
    needed = set().union(*(others(config) for config in few.values()))
    named = {name: config for name, config in arms.items() if name in few or name in needed}
    with TemporaryDirectory() as folder:
        log = Path(folder) / "trials.jsonl"
        for _ in train_missing(named, 1, experiment.settings, log, trial=experiment.trial, keep=experiment.keep):
            pass
        found = experiment.read(trials_of(named, 1, experiment.settings, log))
    print(f"{len(named)} trainings, {len(found)} arms: {', '.join(line['arm'] for line in found)}")


def with_few_images(config: Config) -> Config:
    """The configuration with at most FEW validation images, where a source makes as many as it is told."""
    source: Any = config.data.source
    count = getattr(source, "val_images", 0)
    return with_data(config, source=replace(source, val_images=FEW)) if count > FEW else config


def trials_in(folder: Path, name: str = RESULT) -> list[dict]:
    """Those of a result, if there is one."""
    return load(folder, name)["trials"] if (folder / f"{name}.json").exists() else []


def train(experiment: Experiment, options: argparse.Namespace, result: str) -> list[dict]:
    """All finished trials, after those that were missing."""
    tune_allocator()
    jax.config.update("jax_compilation_cache_dir", str(LOG.parent / "compiled"))  # experiments share programs
    remember(trials_in(experiment.folder, result))
    arms = experiment.arms(options.steps)
    if options.accelerator:
        arms = enlarged(arms, experiment.cost)
    how = {"only": options.only, "trial": experiment.trial, "keep": experiment.keep}
    for name, line in train_missing(arms, options.seeds, experiment.settings, **how):
        print(f"{name}, seed {line['seed']}: {line['accuracy']}, {line['seconds']:.0f} s", flush=True)
    return trials_of(arms, options.seeds, experiment.settings)


def remember(trials: Sequence[Mapping], log: Path = LOG) -> None:
    """Put into the log what it lacks of these trials; not the arm, which each experiment names for itself."""
    known = finished(log)
    for line in trials:
        if line["digest"] not in known:
            note({key: value for key, value in line.items() if key != "arm"}, log)


def note(line: Mapping, log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write("\n" + json.dumps(line))  # a line of its own, whatever was cut short before


def train_missing(
    arms: Mapping[str, Config],
    seeds: int,
    settings: Sequence[AnySetting],
    log: Path = LOG,
    only: str = "",
    trial: Callable[..., dict] = trial,
    keep: bool = False,
) -> Iterator[tuple[str, dict]]:
    """Each newly finished trial, logged; all arms with one seed before the next seed.

    Arms whose name holds `only`, and those from which they start or learn. With `keep` all models are kept, not only
    those of the latter.
    """
    models = log.parent / "models"
    for seed in range(seeds):
        configs, done = seeded(arms, seed), finished(log)
        asked = {name for name, config in configs.items() if only in name and digest(config, settings) not in done}
        for name, model in with_models(configs, asked, models).items():
            config = configs[name]
            model = model or (models / digest(config) if keep else None)
            line = {"digest": digest(config, settings), "seed": seed, **trial(located(config, models), settings, model)}
            note(line, log)
            yield name, line


def with_models(configs: Mapping[str, Config], asked: set[str], models: Path) -> dict[str, Path | None]:
    """The arms that are asked for, after those whose models they need and lack; and where to keep a model that
    another arm needs."""
    needed: set[str] = set()
    found: dict[str, Path | None] = {}
    for name, config in reversed(configs.items()):
        model = models / digest(config) if digest(config) in needed else None
        if name in asked or (model and not kept(model)):
            needed |= others(config)
            found[name] = model
    return dict(reversed(found.items()))


def finished(log: Path = LOG) -> dict[str, dict]:
    """Digest → trial; a line cut short by an interruption does not count."""
    lines = log.read_text().splitlines() if log.exists() else []
    return {line["digest"]: line for line in map(parsed, lines) if line}


def parsed(line: str) -> dict | None:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def trials_of(arms: Mapping[str, Config], seeds: int, settings: Sequence[AnySetting], log: Path = LOG) -> list[dict]:
    """The finished ones among these, with the names of their arms."""
    done = finished(log)
    by_seed = [seeded(arms, seed) for seed in range(seeds)]
    named = {(n, s): digest(by_seed[s][n], settings) for n in arms for s in range(seeds)}
    return [{"arm": name} | done[key] for (name, _), key in named.items() if key in done]


def summary(experiment: Experiment, trials: Sequence[dict]) -> dict:
    """Claims whose arms are all there, tables, and the trials."""
    read = experiment.read([*trials])
    names = {t["arm"] for t in read}
    claims = [c for c in experiment.claims if names.issuperset(a for pair in c.pairs for side in pair for a in side)]
    return {
        "seeds": len({t["seed"] for t in trials}),
        "resolutions": list(experiment.settings),
        "claims": [judge(claim, read) for claim in claims],
        "tables": accuracy_tables(read),
        "trials": list(trials),
    }


def accuracy_tables(trials: Sequence[Mapping]) -> list[list[dict]]:
    """One table for all arms that were evaluated at the same settings."""
    return [accuracy_table([t for t in trials if [*t["accuracy"]] == list(settings)])
            for settings in dict.fromkeys(tuple(t["accuracy"]) for t in trials)]  # fmt: skip


def accuracy_table(trials: Sequence[Mapping]) -> list[dict]:
    """A row for each arm: accuracy in per cent with its interval, at each setting and on average."""
    rows = []
    for arm in dict.fromkeys(t["arm"] for t in trials):
        mine = [t for t in trials if t["arm"] == arm]
        columns = {setting: [t["accuracy"][setting] for t in mine] for setting in mine[0]["accuracy"]}
        means = [sum(values) / len(values) for values in zip(*columns.values())]
        rows.append({
            "arm": arm,
            **{f"at {setting}": points(values) for setting, values in columns.items()},
            "mean": points(means),
            "images": round(sum(t["images"] for t in mine) / len(mine)),
        })  # fmt: skip
    return rows


def points(values: Sequence[float]) -> str:
    """In per cent, with half the width of the 95 % interval; one seed has none."""
    if len(values) == 1:
        return f"{100 * values[0]:.1f}"
    mean, _, interval = estimate(values)
    return f"{100 * mean:.1f} ± {100 * interval:.1f}"
