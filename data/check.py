"""List the images of a folder that cannot be used, with the reasons.

    python -m data.check DIR
    python -m data.check DIR --channels 4    # for runs with --model.channels 4

Every image below DIR is read as in training; nothing is written. Exit codes: 0 all images can be used · 2 wrong command
line · 65 some images cannot be used · 66 no image in DIR · 74 DIR cannot be listed.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .errors import BadImage
from .manifest import printable
from .sources.decode import decode, limit_pillow, read_file, read_size
from .sources.layout import files_below, is_image_name, suffixes_for
from .sources.source import Source

SILENT = 10.0  # seconds between lines of progress
LONGEST_NAME = 49  # characters of a folder in the table, which fits 80 columns


def why_not(read: Callable[[], Any]) -> str:
    """Why an image cannot be used; empty where it can."""
    try:
        read()
    except BadImage as error:
        return str(error)
    return ""


def check_file(path: Path, channels: int = 3) -> str:
    """Why a file cannot be used; empty where it can."""

    def read():
        data = read_file(path)
        size, image = read_size(data, channels), decode(data, channels=channels)
        if image.shape[:2] != size:
            raise BadImage(f"{image.shape[0]} x {image.shape[1]} pixels, but its header says {size[0]} x {size[1]}")

    return why_not(read)


def undecodable(source: Source) -> dict[str, str]:
    """Names of images whose pixels cannot be decoded, with the reasons."""
    reasons = {source.manifest.name(i): why_not(partial(source.image, i)) for i in range(len(source.manifest))}
    return {name: why for name, why in reasons.items() if why}


def check_folder(folder: Path, names: list[str], channels: int = 3) -> Iterator[tuple[str, str]]:
    """Names of files in `folder`, each with the reason why it cannot be used, or an empty string."""
    return ((name, check_file(folder / name, channels)) for name in names)


def table(reasons: dict[str, str]) -> str:
    """Table of files tried, read and set aside, by top-level folder."""
    kinds = {name: name.partition("/")[0] if "/" in name else "." for name in reasons}
    tried = Counter(kinds.values())
    bad = Counter(kinds[name] for name, why in reasons.items() if why)
    lines = [(kind, tried[kind], tried[kind] - bad[kind], bad[kind]) for kind in sorted(tried)]
    lines.append(("all", tried.total(), tried.total() - bad.total(), bad.total()))
    head = f"{'folder':30} {'tried':>9} {'read':>9} {'set aside':>9}"
    return "\n".join(
        [head, *(f"{printable(kind)[:LONGEST_NAME]:30} {n:9} {read:9} {aside:9}" for kind, n, read, aside in lines)]
    )


def positive(word: str) -> int:
    """A positive integer, for options of programs.   Raises ValueError."""
    if (number := int(word)) < 1:
        raise ValueError(f"{word} is less than 1")
    return number


def main(arguments: list[str]) -> int:
    """Check a folder of images; the exit code."""
    parser = argparse.ArgumentParser("python -m data.check", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("dir", type=Path, help="folder of the images")
    parser.add_argument("--channels", type=positive, default=3, help="channels of an image (default: 3)")
    options = parser.parse_args(arguments)
    limit_pillow()
    folder, suffixes = options.dir, suffixes_for(options.channels)
    try:
        files = list(files_below(folder))
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 74
    names = [name for name in files if is_image_name(name, suffixes)]
    others = Counter(Path(name).suffix or "no suffix" for name in files if not is_image_name(name, suffixes))
    reasons, last = {}, time.monotonic()
    for name, reasons[name] in check_folder(folder, names, options.channels):
        if reasons[name]:
            print(f"{printable(name)}: {reasons[name]}", flush=True)
        if time.monotonic() - last >= SILENT:
            last = time.monotonic()
            print(f"{len(reasons)} of {len(names)} files", flush=True)
    if others:
        kinds = ", ".join(f"{count} {printable(suffix)}" for suffix, count in others.most_common())
        print(f"not taken for images, by their suffix: {kinds}")
    if not names:
        print(f"error: no image in {folder}", file=sys.stderr)
        return 66
    print(table(reasons))
    return 65 if any(reasons.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
