"""Write a small part of a classified set as a folder: the first images of the first classes, for a quick comparison.

    python examples/few_images.py DIR OUT --classes 20 --train 10 --val 16
    python examples/few_images.py DIR OUT --label coarse      # of parquet files, by this column

OUT gets train/<class>/* and val/<class>/*: PNG files with the pixels as they are decoded.
"""

import argparse
from collections import Counter
from pathlib import Path

from PIL import Image

from data.sources.folder import Folder
from data.sources.parquet import Parquet
from data.sources.source import Source


def write(source: Source, out: Path, classes: int, count: int) -> int:
    """Write the first `count` images of each of the first classes; the number of images."""
    known, done = source.manifest, Counter()
    for index, label in enumerate(known.labels.tolist()):
        if label < classes and done[label] < count:
            folder = out / known.classes[label].replace("/", "_")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(source.image(index)).save(folder / f"{done[label]:04}.png")
            done[label] += 1
    return done.total()


def main() -> None:
    """Write both splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--label", default="", help="column of parquet files; empty: a folder of classes")
    for name, default in (("classes", 20), ("train", 10), ("val", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    kind = Parquet(label=options.label) if options.label else Folder()
    for split in ("train", "val"):
        count = write(
            kind.open(str(options.root), split), options.out / split, options.classes, getattr(options, split)
        )
        print(f"{count} images: {options.out / split}/")


if __name__ == "__main__":
    main()
