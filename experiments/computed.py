"""An experiment without training: numbers, claims about them, a picture.

python experiments/NAME/run.py          compute, judge, draw
python experiments/NAME/run.py --draw   picture and tables from result.json alone
python experiments/NAME/run.py --tiny   does it run? the picture from result.json, nothing is written
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments.results import fill_readme, load, save


def command_line(**options: str) -> argparse.Namespace:
    """--draw, and further options that may be given several times, by name with their help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    for name, text in options.items():
        parser.add_argument(f"--{name}", action="append", default=[], help=text)
    return parser.parse_args()


def main(
    folder: Path,
    measure: Callable[[argparse.Namespace], dict],
    draw: Callable[[Mapping, Path], None],
    options: argparse.Namespace,
) -> None:
    """`measure` returns claims, tables and whatever the picture needs."""
    if options.tiny:
        with TemporaryDirectory() as scratch:
            return draw(load(folder), Path(scratch) / "result.png")
    result = load(folder) if options.draw else save(folder, **measure(options))
    draw(result, folder / "result.png")
    fill_readme(folder, result)
    for claim in result["claims"]:
        print(f"{claim['verdict']}: {claim['says']} ({claim['found']})")


def stated(says: str, found: str, holds: bool) -> dict:
    """A claim about numbers without an error of their own."""
    return {"says": says, "found": found, "verdict": "holds" if holds else "fails"}
