"""A byte that changes in a file that we wrote is noticed and named, or changes nothing."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from data.cache import write_split
from data.checksums import checked_line, read_lines
from data.errors import DataError
from data.sources import Cached, Folder
from data.stream import BlockCounts
from harness.config import Config
from harness.run.folder import read_run, write_config
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
