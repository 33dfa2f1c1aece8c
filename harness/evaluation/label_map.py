"""Images of other classes than those of the model: a table says which classes of the model mean which of the images.

A CSV file with the columns `source` (a class of the model) and `target` (a class of the images). A target may have
several sources, a source several targets. The answer is the target with the highest mean probability (forced choice),
or with the highest of what `How` names.
Images whose target has no source cannot be answered: they are left out of the denominator and counted.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from data.errors import DataError
from data.manifest import Manifest
from data.sources.csv_tables import csv_lines
from data.sources.source import Chosen, Source
from data.tasks import DataTask
from navit_eqx.errors import ConfigError, check
from reference.evaluation.calibration import Link
from reference.evaluation.label_map import How, target_scores

SUITED = ("sweep", "aspect", "upscaling", "dropping", "crops", "corruptions")


class LabelMap(NamedTuple):
    """For each target class, the places of its source classes."""

    targets: tuple[str, ...]
    members: tuple[Int[np.ndarray, " _"], ...]


def read_map(path: Path, sources: Sequence[str], targets: Sequence[str]) -> LabelMap:
    """Read a table.   Raises ConfigError on unknown names, with the nearest known one, and on a damaged table."""
    pairs: dict[tuple[str, str], None] = {}
    try:
        _, lines = csv_lines(path, "source", "target")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read, {error.strerror}: give a CSV file, --label-map FILE") from None
    except DataError as error:
        raise ConfigError(str(error)) from None
    for number, line in lines:
        known(path, number, "source", line["source"], sources, "class of the model")
        known(path, number, "target", line["target"], targets, "class of the images")
        pairs[line["source"], line["target"]] = None
    place = {name: i for i, name in enumerate(sources)}
    members = tuple(np.array([place[s] for s, t in pairs if t == target], np.int64) for target in targets)
    return LabelMap(tuple(targets), members)


def known(path: Path, line: int, column: str, name: str, names: Sequence[str], what: str) -> None:
    """Raises ConfigError where a name is not among these."""
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f", did you mean {near[0]!r}?" if near else f"; first of {len(names)}: {names[0]!r}"
    raise ConfigError(f"{path}, line {line}: {column} {name!r} is no {what}{hint}")


class Mapped(DataTask):
    """A task whose answers are classes of the images, by a map."""

    metric = "accuracy"
    studies = ("sweep",)

    def __init__(self, labels: LabelMap, link: Link, how: How = "mean"):
        self.labels, self.link = labels, link
        self.how: How = how

    def targets(self, drawn, manifest: Manifest, slots: int):
        """Never asked for: maps are for evaluation."""
        raise NotImplementedError

    def scores(
        self, outputs: Num[np.ndarray, "N S"], image_ids: Int[np.ndarray, " N"], manifest: Manifest
    ) -> Float[np.ndarray, " N"]:
        """1 where the target of an image has the highest score, else 0."""
        logits = outputs.astype(float)
        found = target_scores(logits if self.how == "logsumexp" else self.link(logits), self.labels.members, self.how)
        return (found.argmax(-1) == manifest.labels[image_ids]).astype(float)


def answerable(source: Source, labels: LabelMap) -> Source:
    """The images whose target has a source, with a note on the others.   Raises ConfigError where none is left."""
    manifest = source.manifest
    check(manifest.labels.ndim == 1, f"a label map needs one class per image; {manifest.where} has label sets")
    has = np.array([len(members) > 0 for members in labels.members])
    kept = np.flatnonzero(has[manifest.labels])
    check(len(kept) > 0, f"no image of {manifest.where} has a target with a source: add lines to the label map")
    left = len(manifest) - len(kept)
    note = (
        f"label map: {int(has.sum())} of {len(has)} target classes have a source; {left} of {len(manifest)} images "
        "cannot be answered and are left out of the denominator"
    )
    return Chosen(source, kept, note)
