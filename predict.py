"""Print the top classes of image files, of any size and format, packed together.

python predict.py runs/caltech101 photo.jpg drawing.png
python predict.py runs/caltech101 *.jpg --top 3 --resolution 160
python predict.py runs/caltech101-flexi photo.jpg --patch-size 24
"""

from harness.command import parse, run, tune_allocator

if __name__ == "__main__":
    tune_allocator()

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from data.decode import decode, read_file
from data.errors import BadImage, DataError, DataMissing
from data.images import pack_images, unpack_images
from data.laws import Resolution
from data.manifest import printable
from data.plan import Packing
from harness.loading import packing_at
from navit_eqx import NaViT, load_model, to_device
from navit_eqx.config_json import check
from navit_eqx.config_json import decode as decode_config
from navit_eqx.evaluate import forward


@dataclass(frozen=True)
class Options:
    """Top classes of image files."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run, or of a saved model."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Image files."""
    top: int = 5
    """Classes to print for each."""
    resolution: float = 0
    """Size at which the images are seen; 0 takes the one of the run."""
    patch_size: int = 0
    """Side of the patches in pixels; 0 takes that of the model. Larger patches are fewer tokens."""


def main() -> None:
    options = parse(Options, prog="predict.py")
    model, config, about = load_model(options.run)
    classes = decode_config(tuple[str, ...], about.get("classes"), "about.classes")
    check(len(classes) == config.classes, f"about.classes has {len(classes)} names for {config.classes} classes")
    law = decode_config(Resolution, about.get("resolution"), "about.resolution")
    law = law.at(options.resolution) if options.resolution else law
    packing = decode_config(Packing, about.get("packing"), "about.packing")
    names, images = read(options.images)
    patch_size = options.patch_size or config.patch_size
    probabilities = predict(model, patch_size, config.posembed.longest_side, images, law, packing)
    for name, p in zip(names, probabilities):
        best = np.argsort(-p)[: options.top]
        print(f"{printable(name)}: " + ", ".join(f"{classes[c]} {p[c]:.1%}" for c in best))


def read(paths: tuple[str, ...]) -> tuple[list[str], list[np.ndarray]]:
    """The images that can be read; the others are named.   Raises DataError where none can."""
    names, images = [], []
    for path in paths:
        try:
            images.append(decode(read_file(Path(path))))
            names.append(path)
        except BadImage as error:
            print(f"set aside {printable(path)}: {error}", file=sys.stderr)
    if not paths:
        raise DataMissing("no image given: name one or more image files")
    if not images:
        raise DataError(f"none of {len(paths)} files is an image that can be read")
    return names, images


def predict(
    model: NaViT,
    patch_size: int,
    longest_side: int,
    images: list[np.ndarray],
    law: Resolution,
    packing: Packing,
) -> np.ndarray:
    """Class probabilities, one line per image; all images share packed rows."""
    sizes = np.array([image.shape[:2] for image in images], np.int32)
    packing = packing_at(packing, law, sizes, patch_size)
    batch = pack_images(images, patch_size=patch_size, resolution=law, packing=packing, longest_side=longest_side)
    return unpack_images(batch, np.asarray(jax.nn.softmax(forward(model, to_device(batch)))))


if __name__ == "__main__":
    run(main)
