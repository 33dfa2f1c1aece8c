"""Print the top classes of image files of any size and format.

python predict.py runs/caltech101 photo.jpg drawing.png
python predict.py runs/caltech101 *.jpg --top 3 --resolution 160
python predict.py runs/caltech101-flexi photo.jpg --patch-size 24
"""

from harness.cli import parse
from harness.exit_codes import run
from harness.process import tune_allocator

if __name__ == "__main__":
    tune_allocator()

import sys
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import tyro

import navit_eqx as navit
from data.errors import DataError, DataMissing
from data.manifest import printable
from harness.evaluation.predictions import model_for_patch
from navit_eqx.errors import check_in
from navit_eqx.front import info_of
from navit_eqx.preprocessing import at_resolution

AT_ONCE = 64  # images that are decoded and packed together


@dataclass(frozen=True)
class Options:
    """Options of prediction."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run or of a saved model."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Image files of any sizes."""
    top: int = 5
    """Number of classes to print per image."""
    resolution: float | None = None
    """Resolution, in the unit of data.resolution; auto: the validation resolution of the run."""
    patch_size: int | None = None
    """Side of the patches in pixels; auto: the patch of the model. Larger patches give fewer tokens."""

    def __post_init__(self):
        check_in("", "[1, 2147483647]", top=self.top, patch_size=self.patch_size)
        check_in("", "(0, inf)", resolution=self.resolution)


def main() -> None:
    options = parse(Options, prog="predict.py")
    model = navit.load(options.run)
    how = chosen(model, options)
    classes, paths = info_of(model).classes, usable(model, options.images, how)
    predicted = 0
    for start in range(0, len(paths), AT_ONCE):
        part = paths[start : start + AT_ONCE]
        for path, p in zip(part, predict(model, part, how)):
            if np.isnan(p).any():
                continue  # reported already
            predicted += 1
            best = np.argsort(-p)[: options.top]
            print(f"{printable(path)}: " + ", ".join(f"{printable(classes[c])} {p[c]:.1%}" for c in best))
    if not predicted:
        raise DataError(f"none of {len(paths)} images could be decoded")


def chosen(model: navit.Model, options: Options) -> dict[str, Any]:
    """Resolution and patch size as options of `navit.pack`."""
    how: dict[str, Any] = {}
    if options.resolution:
        preprocessing = info_of(model).preprocessing
        how["preprocessing"] = replace(preprocessing, size=at_resolution(preprocessing.size, options.resolution))
    if options.patch_size:
        how["patch"] = (options.patch_size, options.patch_size)
    return how


def usable(model: navit.Model, paths: tuple[str, ...], how: dict[str, Any]) -> list[str]:
    """Files that the model can read, by their headers; others are reported.   Raises DataError where there are none."""
    if not paths:
        raise DataMissing("no image: name one or more image files")
    found = []
    for path in paths:
        if why := navit.refusal(model, path, **how):
            print(f"set aside {printable(why)}", file=sys.stderr)
        else:
            found.append(path)
    if not found:
        raise DataError(f"none of {len(paths)} files is an image that can be read")
    return found


def predict(model: navit.Model, images: list, how: dict[str, Any]) -> np.ndarray:
    """Class probabilities, one row per image."""
    report = lambda index, why: print(f"set aside {printable(why)}", file=sys.stderr)
    batch = navit.pack(images, model, report=report, **how)
    logits = navit.forward(model_for_patch(model, how.get("patch")), batch)
    return navit.probabilities(model, navit.unpack(batch, logits))


if __name__ == "__main__":
    run(main)
