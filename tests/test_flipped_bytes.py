"""A byte that changes in a file that we wrote is noticed and named, or changes nothing."""

import json
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import export
from data.cache import write_split
from data.checksums import checked_line, read_lines
from data.errors import DataError
from data.feature_file import write_features
from data.sources import Cached, Folder
from data.sources.measured import load_arrays, store_arrays
from data.stream import BlockCounts
from harness.config import Config
from harness.evaluation import budget
from harness.evaluation.budget import Choice, Reading
from harness.evaluation.report import summary_of
from harness.evaluation.studies.findings import FINDINGS, Published, published, record, table_in
from harness.run.folder import read_run, write_config, write_json, write_sealed
from harness.run.progress import append, is_sound
from navit_eqx import ModelConfig, ModelInfo, load_model, save_model
from navit_eqx.config import Factorised
from navit_eqx.errors import ConfigError
from navit_eqx.tasks.config import Classify
from tests.support.strategies import random_model

MODEL = ModelConfig((4, 4), width=8, depth=1, heads=2, mlp_width=8, posembed=Factorised(4))


def flips(path: Path, most: int):
    """The content with one bit of one byte changed, at up to `most` places spread over the file."""
    whole = path.read_bytes()
    places = np.unique(np.linspace(0, len(whole) - 1, most).astype(int))
    for place, bit in zip(places, np.random.default_rng(0).integers(0, 8, len(places))):
        yield whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]


def notices(path: Path, read, refused: type[Exception], most: int = 400) -> None:
    """`read` refuses each changed file, naming its folder, or gives what it gave before."""
    whole, before = path.read_bytes(), read()
    for content in flips(path, most):
        path.write_bytes(content)
        try:
            after = read()
        except refused as error:
            assert path.parent.name in str(error)
        else:
            assert after == before
    path.write_bytes(whole)
    assert read() == before


@pytest.fixture
def saved(tmp_path) -> Path:
    model = random_model(MODEL, Classify(classes=3))
    save_model(tmp_path / "run", model, ModelInfo(("cat", "dog", "fox")))
    return tmp_path / "run"


def described(folder: Path):
    model = load_model(folder)
    return model.config, model.info, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(model)]


@pytest.mark.parametrize("file, most", [("config.json", 300), ("model.safetensors", 60)])
def test_a_model(saved, file, most):
    notices(saved / file, lambda: described(saved), ConfigError, most)


def test_the_configuration_of_a_run(tmp_path):
    write_config(tmp_path, Config(), "digits")
    notices(tmp_path / "config.json", lambda: read_run(tmp_path), ConfigError, 150)


@pytest.mark.parametrize("file", ["about.json", "names.npy", "sizes.npy", "labels.npy"])
def test_a_cache(tmp_path, file):
    for i, name in enumerate(("cat", "dog") * 6):
        path = tmp_path / "images" / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((5 + i, 6, 3), i, np.uint8)).save(path)
    source = Folder().open(str(tmp_path / "images"), "all")
    write_split(source, tmp_path / "cache" / "val", 8, True)

    def read():
        manifest = Cached().open(str(tmp_path / "cache"), "val").manifest
        return manifest.digest, manifest.classes

    notices(tmp_path / "cache" / "val" / file, read, DataError)


def test_counts_of_blocks(tmp_path):
    counts = BlockCounts(tmp_path / "blocks.jsonl", "key")
    for block, rows in enumerate((311, 297, 5)):
        counts.add(block, rows)
    known = counts.rows()
    assert known == {0: 311, 1: 297, 2: 5}
    whole = counts.path.read_bytes()
    for content in flips(counts.path, len(whole)):
        counts.path.write_bytes(content)
        assert counts.rows().items() <= known.items(), "a line is right, or it is counted again"


