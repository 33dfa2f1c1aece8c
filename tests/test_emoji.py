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

ZEROSHOT = """hexcode,name,subset,prompt_1,prompt_2
B,bee,novel,a bee,a drawing of a bee
C,cat,style,a cat,
A,ant,novel,an ant,a drawing of an ant
"""
FALSE = (
    "path,subset,caption,foil,kind\nv/2,scene_novel,a bee and a cat,a cat and a bee,swap\n"
    'v/9,scene_seen,"a, b",c,swap\nv/3,scene_seen,d,e,count\n'
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
    novel, style, among_all = source.attributes
    assert (novel.name, novel.values, novel.labels.tolist()) == ("novel", ("bee", "ant"), [-1, -1, -1, 1])
    assert novel.texts == (("a bee", "a drawing of a bee"), ("an ant", "a drawing of an ant"))
    assert (style.name, style.texts, style.labels.tolist()) == ("style", (("a cat",),), [0, -1, -1, -1])
    assert among_all.values == ("bee", "cat", "ant") and among_all.labels.tolist() == [-1, -1, -1, 2]
    count, swap, swap_novel = source.foils
    assert (swap.captions, swap.foils, swap.images.tolist()) == (("a bee and a cat",), ("a cat and a bee",), [1])
    assert swap_novel == swap._replace(name="swap, novel", images=swap_novel.images, floor=None)
    assert (count.name, count.images.tolist()) == ("count", [2])


@pytest.mark.parametrize(
    "file, text, error, message",
    [
        ("zeroshot.csv", None, DataMissing, "zeroshot.csv does not exist"),
        ("zeroshot.csv", "hexcode,subset\nA,novel\n", DataError, "no columns name and prompt_1 in its first line"),
        (
            "compositional.csv",
            "path,subset,caption,foil,kind\nv/2,s,a,,swap\n",
            DataError,
            "line 2: the cell foil is empty",
        ),
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
    assert {a.name: (len(a.texts), (a.labels >= 0).sum(), a.floor) for a in source.attributes} == {
        "novel": (122, 244, 0.074),
        "style": (138, 138, 0.268),
        "novel among all": (260, 244, None),
    }
    assert all({*map(len, a.prompts)} == {3} for a in source.attributes)
    sizes = {f.name: len(f.images) for f in source.foils}
    assert {name: n for name, n in sizes.items() if "novel" not in name} == {
        "swap": 189, "direction": 154, "count": 57, "replace": 218,
    }  # fmt: skip
    assert all(0 < sizes[f"{name}, novel"] < n for name, n in sizes.items() if "novel" not in name)
    for foils in source.foils:
        for image, caption in zip(foils.images, foils.captions):
            row = source.manifest.labels[image]
            assert caption in [source.manifest.classes[k] for k in row[row >= 0]]
    for attribute in source.attributes:
        for image in np.flatnonzero(attribute.labels >= 0)[:30]:
            first = source.manifest.classes[source.manifest.labels[image, 0]]
            assert first == attribute.texts[attribute.labels[image]][0]
