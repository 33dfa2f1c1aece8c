"""`predict.py --features`: a vector for each file that can be read, those of the library, and bad files by name."""

import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import navit_eqx as navit
import predict
from data import feature_file
from navit_eqx.errors import ConfigError
from tests.support.golden import FOLDER
from tests.support.tolerances import FLOAT32, assert_close


def test_features_are_those_of_the_library(tmp_path, monkeypatch, capsys):
    """In order, in several parts; one that cannot be read is named, and has no row."""
    monkeypatch.setattr(feature_file, "AT_ONCE", 2)
    rng, photos = np.random.default_rng(0), tmp_path / "photos"
    photos.mkdir()
    for n in range(3):
        Image.fromarray(rng.integers(0, 256, (9 + n, 14, 3), np.uint8)).save(photos / f"{n}.png")
    (photos / "1b.png").write_bytes(b"nothing")
    out = tmp_path / "deep" / "features.parquet"
    monkeypatch.setattr(
        "sys.argv", ["predict.py", str(FOLDER / "dinov2"), str(photos), "--features", str(out), "--json"]
    )
    predict.main()
    table, names = pq.read_table(out), [str(photos / f"{n}.png") for n in range(3)]
    assert table["file"].to_pylist() == names
    assert_close(np.stack(table["features"].to_pylist()), navit.features(navit.load(FOLDER / "dinov2"), names), FLOAT32)
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert ["error" in line for line in lines] == [False, False, True, False] and "1b.png" in lines[2]["error"]
    assert "features of 3 images" in said.err and "1 set aside" in said.err


def test_no_row_is_a_file_too(tmp_path):
    assert feature_file.write_features([], 3, tmp_path / "none.parquet") == 0
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_names_that_are_no_text_are_escaped(tmp_path):
    """Names of files are bytes; those of a table are text."""
    names = ["plain.png", "größe.png", os.fsdecode(b"caf\xe9.png")]
    assert feature_file.write_features([(name, np.zeros(3)) for name in names], 3, tmp_path / "t.parquet") == 3
    assert pq.read_table(tmp_path / "t.parquet")["file"].to_pylist() == ["plain.png", "größe.png", "caf\\xe9.png"]


@pytest.mark.parametrize("option", ["--features", "--sheet"])
def test_an_image_is_not_replaced_by_what_is_made_of_it(tmp_path, monkeypatch, option):
    """Refused before any is read; the same for pictures of boxes and masks."""
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((9, 14, 3), np.uint8)).save(tmp_path / name)
    before = (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr(predict.navit, "embed_texts", lambda model, texts: None)
    words = [str(FOLDER / "dinov2"), str(tmp_path), option, f"{tmp_path}/./a.png", "--search", "a dog"]
    monkeypatch.setattr("sys.argv", ["predict.py", *words[: 6 if option == "--sheet" else 4]])
    with pytest.raises(ConfigError, match="is one of the images that are read"):
        predict.main()
    assert (tmp_path / "a.png").read_bytes() == before