def test_what_a_run_came_to(tmp_path, capsys):
    """Wrong numbers reach neither a report nor a model card."""
    run = tmp_path / "run"
    run.mkdir()
    write_sealed(run / "summary.json", {"val_accuracy": 0.125, "images_seen": 9, "set_aside": {}})
    card = lambda: export.card_of(run, export.Options("", "", "navit")).metrics
    notices(run / "summary.json", card, ConfigError, 60)
    assert card() == {"val_accuracy": 0.125, "images_seen": 9}
    known = summary_of(run)
    capsys.readouterr()
    for content in flips(run / "summary.json", 20):
        (run / "summary.json").write_bytes(content)
        found = summary_of(run)
        assert not found or {key: found.get(key) for key in known} == known
        assert ("summary.json" in capsys.readouterr().out) == (not found)


def test_tables_of_studies(tmp_path):
    write_json(tmp_path / "sweep.json", [{"resolution": 1.0, "accuracy": 0.75}])
    record("sweep", Published("a title", "an answer", "sweep.png"), tmp_path)
    said = published(tmp_path)
    assert said.keys() == {"sweep"}
    notices(tmp_path / "sweep.json", lambda: table_in(tmp_path, "sweep", said["sweep"]), ConfigError)
    whole = (tmp_path / FINDINGS).read_bytes()
    for content in flips(tmp_path / FINDINGS, 100):
        (tmp_path / FINDINGS).write_bytes(content)
        assert published(tmp_path) in ({}, said)
    (tmp_path / FINDINGS).write_bytes(whole)
    assert published(tmp_path) == said


def test_a_choice(tmp_path):
    choice = Choice("5 ms", Reading(64.0), Reading(96.0, merge=0.5), 0.5, 0.001, "accuracy", 0.75, "cpu", "digest")
    file = budget.store(choice, tmp_path)
    notices(file, lambda: budget.stored(tmp_path, "digest"), ConfigError, 100)
    assert budget.stored(tmp_path, "digest") == choice


def test_caches_of_what_was_measured(tmp_path):
    """Damaged ones are measured anew."""
    known = {"sizes": np.arange(12, dtype=np.int32).reshape(6, 2), "reasons": np.array(["empty file"])}
    store_arrays(tmp_path / "a.npz", **known)
    for content in flips(tmp_path / "a.npz", 200):
        (tmp_path / "b.npz").write_bytes(content)
        found = load_arrays(tmp_path / "b.npz", ("sizes", "reasons"))
        assert found is None or all(map(np.array_equal, found, known.values()))


def test_features_that_were_written(tmp_path):
    """Any reader that verifies the checksums of pages sees it. What parquet says of the pages, at the end, has none."""
    file = tmp_path / "features.parquet"
    write_features([(f"{i}.jpg", np.full(3, i / 8, np.float32)) for i in range(5)], 3, file)

    def read() -> list:
        table = pq.read_table(file, page_checksum_verification=True).to_pydict()
        return [table["file"], table["features"]]

    want, whole = read(), file.read_bytes()
    pages = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for content in flips(file, 400):
        if content[pages:] != whole[pages:]:
            break
        file.write_bytes(content)
        try:
            found = read()
        except Exception:  # a damaged file raises errors of any kind
            continue
        assert found == want


def test_lines_of_metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append(path, {"step": 20, "loss": 0.25, "accuracy": None})
    whole = path.read_bytes()
    assert is_sound(whole.decode())
    for content in flips(path, len(whole) - 1):
        text = content.decode(errors="replace")
        assert not is_sound(text) or json.loads(text) == json.loads(whole)


def test_it_can_fail(tmp_path):
    path = tmp_path / "plain" / "value.json"
    path.parent.mkdir()
    path.write_text('{"classes": ["cat", "dog"]}')
    with pytest.raises(AssertionError):
        notices(path, lambda: _parsed(path), ValueError)
    path.write_text(checked_line({"classes": ["cat", "dog"]}))
    assert read_lines(path) == ([{"classes": ["cat", "dog"]}], 0)


def _parsed(path: Path):
    try:
        return json.loads(path.read_bytes().decode(errors="replace"))
    except ValueError as error:
        raise ValueError(f"{path.parent.name}: {error}") from None
