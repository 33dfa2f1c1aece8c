"""A run in one file: everything that was written is in it, and nothing in it can do harm."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.cli import parse, unions
from harness.config import Config
from harness.evaluation import html
from harness.evaluation.report import MOST, Written, report, table_of, write_report
from harness.evaluation.studies import STUDIES, suited
from harness.evaluation.studies.findings import FINDINGS, Published, published, record
from harness.presets import PRESETS
from harness.run.folder import write_config, write_json, write_sealed
from harness.run.progress import append
from harness.settings import REQUIRED, changed, default_of, words
from harness.terminal import plain
from navit_eqx import ModelInfo
from navit_eqx.serialize import decode, encode
from tests.support.html import Page, is_whole
from tests.support.laws import caught

ODD = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b &amp; c", "'\" onload='x", "\x1b[2J\udcff‮"]
names = st.one_of(st.sampled_from(ODD), st.text(st.characters(), min_size=1, max_size=12))
CONFIG = replace(PRESETS["digits"](), steps=20, name="odd")
SUMMARY = {
    **{"val_accuracy": 0.25, "val_resolution": 1.2, "val_images": 40, "images_seen": 300, "tokens_seen": 4000},
    **{"padding": 0.01, "train_seconds": 61.0, "images_per_second": 5.0},
}


def written(names: list[str], folder: Path = Path("runs/odd")) -> Written:
    """What a run has to report that calls everything by these names."""
    first, second, *_ = names * 2
    saved = {
        **{"preset": first, "command": ["train.py", *names], "versions": {first: second}, "commit": first},
        **{"continued": [{"step": 3}], "device": second, "attention": {"kind": "Dense"}},
        "info": {"classes": names, "trained_on": first},
    }
    said = {"sweep": Published(impossible=second)}
    aside = {"train": {name: second for name in names}}
    config = replace(CONFIG, name=second, data=replace(CONFIG.data, root=first))
    return Written(folder, folder, saved, config, SUMMARY, said, aside)


def reads_as_spelled(names: list[str]) -> None:
    page = is_whole(report(written(names)))
    for name in names:
        assert plain(name, None) in page.text


@given(names=st.lists(names, min_size=1, max_size=3))
def test_a_name_is_a_name(names):
    """Of classes, files, devices, commands: whatever it is, it is read as it is spelled, and does nothing."""
    reads_as_spelled(names)
    for row in [{"class": name, name: 1.0} for name in names]:
        cells = Page(table_of(names[0], [row])).text
        assert plain(row["class"], None) in cells
    assert plain(names[0], None) in [box["aria-label"] for box in Page(table_of(names[0], [{"x": 1}])).all("div")]


@pytest.mark.parametrize("name", ODD[:3])
def test_a_name_that_is_not_escaped_is_caught(monkeypatch, name):
    monkeypatch.setattr(html.html, "escape", lambda text: text)
    caught(reads_as_spelled, [name])


def test_text_that_is_escaped_is_not_escaped_again():
    assert html.tag("p", html.tag("em", "a < b"), "&", None, id_=1) == '<p id="1"><em>a &lt; b</em>&amp;</p>'


def picture(path: Path) -> None:
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """The folder of a run with two studies, one that was not possible, and a refused step."""
    write_config(tmp_path, CONFIG, "digits", info=ModelInfo(tuple("ab"), trained_on="strips"))
    write_sealed(tmp_path / "summary.json", SUMMARY | {"set_aside": {"train": {"half.png": "truncated"}, "val": {}}})
    append(tmp_path / "metrics.jsonl", {"step": 20, "loss": 0.5, "lr": 1e-3})
    append(tmp_path / "refused.jsonl", {"step": 7, "loss": "nan", "grad_norm": "nan", "images": ["seven.png"]})
    for name in ("learning_curve.png", "packed_rows.png", "attention_mask.png", "sweep.png", "mistakes.png"):
        picture(tmp_path / name)
    for name in ("mistakes", "sweep"):  # the order of the registry is another one
        write_json(tmp_path / f"{name}.json", [{"class": "a", "accuracy": 0.125, "groups": {"wide": None}}])
        record(name, Published(f"{name}: title", f"the answer of {name}", f"{name}.png"), tmp_path)
    record("probe", Published(impossible="no labels"), tmp_path)
    return tmp_path


def test_all_that_was_written_is_in_it(folder):
    page = is_whole(write_report(folder).read_text())
    assert len(page.all("img")) == 5
    for words_ in (
        *("Validation accuracy 0.250 on 40 images at resolution 1.2", "strips", "half.png", "truncated", "seven.png"),
        *("The answer of sweep", "The answer of mistakes", "Not possible: no labels", "0.125", "wide"),
    ):
        assert words_ in page.text, words_
    parts = [section["id"] for section in page.all("section")]
    assert parts == [
        *("about", "learning", "rows", "sweep", "mistakes", "probe"),
        *("further-studies", "set-aside", "settings", "repeat"),
    ]
    left = {name for name in suited(("sweep",)) if name not in ("sweep", "mistakes", "probe")}
    assert all(f"{STUDIES[name].__doc__}".partition("?")[0] in page.text for name in left)


def test_the_last_answer_of_a_study_counts(folder):
    record("sweep", Published(impossible="no images"), folder)
    assert "The answer of sweep" not in is_whole(write_report(folder).read_text()).text
    (folder / FINDINGS).write_text('{"sweep": 1')
    assert published(folder) == {}
    is_whole(write_report(folder).read_text())


def test_an_evaluation_of_other_images_tells_of_them_alone(folder, tmp_path):
    """Beside the model: its pictures of training, its score and its files are not those of the evaluation."""
    other = tmp_path / "evaluations" / "photos-all"
    other.mkdir(parents=True)
    write_json(other / "sweep.json", [{"resolution": 1.0, "accuracy": 0.75}])
    record("sweep", Published("sweep: other images", "best: 0.75", "none.png"), other)
    page = is_whole(write_report(other, folder, {"all": {"bad.jpg": "empty file"}}).read_text())
    assert "bad.jpg" in page.text and "half.png" not in page.text and "0.250" not in page.text
    assert not page.all("img") and "strips" in page.text and "photos-all" in page.text


def test_a_model_of_another_project_has_no_training_to_tell_of(tmp_path):
    page = is_whole(write_report(tmp_path, tmp_path / "hub", {"all": {}}).read_text())
    assert "was not trained here" in page.text and "Settings" not in page.text


def test_long_tables_are_folded_and_very_long_ones_go_on_in_their_file():
    lines = [{"name": f"n{i}", "x": i} for i in range(MOST + 1)]
    page = Page(table_of("names", lines, "names.csv"))
    assert len(page.all("tr")) == MOST + 1 and page.all("details") and "1 more are in names.csv" in page.text
    assert not Page(table_of("names", lines[:5])).all("details")


def put(tree: dict, option: str, value) -> None:
    *outer, last = option.split(".")
    for name in outer:
        tree = tree[name]
    tree[last] = value


def test_settings_and_defaults_are_the_configuration():
    """Put into the defaults, in order, the settings of a report give the run again: for every preset."""
    for preset, make in PRESETS.items():
        config, tree = make(), encode(Config())
        choices = unions(config)
        for option, value, _ in changed(config, Config()):
            chosen = option in choices and isinstance(value, str)
            put(tree, option, defaults_of(choices[option][value]) if chosen else encode(value))
        assert decode(Config, tree) == config, preset


def defaults_of(kind: type | None) -> dict | None:
    """The fields of a class that have defaults."""
    if kind is None:
        return None
    found = {field.name: default_of(field, None) for field in fields(kind)}
    return {"kind": kind.__name__} | {name: encode(value) for name, value in found.items() if value is not REQUIRED}


@pytest.mark.parametrize("preset", ["digits", "imagenet-s16", "contrast-digits"])
def test_settings_are_options(preset):
    """Typed after no preset at all, they give the run again."""
    config = PRESETS[preset]()
    typed = [word for each in changed(config, Config()) for word in (f"--{each.option}", *typed_words(each.value))]
    assert parse(Config, default=Config(), args=typed, prog="train.py") == config


def typed_words(value) -> list[str]:
    return [words(each) for each in value] if isinstance(value, tuple) else [words(value)]


def test_a_default_is_no_setting():
    assert not list(changed(Config(), Config()))
    (each,) = changed(replace(Config(), seed=3), Config())
    assert each == ("seed", 3, 0)
    named = {each.option: each for each in changed(CONFIG, Config())}
    assert named["data.source"].value == "digits" and named["data.source"].default == "folder"
    assert all(each.default is not REQUIRED for each in named.values())


def test_the_file_of_findings_is_json(folder):
    assert json.loads((folder / FINDINGS).read_text()).keys() == {"sweep", "mistakes", "probe", "digest"}
