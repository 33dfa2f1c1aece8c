"""Write a trained model for others: one packed row as a program, or a folder in the layout of another project.

python export.py runs/digits out --to onnx                     one packed row: static shapes, images of any size
python export.py runs/digits out --to stablehlo --row.rows 1
python export.py runs/digits out --to navit --licence mit      a folder with a model card
python export.py vit-fine-tuned out --to hf                    in the layout of transformers; also timm, big_vision
"""

from harness.cli import parse
from harness.exit_codes import run
from harness.process import find_temporary_folder, tune_allocator

if __name__ == "__main__":
    tune_allocator()
    find_temporary_folder()

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import navit_eqx as navit
from harness.evaluation.loaded import is_run
from harness.run.folder import SUMMARY, read_results, read_saved
from harness.run.trained import trained_model
from harness.working import working
from navit_eqx.export import FORMATS, Output, RowShape, save_exported
from navit_eqx.front import info_of


@dataclass(frozen=True)
class Options:
    """Options of an export."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run, of a saved model, or of a model of another project."""
    out: Annotated[str, tyro.conf.Positional]
    """Folder to write."""
    to: Literal["stablehlo", "onnx", "navit", "hf", "timm", "big_vision"]
    """A program (stablehlo, onnx), or the layout of a folder."""
    row: RowShape = RowShape()
    """The static shape of the row of a program."""
    output: Output = "output"
    """What a program gives: the output of the task, such as logits; pooled features; or encoded tokens."""
    licence: str = ""
    """Licence of the parameters, for the model card of a folder."""
    data: str = ""
    """What it was trained on, for the card; by default the folder of the images."""
    limits: tuple[str, ...] = ()
    """What it is not good for, for the card."""


def main() -> None:
    options = parse(Options, prog="export.py")
    model = trained_model(options.run)
    with working(f"writing {options.to}"):
        if options.to in FORMATS:
            save_exported(model, options.out, options.to, options.row, options.output)
            print(not_in_program(model), end="")
        else:
            navit.save_pretrained(model, options.out, options.to, card_of(Path(options.run), options))
    print(f"{options.to}: {options.out}/")


def not_in_program(model: navit.Model) -> str:
    """A line on what a program does otherwise than the model as it is used here."""
    merge = info_of(model).preprocessing.merge
    if merge is None or not getattr(merge, "rate", 1.0):
        return ""
    return f"the program reads equal patches: {type(merge).__name__} is left to its caller\n"


def card_of(folder: Path, options: Options) -> navit.Card:
    """The model card, with what the folder of a run knows: its command, and what it came to."""
    summary: dict[str, Any] = read_results(folder / SUMMARY) if (folder / SUMMARY).is_file() else {}
    command = read_saved(folder)["command"] if is_run(folder) else []
    metrics = {name: summary[name] for name in summary if name.startswith("val_") and is_number(summary[name])}
    return navit.Card(
        name=folder.resolve().name,
        data=options.data,
        licence=options.licence,
        metrics=metrics | {name: summary[name] for name in ("images_seen", "train_seconds") if name in summary},
        command="python " + shlex.join(command) if command else "",
        limits=options.limits,
    )


def is_number(value: Any) -> bool:
    """Whether an entry of a summary is a result."""
    return isinstance(value, int | float) and not isinstance(value, bool)


if __name__ == "__main__":
    run(main, "fewer --row.row-tokens or --row.rows")
