"""A value left open is `auto` on the command line and None in a configuration."""

import dataclasses
import typing
from pathlib import Path
from typing import Any

import pytest

import evaluate
import predict
from harness.cli import parse
from harness.config import Config
from harness.presets import PRESETS, photographs
from tests.support.fields import fields_of


def open_fields(value: Any, path: str = "") -> list[str]:
    """Options of plain fields that may hold None."""
    found = []
    for name, annotation in fields_of(type(value)).items():
        inner = getattr(value, name)
        kinds = typing.get_args(annotation)
        if type(None) in kinds and not any(map(dataclasses.is_dataclass, kinds)):
            found.append(path + name)
        if dataclasses.is_dataclass(inner):
            found += open_fields(inner, f"{path}{name}.")
    return found


def at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config


LEFT_OPEN = """steps minutes save_every log_every model.head_size data.resolution.lo data.resolution.hi
data.patch_sizes.size data.packing.row_tokens data.packing.row_images data.val_resolution
optim.head_decay task.classes"""


def test_the_fields_that_may_be_left_open():
    assert sorted(open_fields(photographs())) == sorted(LEFT_OPEN.split())


@pytest.mark.parametrize("key", LEFT_OPEN.split())
def test_auto_leaves_a_value_open(key):
    option, value = f"--{key.replace('_', '-')}", ["8", "8"] if key.endswith("patch_sizes.size") else ["8"]
    base = photographs()
    given_, open_ = (parse(Config, default=base, args=[option, *words]) for words in (value, ["auto"]))
    assert at(given_, key) in (8, (8, 8)) and at(open_, key) is None
    assert at(parse(Config, default=given_, args=[option, "auto"]), key) is None
    for word in ("None", "none", "Auto", ""):
        with pytest.raises(SystemExit):
            parse(Config, default=base, args=[option, word])


def test_auto_stays_a_word_elsewhere():
    """Of fields that have it as a value, and of plain text; a number takes it nowhere else."""
    words = "--model.dtype auto --distributed auto --name auto --model.attention auto".split()
    config = parse(Config, default=PRESETS["digits"](), args=words)
    assert (config.model.dtype, config.distributed, config.name) == ("auto", "auto", "auto")
    with pytest.raises(SystemExit):
        parse(Config, default=PRESETS["digits"](), args=["--rows", "auto"])


def test_help_and_errors_say_auto(capsys):
    with pytest.raises(SystemExit):
        parse(Config, default=photographs(), args=["--help"])
    said = capsys.readouterr().out
    assert "None" not in said and "--steps auto|INT" in said and "--data.patch-sizes.size auto|[INT" in said
    assert said.count("(default: auto)") >= len(LEFT_OPEN.split()) - 4  # some break over a line
    with pytest.raises(SystemExit):
        parse(Config, default=photographs(), args=["--steps", "many"])
    said = capsys.readouterr().err
    assert "None" not in said and "auto|INT" in said


def test_options_of_the_other_programs_take_auto(tmp_path: Path):
    for kind, names in ((predict.Options, ("resolution", "patch_size")), (evaluate.Options, ("patch_size",))):
        positional = ["run", "a.png"] if kind is predict.Options else []
        default = None if positional else evaluate.Options(PRESETS["digits"]().data, patch_size=4)
        for name in names:
            words = [*positional, f"--{name.replace('_', '-')}", "auto"]
            assert getattr(parse(kind, default=default, args=words), name) is None
