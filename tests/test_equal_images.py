"""Images that several names have, and columns of tables that name what is in an image."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import BadImage, DataError
from data.sources.captions import Captions
from data.sources.pairs import same_images
from tests.support.pairs import WRITERS, put_images, some_pairs

PAIRS = some_pairs(6)


class Reader:
    """Contents by number; None cannot be read. Remembers what was read."""

    def __init__(self, contents: list[bytes | None]):
        self.contents = contents
        self.seen: set[int] = set()

    def read(self, index: int) -> bytes:
        self.seen.add(index)
        data = self.contents[index]
        if data is None:
            raise BadImage("cannot be read")
        return data

    def length(self, index: int) -> int:
        return len(self.contents[index] or b"")


contents = st.lists(st.none() | st.sampled_from([b"", b"a", b"b", b"ab", b"ba", b"abc"]), max_size=12)


@given(contents=contents)
def test_images_are_one_by_their_bytes(contents):
    """Those that are empty or cannot be read stand alone; none is read whose length no other has."""
    reader = Reader(contents)
    found = same_images(reader, range(len(contents)))
    for k, data in enumerate(contents):
        assert found[k] == (contents.index(data) if data else k)
    lengths = [len(data or b"") for data in contents]
    assert all(lengths.count(lengths[i]) > 1 for i in reader.seen)


@pytest.mark.parametrize("layout", [name for name in WRITERS if not name.startswith("parquet")])
def test_a_file_that_repeats_an_image_adds_its_captions(tmp_path, layout):
    again = PAIRS[2]._replace(name="900.png", captions=["another caption", PAIRS[2].captions[0]])
    WRITERS[layout](tmp_path, [*PAIRS, again], "train")
    source = Captions().open(str(tmp_path), "all")
    assert len(source.manifest) == len(PAIRS)
    texts = [[source.manifest.classes[k] for k in row if k >= 0] for row in source.manifest.labels]
    want = [pair.captions for pair in PAIRS]
    want[2] = [*PAIRS[2].captions, "another caption"]
    assert texts == want
    assert any("1 files repeat an image under another name" in note for note in source.manifest.notes)


ROWS = [("apple", "red"), ("pear", ""), ("apple", "green"), ("fig", "blue"), ("pear", "red"), ("fig", "green")]


def as_csv(path, pairs, rows) -> None:
    with (path / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        lines = [[p.name, c, *row] for p, row in zip(pairs, rows) for c in p.captions]
        csv.writer(file).writerows([["image", "caption", "fruit", "hue"], *lines[::-1]])


def as_jsonl(path, pairs, rows) -> None:
    lines = [{"file_name": p.name, "text": p.captions, "fruit": f, "hue": h or None} for p, (f, h) in zip(pairs, rows)]
    (path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))


@pytest.mark.parametrize("write", [as_csv, as_jsonl])
def test_columns_of_a_table_name_what_is_in_an_image(tmp_path, write):
    """By name, over the values of all splits; an image without a value has none."""
    for part, rows, pairs in (("train", ROWS, PAIRS), ("val", [("kiwi", "red")] * 3, some_pairs(3, 50))):
        put_images(tmp_path / part, pairs)
        write(tmp_path / part, pairs, rows)
    fruit, hue = Captions(attributes=("fruit", "hue")).open(str(tmp_path), "train").attributes  # pyright: ignore
    assert (fruit.name, fruit.values) == ("fruit", ("apple", "fig", "kiwi", "pear"))
    assert [fruit.values[k] for k in fruit.labels] == [name for name, _ in ROWS]
    assert [hue.values[k] if k >= 0 else "" for k in hue.labels] == [name for _, name in ROWS]
    with pytest.raises(DataError, match="no column 'size'"):
        Captions(attributes=("size",)).open(str(tmp_path), "train")


def test_layouts_without_columns_have_no_attributes(tmp_path):
    for layout in ("text", "coco", "tar"):
        (tmp_path / layout).mkdir()
        WRITERS[layout](tmp_path / layout, PAIRS, "train")
        with pytest.raises(DataError, match="attributes are columns of parquet files, of CSV and of JSON lines"):
            Captions(attributes=("fruit",)).open(str(tmp_path / layout), "all")


def test_a_reader_of_each_layout_knows_the_length_of_an_image(tmp_path):
    for layout in WRITERS:
        (tmp_path / layout).mkdir()
        WRITERS[layout](tmp_path / layout, PAIRS, "train")
        source = Captions().open(str(tmp_path / layout), "all")
        lengths = [source.reader.length(int(i)) for i in source.places]  # pyright: ignore[reportAttributeAccessIssue]
        np.testing.assert_array_equal(lengths, [len(pair.image) for pair in PAIRS])
