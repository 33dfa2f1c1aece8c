"""Evaluate a trained model over a list of resolutions.

    python evaluate.py runs/digits
    python evaluate.py runs/digits --resolutions 0.8 1.0 1.2
    python evaluate.py runs/folder --data.root DIR

Every field of the run's `data` can be set anew. Writes the table (`sweep.csv`, `sweep.json`) and the picture
of accuracy against tokens (`accuracy_tokens.png`) into the run folder, or into --out.
"""

from harness.command import parse, run, tune_allocator

if __name__ == "__main__":
    tune_allocator()

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from harness import report
from harness.config import Config, DataConfig
from harness.loading import open_source
from harness.sweep import sweep
from navit_eqx import load_model
from navit_eqx.config_json import check


@dataclass(frozen=True)
class Options:
    """What to evaluate."""

    data: DataConfig
    resolutions: tuple[float, ...] = ()
    """Sizes at which the images are seen; empty takes the run's own list."""
    out: str = ""
    """Folder for the results; empty takes the run folder."""


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0].startswith("-"):
        print(__doc__)
        sys.exit(0 if arguments[:1] in (["-h"], ["--help"]) else 2)
    folder = Path(arguments[0])
    config = report.read_config(folder)
    options = parse(Options, default=Options(config.data), args=arguments[1:], prog="evaluate.py RUN")
    evaluate(folder, replace(config, data=options.data), options)


def evaluate(folder: Path, config: Config, options: Options) -> None:
    model, shape, about = load_model(folder)
    source = open_source(config.data, "val")
    classes = tuple(about["classes"])
    check(
        source.manifest.classes == classes,
        f"the model knows {len(classes)} classes, first {classes[0]!r}; {source.manifest.where} has "
        f"{len(source.manifest.classes)}, first {source.manifest.classes[0]!r}: evaluate on the same classes",
    )
    out = Path(options.out or folder)
    out.mkdir(parents=True, exist_ok=True)
    resolutions = options.resolutions or (*config.data.eval_resolutions, config.data.val_resolution)
    sweep(model, replace(config, model=shape), source, resolutions, out)
    print(f"\ntable and picture: {out}/")


if __name__ == "__main__":
    run(main)
