"""203 odd files: each is read right, or refused by name with a reason; none does anything else."""

import csv
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from data import check
from data.check import check_file, table
from data.sources.decode import decode
from tests.support.files import put

ROOT = Path(__file__).parent.parent
PHOTOS = {"landscape": "Landscape_", "portrait": "Portrait_", "hopper": "hopper_orientation_"}


class Outcome(NamedTuple):
    """What a file came to, and what the manifest says of it."""

    row: dict[str, str]
    image: np.ndarray | None
    reason: str


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    if "NAVIT_DATASETS" not in os.environ:
        pytest.skip("NAVIT_DATASETS is not set: no odd images to test on")
    return read_all(Path(os.environ["NAVIT_DATASETS"]) / "odd_images")


@lru_cache
def read_all(folder: Path) -> dict[str, Outcome]:
    """Every file of the manifest. Whatever is raised beside BadImage goes through, and is a crash."""
    with open(folder / "manifest.csv", encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    found = {}
    for name, row in rows.items():
        reason = check_file(folder / name)
        found[name] = Outcome(row, None if reason else decode((folder / name).read_bytes()), reason)
    return found


def test_each_is_read_or_refused_as_its_manifest_expects(outcomes):
    assert len(outcomes) == 203
    for name, (row, image, reason) in outcomes.items():
        assert row["expect"] == "either" or (image is not None) == (row["expect"] == "decode"), f"{name}: {reason}"


def test_each_that_is_read_has_the_size_of_its_manifest_upright(outcomes):
    compared = 0
    for name, (row, image, _) in outcomes.items():
        if image is None or not row["w"]:
            continue
        size = (int(row["h"]), int(row["w"]))
        turned = row["format"] != "TIFF" and row["exif_orientation"] in ("5", "6", "7", "8")
        assert image.shape == (*(size[::-1] if turned else size), 3), name
        compared += 1
    assert compared >= 130


def test_reasons_are_words_for_people(outcomes):
    for name, (_, _, reason) in outcomes.items():
        assert reason.isprintable() and not re.search(r"0x[0-9a-f]{6}|Error\b", reason), f"{name}: {reason}"


@pytest.mark.parametrize("photo", PHOTOS)
def test_a_photo_is_the_same_however_it_was_turned(outcomes, photo):
    images = [o.image for name, o in outcomes.items() if PHOTOS[photo] in name]
    assert len(images) >= 9
    for image in images:
        assert difference(image, images[0]) < 7 < difference(image[::-1], images[0])


def test_pixels_are_those_of_their_twins(outcomes):
    """The same picture under another name, in another container, depth or order of lines."""
    image = {name.rpartition("__")[0]: o.image for name, o in outcomes.items()}
    plain = image["misnamed/jpeg-upper-case-extension"]
    np.testing.assert_array_equal(image["misnamed/jpeg-without-extension"], plain)
    assert difference(image["misnamed/webp-named-jpg"], plain) < 5
    assert difference(image["exif/avif-rotated"], image["exif/avif-mirrored"]) < 10
    interlaced, straight = image["colour/png-rgba-16bit-interlaced"], image["colour/png-rgba-16bit"]
    np.testing.assert_array_equal(interlaced, straight)
    np.testing.assert_array_equal(image["colour/png-rgb-interlaced"], image["misnamed/png-named-jpeg"])


def test_a_transparent_grey_of_16_bits_is_white(outcomes):
    """A picture of the values 0 to 255 of 65,535: black, but for the value that is transparent."""
    image = {name.rpartition("__")[0]: o.image for name, o in outcomes.items()}
    shallow = image["colour/png-grey-transparent"]
    np.testing.assert_array_equal(image["colour/png-grey-16bit-transparent"], 255 * (shallow == 255))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def test_the_table_in_the_docs_is_what_happens(outcomes):
    """Tried, read, set aside, crashed: by kind."""
    counted = table({name: o.reason for name, o in outcomes.items()}).splitlines()[1:]
    documented = re.findall(
        r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| 0 \|$", (ROOT / "docs/bad_input.md").read_text(), re.M
    )
    assert [tuple(line.split()) for line in counted] == documented


# ---- the command that users have for their own folders


@pytest.fixture
def folder(tmp_path):
    put(tmp_path / "cat" / "good.png")
    put(tmp_path / "dog" / "deep" / "good.png")
    (tmp_path / "dog" / "page.jpg").write_bytes(b"<html>404</html>")
    (tmp_path / "dog" / "notes.txt").write_text("not tried")
    return tmp_path


def test_a_folder_is_checked_file_by_file(folder, capsys):
    assert check.main([str(folder)]) == 65
    said = capsys.readouterr().out
    assert "dog/page.jpg: not an image" in said and "1 .txt" in said and "good.png" not in said
    assert said.split()[-12:] == ["cat", "1", "1", "0", "dog", "2", "1", "1", "all", "3", "2", "1"]
    (folder / "dog" / "page.jpg").unlink()
    assert check.main([str(folder)]) == 0


def test_what_cannot_be_checked_is_an_error(tmp_path, capsys):
    assert check.main([str(tmp_path)]) == 66
    assert check.main([str(tmp_path / "nowhere")]) == 74
    for arguments, code in (([], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as end:
            check.main(arguments)
        assert end.value.code == code
    assert "nowhere" in capsys.readouterr().err


def test_a_crash_is_no_refusal(folder, monkeypatch):
    """Only BadImage sets a file aside; anything else would show."""
    monkeypatch.setattr(check, "read_size", lambda *data: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        check_file(folder / "cat" / "good.png")
    monkeypatch.setattr(check, "read_size", lambda *data: (99, 99))
    assert "its header says 99 x 99" in check_file(folder / "cat" / "good.png")
