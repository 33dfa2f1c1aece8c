"""Command lines: what is empty, out of range or without effect is refused by the option that was typed."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

import evaluate
import navit_eqx as navit
import predict
import train
from data.errors import DataError
from data.sources.csv_tables import csv_lines
from data.sources.generated import Generated
from data.sources.source import Arrays
from data.tasks import TASKS
from harness.cli import check_used, parts, with_place
from harness.exit_codes import run
from harness.habits import check_read
from harness.presets import PRESETS
from navit_eqx import ModelConfig, ModelInfo
from navit_eqx.errors import ConfigError
from navit_eqx.files import NotWritten, make_folder, replacing
from navit_eqx.preprocessing import Area, Preprocessing
from navit_eqx.serialize import read_json
from navit_eqx.tasks.config import Classify
from tests.support.laws import caught
from tests.support.strategies import random_model

WAYS = ("classify", "search", "features", "detect", "segment")

# empty words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, named",
    [
        (["--start", ""], "--start has an empty value"),
        (["--start="], "--start has an empty value"),
        (["--name", "  "], "--name has an empty value"),
        (["--steps", "3", ""], "a word is empty"),
    ],
)
def test_an_empty_word_is_refused(words, named, capsys):
    """As of a shell variable that is not set: `--start "$RUN"` would train from scratch without a word."""
    with pytest.raises(SystemExit) as end:
        train.command_line(["digits", *words])
    assert end.value.code == 2 and named in capsys.readouterr().err


def test_no_run_is_no_name_of_this_folder(monkeypatch, capsys):
    """`evaluate.py "$RUN"` would look for a run in the working folder."""
    monkeypatch.setattr(evaluate.sys, "argv", ["evaluate.py", ""])
    with pytest.raises(SystemExit) as end:
        evaluate.main()
    assert end.value.code == 2 and "a word is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, named",
    [
        (["--select.patience", "3"], "--select.patience is an option of --select best: name it first"),
        (["--optim.schedule.timescale=9"], "an option of --optim.schedule rsqrt"),
        (["--data.patch-sizes.weights", "1"], "an option of --data.patch-sizes perimage or perstep"),
        (["--data.augment.mix.alpha", "1"], "an option of --data.augment.mix mix"),
    ],
)
def test_an_option_of_a_class_that_was_not_chosen_names_the_class(words, named, capsys):
    with pytest.raises(SystemExit) as end:
        train.command_line(["digits", *words])
    assert end.value.code == 2 and named in capsys.readouterr().err
    option = named.partition("an option of ")[2].partition(":")[0].split()
    train.command_line(["digits", *option[:2], *words, *(["--model.flexi", "flexi"] if "patch" in words[0] else [])])


# numbers out of range --------------------------------------------------------------------------------------


def disturbed(value):
    """Numbers in no interval, in the form of a value; None where there is no number in it."""
    if isinstance(value, tuple) and value:
        return None if disturbed(value[0]) is None else tuple(map(disturbed, value))
    return {int: -(10**12), float: math.nan}.get(type(value))


def options_are_named(place, default) -> int:
    """The number of fields whose refusal begins with the option that is typed."""
    count = 0
    for path, part in parts(default):
        for field in dataclasses.fields(part):
            if (wrong := disturbed(getattr(part, field.name))) is None:
                continue
            with pytest.raises(ValueError) as error:
                dataclasses.replace(part, **{field.name: wrong})
            if " must be in " in str(error.value):
                assert place(str(error.value), type(part), default).startswith(f"{path}.{field.name}=".lstrip("."))
                count += 1
    return count


@pytest.mark.parametrize("preset", ["folder", "digits-flexi", "contrast-digits", "detect-digits", "video-digits"])
def test_a_number_out_of_range_is_named_by_its_option(preset):
    assert options_are_named(with_place, PRESETS[preset]()) > 25


def test_a_number_without_its_section_is_caught():
    caught(options_are_named, lambda words, kind, default: words, PRESETS["digits"]())


@pytest.mark.parametrize(
    "words, said",
    [
        (["--data.augment.crop", "25"], r"^data\.augment\.crop=25\.0 must be in"),
        (["--data.resolution.lo", "9", "--data.resolution.hi", "1"], r"^data\.resolution\.lo=9\.0 must not be above"),
        (["--optim.lr", "-1"], r"^optim\.lr=-1\.0 must be in"),
        (["--seed", "-1"], r"^seed=-1 must be in"),
        (["--rows", "3", "--optim.accumulate", "2"], r"^rows=3 must be a multiple of optim\.accumulate=2"),
    ],
)
def test_the_command_line_names_the_option(words, said):
    with pytest.raises(ConfigError, match=said):
        train.command_line(["digits", *words])


def test_parts_that_do_not_divide_the_rows_are_refused_before_anything_is_read():
    with pytest.raises(ConfigError, match=r"^rows=2 must be a multiple of task\.parts=3"):
        train.command_line(["contrast-digits", "--rows", "2", "--task.parts", "3"])


@pytest.mark.parametrize("name", ["a/b", "..", "try[1]"])
def test_a_name_is_refused_before_images_are_read(name, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "opened", lambda config: pytest.fail("images were read"))
    config = dataclasses.replace(PRESETS["digits"](), name=name, out=str(tmp_path))
    with pytest.raises(ConfigError, match="is not the name of a folder|could be restored"):
        train.train(config, "digits")


# options without effect ------------------------------------------------------------------------------------


def idle_in(way: str) -> set[str]:
    return {name for name, (ways, _) in predict.USED.items() if way not in ways}


def test_every_option_of_a_prediction_counts_in_some_way():
    """And those that are of no use in any are not in the table."""
    fields = {field.name for field in dataclasses.fields(predict.Options)}
    assert predict.USED.keys() <= fields
    assert all(ways and {*ways} <= {*WAYS} for ways, _ in predict.USED.values())
    assert not set.intersection(*map(idle_in, WAYS))
    studies = {field.name for field in dataclasses.fields(evaluate.Options)}
    assert evaluate.USED.keys() <= studies


@pytest.mark.parametrize("option, value", [("least", 0.9), ("out", "x"), ("texts", ("a",)), ("top", 2), ("sheet", "y")])
def test_an_option_that_changes_nothing_is_refused(option, value):
    default = predict.Options("run", ("a.jpg",))
    for way in WAYS:
        idle = [(name, why) for name, (ways, why) in predict.USED.items() if way not in ways]
        check_used(default, default, idle)
        given = dataclasses.replace(default, **{option: value})
        if option in idle_in(way):
            with pytest.raises(ConfigError, match=f"{option} was given, and changes nothing: "):
                check_used(given, default, idle)
        else:
            check_used(given, default, idle)


def test_options_of_studies_need_their_study():
    default = evaluate.Options(PRESETS["digits"]().data)
    for option, value in {"compare": "runs/b", "patch_sizes": (6,), "merge_rates": (0.5,)}.items():
        given = dataclasses.replace(default, **{option: value})
        with pytest.raises(ConfigError, match=rf"{option} was given, and changes nothing: .*--studies \w+"):
            check_used(given, default, evaluate.idle(["sweep"]))
        check_used(given, default, evaluate.idle(["sweep", evaluate.USED[option][0]]))


def test_a_folder_for_images_that_are_drawn_is_refused_by_every_program():
    """Each of them would take its own images, and say nothing."""
    drawn = {}
    for make in PRESETS.values():
        config = make()
        if isinstance(config.data.source, Generated):
            drawn[type(config.data.source).__name__] = config
            check_read(config.data, type(config.task).__name__)
    assert drawn.keys() == {kind.__name__ for kind in Generated.__subclasses__()}
    for config in drawn.values():
        with pytest.raises(ConfigError, match=r"^data\.root=photos, but .* embedded, .* --data\.source \w+$"):
            check_read(dataclasses.replace(config.data, root="photos"), type(config.task).__name__)
    check_read(dataclasses.replace(PRESETS["folder"]().data, root="photos"), "Classify")


# what is not there -----------------------------------------------------------------------------------------


def test_a_folder_without_a_model_says_what_it_has(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "photo.jpg").touch()
    for folder, words in {
        "": r"no config.json in .*, but in its folders a, b: name",
        "nothing": "there is no folder .*nothing: name",
        "photo.jpg": "photo.jpg is a file, and no folder: name",
    }.items():
        with pytest.raises(ConfigError, match=words):
            read_json(Path(tmp_path, folder, "config.json"))


def test_a_file_that_is_not_there_is_said_in_words(tmp_path):
    """Without the number of the error of the system."""
    info = ModelInfo(("a",), Preprocessing(Area(8)))
    model = random_model(ModelConfig((4, 4), width=8, depth=1, heads=2, mlp_width=8), Classify(classes=1), info)
    said: dict[int, str] = {}
    assert np.isnan([*navit.stream(model, ["https://host/a.jpg", tmp_path], report=said.__setitem__)]).all()
    assert said[0] == "image 0 (https://host/a.jpg) cannot be read, No such file or directory"
    assert "not a regular file" in said[1]


def test_a_folder_in_the_place_of_a_file_is_named_before_the_work(tmp_path):
    with pytest.raises(NotWritten, match="cannot be written, Is a directory: name a file, this is a folder"):
        with replacing(tmp_path):
            pytest.fail("hours of work")
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotWritten, match="name a folder, this is a file"):
            make_folder(folder)


def test_memory_is_advised_on_by_the_program(capsys):
    def main():
        raise MemoryError("42 GiB")

    for words in ("fewer --rows", "smaller --patch-size"):
        with pytest.raises(SystemExit) as end:
            run(main, *([words] if "patch" in words else []))
        assert end.value.code == 78 and words in capsys.readouterr().err


def test_a_table_with_other_separators_is_told(tmp_path):
    for mark in (";", "\t"):
        (tmp_path / "map.csv").write_text(f"source{mark}target\ncat{mark}dog\n")
        with pytest.raises(DataError, match="columns are parted by commas, not by"):
            csv_lines(tmp_path / "map.csv", "source", "target")


def test_unknown_classes_can_be_mapped_where_an_image_has_one():
    source = Arrays([np.zeros((4, 4, 3), np.uint8)], np.array([0]), ("cat",))
    for name, way in {"Classify": True, "Segment": False}.items():
        with pytest.raises(DataError, match="unknown classes, first 'cat'") as error:
            evaluate.in_classes(source, ("dog",), object.__new__(TASKS[name]))
        assert ("--label-map FILE" in str(error.value)) == way
    assert evaluate.in_classes(source, ("dog", "cat"), TASKS["Classify"]()).manifest.labels.tolist() == [1]
