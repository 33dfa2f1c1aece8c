"""Situations that need no file: each line of the second table of cases/README.md, and the tests that hold it."""

import ast
import os
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import cache
from data.sources.folder import Folder
from harness.run.folder import lock, write_config
from navit_eqx import ModelConfig, ModelInfo, load_model, save_model
from navit_eqx.errors import ConfigError
from navit_eqx.tasks import prepare
from navit_eqx.tasks.config import Classify, MultiLabel
from navit_eqx.tasks.model import abstract_model
from tests.support.files import put
from tests.support.runs import TINY
from tests.support.strategies import filled

# The first words of a line → the tests of it.
TESTS = {
    "`--name 'try[1]'`": "test_faults::test_a_save_at_an_odd_path_comes_back_or_is_refused_before",
    "`--model.classes 2`": "test_situations::test_another_number_of_classes_than_the_data_have_is_refused",
    "`cd DIR; train.py folder": "test_situations::test_what_we_wrote_is_no_class",
    "cache written inside the folder": "test_situations::test_what_we_wrote_is_no_class",
    "`--optim.clip 0`": "test_ranges::test_numbers_out_of_range_are_refused_by_name_and_range "
    "test_ranges::test_options_out_of_range_are_refused test_ranges::test_numbers_that_do_not_go_together_are_refused",
    "an own loss object": "test_new_task::test_a_task_that_is_in_no_table_is_refused",
    "`--start RUN --model.width 256`": "test_habits::test_what_is_not_obeyed_is_refused",
    "predicts 11 files": "test_predict::test_files_that_are_no_images_are_named_and_cost_no_other "
    "test_inference::test_no_image_decides_for_others",
    "predicts 1,000 photographs": "test_inference::test_a_stream_reads_no_further_than_it_must",
    "predicts with a model trained by decisions": "test_predict::"
    "test_probabilities_are_those_of_the_function_it_was_trained_with",
    "full disk while the model is saved": "test_saved::test_a_model_is_written_wholly_or_not_at_all "
    "test_faults::test_a_file_is_written_wholly_or_not_at_all",
    "SIGHUP, SIGUSR1": "test_terminal::test_signals_ask_for_the_end "
    "test_terminal::test_a_program_outlives_its_reader test_terminal::test_a_stream_that_fails_goes_silent",
    "`%run train.py` in a notebook": "test_terminal::test_a_script_run_by_another_program_is_not_started_anew",
    "no home, nothing writable": "test_situations::test_programs_start_without_a_home",
    "PYTHONOPTIMIZE=2": "test_faults::test_help_works_without_docstrings",
    "images of grey": "test_preprocessing::test_what_cannot_be_used_is_refused_by_name "
    "test_images::test_paths_pil_images_and_arrays_are_the_same",
    "evaluation on other images": "test_trained::test_no_two_evaluations_share_a_folder",
    "evaluates or starts from an interrupted run": "test_trained::"
    "test_the_model_of_an_unfinished_run_is_that_of_its_last_save test_trained::test_a_run_without_a_save_is_refused",
}
HERE = Path(__file__).parent


@lru_cache
def defined_in(module: str) -> set[str]:
    """The tests of a file."""
    tree = ast.parse((HERE / f"{module}.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_line_of_the_table_has_a_test(datasets):
    page = datasets / "cases" / "README.md"
    if not page.is_file():
        pytest.skip(f"{datasets} has no cases/")
    table = page.read_text().partition("Situations without a file")[2]
    lines = re.findall(r"^\| (?!what a|---)(.*?) \|", table, re.MULTILINE)
    assert len(lines) >= 18
    for line in lines:
        assert any(line.startswith(words) for words in TESTS), f"no test of {line}"


@pytest.mark.parametrize("words", TESTS)
def test_every_test_is_there(words):
    for place in TESTS[words].split():
        module, name = place.split("::")
        assert name in defined_in(module), place


@pytest.mark.parametrize("task", [Classify, MultiLabel])
def test_another_number_of_classes_than_the_data_have_is_refused(task):
    """More or fewer, before a step: a model that has no name for an output cannot be read."""
    classes = ("bars", "disc", "frame", "rungs")
    for count in (2, 10):
        with pytest.raises(ConfigError, match=f"task.classes={count}, but the data have 4"):
            prepare(task(classes=count), classes, load_model)
    for count in (None, 4):
        assert prepare(task(classes=count), classes, load_model).config.classes == 4


def a_run(folder: Path) -> None:
    folder.mkdir(parents=True)
    write_config(folder, TINY, "digits")
    lock(folder).close()


def a_model(folder: Path) -> None:
    shape = ModelConfig((8, 8), width=8, depth=1, heads=2, mlp_width=8, dtype="float32")
    save_model(folder, filled(abstract_model(shape, Classify(classes=2)), 0, "float32"), ModelInfo(("a", "b")))


def a_cache(folder: Path, images: Path) -> None:
    assert cache.main([str(images), str(folder), "--longest-side", "8"]) == 0


@pytest.mark.parametrize("place", ["out", "a/b/out", "cat/out", "cat/more/out"])
@pytest.mark.parametrize("kind", ["run", "model", "cache"])
def test_what_we_wrote_is_no_class(tmp_path, kind, place, capsys):
    """Beside the classes, below one of them, or in a folder of its own: the images are those of before."""
    for name in ("cat", "dog"):
        for i in range(12):
            put(tmp_path / name / f"{i}.png", i)
    opened = lambda: [Folder().open(str(tmp_path), split).manifest for split in ("train", "val", "all")]
    before, out = opened(), tmp_path / place
    a_cache(out, tmp_path) if kind == "cache" else {"run": a_run, "model": a_model}[kind](out)
    inside = out / "train" if kind == "cache" else out
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(inside / "mistakes.png")
    (inside / "checkpoints").mkdir()
    put(inside / "checkpoints" / "picture.png")
    for found, want in zip(opened(), before, strict=True):
        assert found.classes == ("cat", "dog") and found.digest == want.digest


@pytest.mark.slow
@pytest.mark.parametrize("program", ["train.py", "evaluate.py", "predict.py"])
def test_programs_start_without_a_home(program, tmp_path):
    """No home, no place for caches, and a folder for temporary files at the most."""
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"), "/proc/none")
    env = {name: value for name, value in os.environ.items() if name != "USER"} | nowhere | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, program, "--help"], cwd=HERE.parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout) > 20 and "Traceback" not in done.stderr, done.stderr
