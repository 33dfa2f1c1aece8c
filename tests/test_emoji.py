"""The emoji set: captions, classes of concepts never trained on, true captions beside false ones."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError, DataMissing
from data.sources.emoji import Emoji, EmojiImages
from tests.support.files import encoded, picture

ZEROSHOT = "hexcode,name,subset,prompt_1\nB,bee,novel,a bee\nC,cat,style,a cat\nA,ant,novel,an ant\n"
FALSE = (
    'path,subset,caption,foil,kind\nv/2,x,a bee and a cat,a cat and a bee,swap\nv/9,x,"a, b",c,swap\nv/3,x,d,e,count\n'
)


@pytest.fixture
def root(tmp_path):
    """A drawing that cannot be read, single drawings of two concepts, and two scenes."""
    images = [b"no image", *(encoded(picture(i)) for i in range(4))]
    columns = {
        "image": [{"bytes": image, "path": f"v/{i}"} for i, image in enumerate(images)],
        "caption": [["an ant"], ["a cat", "cat"], ["a bee and a cat"], ["two ants"], ["an ant"]],
        "subset": ["novel", "style", "scene", "novel", "novel"],
        "hexcodes": [["A"], ["C"], ["B", "C"], ["A", "A"], ["A"]],
    }
    for part in ("train", "val"):
        pq.write_table(pa.table(columns), tmp_path / f"{part}.parquet")
    (tmp_path / "zeroshot.csv").write_text(ZEROSHOT)
    (tmp_path / "compositional.csv").write_text(FALSE)
    return tmp_path


def opened(root) -> EmojiImages:
    source = Emoji().open(str(root), "val")
    assert isinstance(source, EmojiImages)
    return source


def test_classes_and_false_captions_follow_their_image(root):
    source = opened(root)
    assert source.manifest.set_aside[0][0] == "v/0" and len(source.manifest) == 4
    novel, style = source.attributes
    assert (novel.name, novel.prompts, novel.labels.tolist()) == ("novel", ("a bee", "an ant"), [-1, -1, -1, 1])
    assert (style.name, style.prompts, style.labels.tolist()) == ("style", ("a cat",), [0, -1, -1, -1])
    count, swap = source.foils
    assert (swap.captions, swap.foils, swap.images.tolist()) == (("a bee and a cat",), ("a cat and a bee",), [1])
    assert (count.name, count.images.tolist()) == ("count", [2])


@pytest.mark.parametrize(
    "file, text, error, message",
    [
        ("zeroshot.csv", None, DataMissing, "zeroshot.csv does not exist"),
        ("zeroshot.csv", "hexcode,subset\nA,novel\n", DataError, "lacks prompt_1"),
        ("compositional.csv", "path,caption,foil,kind\nv/2,a,,swap\n", DataError, "lacks a value"),
        ("compositional.csv", b"\xff\xfe", DataError, "not a table in UTF-8"),
    ],
)
def test_damaged_tables_are_named(root, file, text, error, message):
    (root / file).unlink()
    if text:
        (root / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=message):
        opened(root)


@pytest.mark.skipif("NAVIT_DATASETS" not in os.environ, reason="needs NAVIT_DATASETS")
def test_the_real_set_is_as_its_page_says():
    source = opened(Path(os.environ["NAVIT_DATASETS"]) / "emoji")
    assert len(source.manifest) == 600 and not source.manifest.set_aside
    assert {a.name: (len(a.prompts), (a.labels >= 0).sum()) for a in source.attributes} == {
        "novel": (122, 244),
        "style": (138, 138),
    }
    assert {f.name: len(f.images) for f in source.foils} == {"swap": 189, "direction": 154, "count": 57, "replace": 218}
    for foils in source.foils:
        for image, caption in zip(foils.images, foils.captions):
            row = source.manifest.labels[image]
            assert caption in [source.manifest.classes[k] for k in row[row >= 0]]
    for attribute in source.attributes:
        for image in np.flatnonzero(attribute.labels >= 0)[:30]:
            first = source.manifest.classes[source.manifest.labels[image, 0]]
            assert first == attribute.prompts[attribute.labels[image]]
