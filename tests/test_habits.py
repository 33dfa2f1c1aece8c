"""Options of other programs are answered with ours, a finished run by its name, and a start lowers the rate."""

import dataclasses
import re
import typing
from dataclasses import replace

import pytest

import evaluate
import train
from harness.config import Config
from harness.exit_codes import code_of
from harness.habits import EVALUATION, TRAINING, answer, idle
from harness.presets import FINE_TUNING, PRESETS, folder
from harness.run.folder import acquire_run_dir, check_place
from navit_eqx.errors import ConfigError
from navit_eqx.serialize import alternatives
from tests.support.laws import caught


def options_of(kind: type, prefix: str = "--") -> set[str]:
    """Every option that a dataclass has on the command line, whatever classes are chosen."""
    found = set()
    for name, annotation in typing.get_type_hints(kind).items():
        if name in {field.name for field in dataclasses.fields(kind)}:
            option = f"{prefix}{name.replace('_', '-')}"
            inner = [part for part in alternatives(annotation) if dataclasses.is_dataclass(part)]
            own = {option} if len(alternatives(annotation)) > 1 or not inner else set()
            found |= own.union(*(options_of(part, f"{option}.") for part in inner))
    return found


OPTIONS = {"train": (options_of(Config), TRAINING), "evaluate": (options_of(evaluate.Options), EVALUATION)}


def answers_exist(known: set[str], table: dict[str, str]) -> None:
    """Every option of an answer exists, and no option of ours is taken for another program's."""
    named = {option for what in table.values() for option in re.findall(r"--[\w.-]*\w", what)}
    assert named <= known, named - known
    words = [word for words in table for word in words.split()]
    assert len(words) == len(set(words)) and not {f"--{word}" for word in words} & known


@pytest.mark.parametrize("program", OPTIONS)
def test_answers_name_options_that_exist(program):
    answers_exist(*OPTIONS[program])


@pytest.mark.parametrize("wrong", [{"epochs": "--step N"}, {"seed": "--seed"}])
def test_answers_that_lead_nowhere_are_caught(wrong):
    caught(answers_exist, OPTIONS["train"][0], wrong)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["folder", "--epochs", "9"], "no option --epochs; here it is --steps"),
        (["folder", "--batch_size=9"], "--rows"),
        (["--lr", "1e-3"], "--optim.lr"),
        (["folder", "-j", "4"], "--data.workers"),
        (["{here}", "--steps", "9"], "train.py folder --data.root {here} --steps 9"),
    ],
)
def test_habits_are_answered(arguments, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        train.command_line([argument.format(here=tmp_path) for argument in arguments])
    assert end.value.code == 2 and words.format(here=tmp_path) in capsys.readouterr().err


def test_own_options_are_no_habits():
    assert answer(["--optim.lr", "1", "--rows=3", "--data.workers", "2", "-1"], TRAINING) == ""


@pytest.mark.parametrize(
    "arguments, words",
    [
        (
            ["digits", "--data.root", "photos"],
            "embedded, .* folder --data.root photos, or --data.source f",
        ),
        (["detect-digits", "--data.root", "a"], "pages of digits are embedded, .* detect --data.root a, .* boxed"),
        (["contrast-digits", "--data.root", "a"], "digit strips are embedded, .* contrast --data.root a, .* captions"),
        (["segment-glyphs", "--data.root", "a"], "glyph scenes are embedded, .* segment --data.root a, .* masks"),
        (
            ["video-digits", "--data.root", "a"],
            "moving digits are embedded, .* read: --data.source clipf",
        ),
        (["folder", "--start", "runs/a", "--model.width", "256"], "model.width was given, but --start takes the shape"),
    ],
)
def test_what_is_not_obeyed_is_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        train.command_line(arguments)


@pytest.mark.parametrize(
    "arguments, factor",
    [
        ([], 1),
        (["--start", "runs/a"], FINE_TUNING),
        (["--start=runs/a"], FINE_TUNING),
        (["--start", "runs/a@100"], 1),
        (["--start", "runs/a", "--optim.frozen", "backbone"], 1),
        (["--start", "runs/a", "--optim.frozen=backbone"], 1),
    ],
)
def test_a_start_has_a_tenth_of_the_rate(arguments, factor):
    lr = folder().optim.lr
    assert train.command_line(["folder", *arguments])[1].optim.lr == lr * factor
    assert train.command_line(["folder", *arguments, "--optim.lr", "0.5"])[1].optim.lr == 0.5


def test_a_finished_run_says_so_and_how_to_train_it_on(tmp_path, capsys):
    done = tmp_path / "clothing"
    done.mkdir()
    (done / "config.json").write_text("{}")
    (done / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match=rf"clothing is finished. Evaluate it.*--start {done} and another") as error:
        check_place(replace(folder(), out=str(tmp_path), name="clothing"))
    assert code_of(error.value) == 78
    place, held = acquire_run_dir(str(tmp_path), "", "clothing")  # the name of a preset is not asked for
    held.close()
    assert place.name == "clothing-2" and "clothing is finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    "alone, counts",
    [
        ("--data.token-selection spread", "--data.dropping constant --data.dropping.rate 0.5"),
        ("--data.token-selection bycontrast", "--data.packing.rule template"),
        ("--data.packing.fill rate", "--data.dropping beta"),
        ("--model.levels levels", "--data.merge merge"),
        ("--model.detail detail", "--data.merge merge"),
        ("--model.areas area-weights", "--data.merge merge"),
        ("--model.flexi flexi --model.flexi.sizes 6 10", "--data.patch-sizes perimage"),
    ],
)
def test_what_would_change_nothing_is_refused(alone, counts):
    """An option that needs another one."""
    option = alone.split()[0].removeprefix("--").replace("-", "_")
    with pytest.raises(ConfigError, match=f"{option} was given, and changes nothing: "):
        train.command_line(["digits", *alone.split()])
    train.command_line(["digits", *alone.split(), *counts.split()])


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_has_an_idle_option(preset):
    """Unless the command takes away what makes it count."""
    at_defaults = {"data.token_selection", "model.levels", "model.detail", "model.areas"}
    assert {given for given, _ in idle(PRESETS[preset]())} <= at_defaults
    train.command_line([preset, "--data.dropping", "constant", "--data.dropping.rate", "0"])
