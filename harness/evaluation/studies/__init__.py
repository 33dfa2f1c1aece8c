"""Studies of a trained model: each is a function of a Context that returns its findings. See docs/evaluation.md.

sweep        accuracy, cost and time at each resolution
aspect       aspect ratio kept, against the image squashed to a square of as many tokens
upscaling    small images enlarged to the resolution, against kept at their own size
dropping     a smaller image, against a large one of which tokens are dropped, at as many tokens
calibration  how far confidence is from accuracy at each token budget, before and after a temperature
probe        what k labelled images per class make of the frozen features
cascade      a cheap prediction for all images, a better one for those it is unsure of
patches      accuracy and cost at each resolution in patches of each size, and of their ensembles
similarity   how alike the tokens are in patches of each size, layer by layer
"""

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from navit_eqx.errors import ConfigError

from ...run.folder import write_json
from ..predictions import Context
from ..tables import table, write_csv
from .aspect import aspect
from .calibration import calibration
from .cascade import cascade
from .dropping import dropping
from .findings import Findings
from .patches import patches
from .probe import probe
from .similarity import similarity
from .sweep import sweep
from .upscaling import upscaling

Study = Callable[[Context], Findings]
ALL = (sweep, aspect, upscaling, dropping, calibration, probe, cascade, patches, similarity)
STUDIES: dict[str, Study] = {study.__name__: study for study in ALL}


def chosen(names: Sequence[str]) -> list[str]:
    """The studies to run, the sweep first: it is always run. "all" takes every one.   Raises ConfigError."""
    for name in names:
        if name not in STUDIES and name != "all":
            near = difflib.get_close_matches(name, [*STUDIES, "all"], n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise ConfigError(f"no study {name!r}{hint} Studies: {', '.join(STUDIES)}, all")
    return [name for name in STUDIES if name == "sweep" or name in names or "all" in names]


def publish(name: str, context: Context, folder: Path) -> Findings:
    """Run a study; print its table and what it says, write `name.csv`, `name.json` and its picture into `folder`."""
    findings = STUDIES[name](context)
    rows = [named(row, context.task.metric) for row in findings.rows]
    print(f"\n{findings.title}\n\n{table(rows)}\n\n{findings.says}", flush=True)
    write_csv(folder / f"{name}.csv", rows)
    write_json(folder / f"{name}.json", rows)
    findings.draw(folder / findings.picture)
    return findings


def named(row: dict, metric: str) -> dict:
    """A row with the metric's name where a column says score."""
    return {re.sub(r"(^|_)score(?=_|$)", rf"\1{metric}", key): value for key, value in row.items()}
