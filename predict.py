"""Print the top classes of image files, of any size and format, packed together.

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
from typing import Annotated

import numpy as np
import tyro

import navit_eqx as navit
from data.errors import DataError, DataMissing
from data.manifest import printable
from harness.evaluation.predictions import able_to_read
from navit_eqx.front import info_of, pair
from navit_eqx.images import pack
from navit_eqx.pixels import ImageError, read_header
from navit_eqx.preprocessing import at_resolution

AT_ONCE = 64  # images that are decoded and packed together


@dataclass(frozen=True)
class Options:
    """Top classes of image files."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run, or of a saved model."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Image files."""
    top: int = 5
    """Classes to print for each."""
    resolution: float | None = None
    """Size at which the images are read; auto: that of the run."""
    patch_size: int | None = None
    """Side of the patches in pixels; auto: that of the model. Larger patches are fewer tokens."""


def main() -> None:
    options = parse(Options, prog="predict.py")
    model = navit.load(options.run)
    classes = info_of(model).classes
    paths = readable(options.images, model.config.channels)
    for start in range(0, len(paths), AT_ONCE):
        part = paths[start : start + AT_ONCE]
        for path, p in zip(part, predict(model, part, options.resolution, options.patch_size)):
            best = np.argsort(-p)[: options.top]
            print(f"{printable(path)}: " + ", ".join(f"{printable(classes[c])} {p[c]:.1%}" for c in best))


def readable(paths: tuple[str, ...], channels: int) -> list[str]:
    """The files whose header can be read; the others are named.   Raises DataError where none can."""
    if not paths:
        raise DataMissing("no image given: name one or more image files")
    found = []
    for path in paths:
        try:
            read_header(path, channels)
            found.append(path)
        except (ImageError, OSError) as error:
            print(f"set aside {printable(path)}: {printable(str(error))}", file=sys.stderr)
    if not found:
        raise DataError(f"none of {len(paths)} files is an image that can be read")
    return found


def predict(
    model: navit.Model, images: list, resolution: float | None = None, patch_size: int | None = None
) -> np.ndarray:
    """Class probabilities, one line per image, by the function that the model was trained with."""
    preprocessing = info_of(model).preprocessing
    if resolution:
        preprocessing = replace(preprocessing, size=at_resolution(preprocessing.size, resolution))
    patch = (patch_size, patch_size) if patch_size else None
    model = able_to_read(model, patch)
    batch = navit.to_device(
        pack(
            images,
            preprocessing=preprocessing,
            patch=patch or pair(model.config.patch),
            longest_side=model.config.posembed.longest_side,
        )
    )
    return navit.probabilities(model, navit.unpack(batch, navit.forward(model, batch)))


if __name__ == "__main__":
    run(main)
