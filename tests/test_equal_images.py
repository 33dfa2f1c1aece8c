"""Images that several names have, and columns of tables that name what is in an image."""

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import BadImage, DataError
from data.sources.caption_parquet import attribute
from data.sources.captions import Captions
from data.sources.pairs import same_images
from tests.support.pairs import WRITERS, put_images, some_pairs, tar_file

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


def as_coco(path, pairs, rows, images=True) -> None:
    """Fields of the images, or of each caption."""
    own = [{"fruit": f, "hue": h or None} for f, h in rows]
    named = [{"id": i, "file_name": p.name, **(own[i] if images else {})} for i, p in enumerate(pairs)]
    texts = [(i, c) for i, p in enumerate(pairs) for c in p.captions]
    notes = [{"image_id": i, "caption": c, **({} if images else own[i])} for i, c in texts]
    (path / "captions.json").write_text(json.dumps({"images": named[::-1], "annotations": notes}))


def as_tar(path, pairs, rows) -> None:
    """A field of the JSON for one, a text for the other; captions in texts or in the JSON."""
    members = []
    for k, (p, (fruit, hue)) in enumerate(zip(pairs, rows)):
        fields = {"fruit": fruit} | ({"caption": p.captions} if k % 2 else {})
        members += [(p.name, p.image), (p.name.replace("png", "json"), json.dumps(fields).encode())]
        members += [] if k % 2 else [(p.name.replace("png", "txt"), "\n".join(p.captions).encode())]
        members += [(p.name.replace("png", "hue"), f"{hue}\n".encode())] if hue else []
        (path / p.name).unlink()
    tar_file(path / "shard.tar", members)


def as_text(path, pairs, rows) -> None:
    for p in pairs:
        (path / p.name).with_suffix(".txt").write_text("\n".join(p.captions), encoding="utf-8")
    lines = [[p.name, *row] for p, row in zip(pairs, rows)]
    with (path / "attributes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "fruit", "hue"], *lines[::-1]])


def as_text_at_the_root(path, pairs, rows) -> None:
    """One table for all splits."""
    as_text(path, pairs, rows)
    head, *lines = (path / "attributes.csv").read_text().splitlines()
    (path / "attributes.csv").unlink()
    table = path.parent / "attributes.csv"
    known = table.read_text().splitlines() if table.exists() else [head]
    table.write_text("\n".join([*known, *(f"{path.name}/{line}" for line in lines)]))


LAYOUTS = [as_csv, as_jsonl, as_coco, partial(as_coco, images=False), as_tar, as_text, as_text_at_the_root]


@pytest.mark.parametrize("write", LAYOUTS)
def test_columns_of_a_table_name_what_is_in_an_image(tmp_path, write):
    """By name, over the values of all splits; an image without a value has none."""
    for part, rows, pairs in (("train", ROWS, PAIRS), ("val", [("kiwi", "red")] * 3, some_pairs(3, 50))):
        put_images(tmp_path / part, pairs)
        write(tmp_path / part, pairs, rows)
    fruit, hue = Captions(attributes=("fruit", "hue")).open(str(tmp_path), "train").attributes  # pyright: ignore
    assert (fruit.name, fruit.values) == ("fruit", ("apple", "fig", "kiwi", "pear"))
    assert [fruit.values[k] for k in fruit.labels] == [name for name, _ in ROWS]
    assert [hue.values[k] if k >= 0 else "" for k in hue.labels] == [name for _, name in ROWS]
    with pytest.raises(DataError, match="column 'size'"):
        Captions(attributes=("size",)).open(str(tmp_path), "train")


@pytest.mark.parametrize("layout", WRITERS)
def test_an_attribute_that_is_nowhere_is_refused_in_every_layout(tmp_path, layout):
    WRITERS[layout](tmp_path, PAIRS, "train")
    with pytest.raises(DataError, match="column '?fruit'?"):
        Captions(attributes=("fruit",)).open(str(tmp_path), "all")


def test_numbers_of_json_are_values_as_in_a_table():
    where = Path("table")
    found = attribute("size", [0, 12, "3", None, 1.5, [2]], [12, 0, None, "3", 1.5], where)
    assert found.values == ("0", "12", "3") and found.labels.tolist() == [1, 0, -1, 2, -1]


def test_captions_of_coco_may_have_another_name(tmp_path):
    put_images(tmp_path, PAIRS[:1])
    notes = [{"image_id": 4, "sentence": "one"}, {"image_id": 4, "sentence": "two"}]
    data = {"images": [{"id": 4, "file_name": PAIRS[0].name}], "annotations": notes}
    (tmp_path / "captions.json").write_text(json.dumps(data))
    assert Captions(caption="sentence").open(str(tmp_path), "all").manifest.classes == ("one", "two")
    with pytest.raises(DataError, match="no column 'title'; it has image_id, sentence, id, file_name"):
        Captions(caption="title").open(str(tmp_path), "all")


def test_a_reader_of_each_layout_knows_the_length_of_an_image(tmp_path):
    for layout in WRITERS:
        (tmp_path / layout).mkdir()
        WRITERS[layout](tmp_path / layout, PAIRS, "train")
        source = Captions().open(str(tmp_path / layout), "all")
        lengths = [source.reader.length(int(i)) for i in source.places]  # pyright: ignore[reportAttributeAccessIssue]
        np.testing.assert_array_equal(lengths, [len(pair.image) for pair in PAIRS])
