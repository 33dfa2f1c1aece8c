"""Attributes of images and their probes: names, tables, exact tests, and what the size of an image gives away."""

import re
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon
from sklearn.metrics import balanced_accuracy_score

from data.errors import DataError
from data.sources.attribute_tables import table_attributes
from data.sources.digits import DigitStrips
from data.sources.folder import Folder
from data.sources.label_sets import LabelSets, read_table
from data.sources.memory import CachedInMemory
from data.sources.parquet import Parquet
from data.sources.source import Arrays, Attribute, attributes_of, with_classes
from harness.evaluation.label_map import read_map
from harness.evaluation.studies import attributes
from harness.evaluation.studies.attributes import by_logistic, by_ridge, compared, differences, numbered_alike
from navit_eqx.errors import ConfigError
from reference.evaluation.metrics import balanced_accuracy
from reference.evaluation.signed_rank import signed_rank, smallest_p
from tests.support.files import encoded, picture, put
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.studies import context
from tests.support.tolerances import EXACT

rng = np.random.default_rng


# the exact test -------------------------------------------------------------------------------------


def counts_all_signs(test, d) -> None:
    """p is the share of all 2ⁿ signs whose sum of ranks is as far from the middle, one side doubled."""
    known = d[d != 0]
    ranks = rankdata(np.abs(known))
    sums = np.array([sum(r for r, s in zip(ranks, signs) if s) for signs in product((0, 1), repeat=len(ranks))])
    own = ranks[known > 0].sum()
    want = min(1.0, 2 * min((sums <= own + EXACT).mean(), (sums >= own - EXACT).mean()))
    assert abs(test(d) - want) < EXACT


@given(values=st.lists(st.integers(-3, 3), max_size=8))
@example(values=[1, 1, -2, 3, 4])  # both of the least weigh as much as the next
def test_wilcoxon_counts_all_signs(values):
    """Ties and zeros too."""
    counts_all_signs(signed_rank, np.array(values, float))


@given(seed=seeds, count=st.integers(1, 20))
def test_wilcoxon_is_that_of_scipy(seed, count):
    d = rng(seed).normal(0.5, 1, count)
    assert abs(signed_rank(d) - wilcoxon(d, method="exact")[1]) < EXACT
    assert signed_rank(np.abs(d)) == smallest_p(count) and smallest_p(5) > 0.05 > smallest_p(6)


def test_a_one_sided_test_and_broken_ties_are_caught():
    d = np.array([1.0, 1.0, -1.0, 2.0, 3.0])
    caught(counts_all_signs, lambda d: signed_rank(d) / 2, d)
    caught(counts_all_signs, lambda d: signed_rank(d + 1e-6 * np.arange(len(d))), d)


@given(seed=seeds, count=st.integers(1, 30))
def test_balanced_accuracy_is_that_of_scikit_learn(seed, count):
    labels, said = rng(seed).integers(0, 3, (2, count))
    said = np.where(np.isin(said, labels), said, labels)  # scikit-learn warns of classes that do not occur
    if len({*labels}) > 1:
        assert abs(balanced_accuracy(said, labels) - balanced_accuracy_score(labels, said)) < EXACT
    assert abs(balanced_accuracy(np.full(count, labels[0]), labels) - 1 / len({*labels})) < EXACT


# where attributes come from -------------------------------------------------------------------------


def test_attributes_of_strips_are_seen_in_them():
    """The half is that of the lit digit, which is brighter; the size tells count and orientation, and nothing else."""
    strips = DigitStrips("val", 400, 0)
    count, orientation, half, first = strips.attributes
    for index in range(40):
        image = strips.image(index)[..., 0].astype(float)
        long = image.shape[1] if image.shape[1] > image.shape[0] else image.shape[0]
        assert count.values[count.labels[index]] == str(long // 20)
        if count.labels[index]:
            assert orientation.values[orientation.labels[index]] == ("row" if image.shape[1] == long else "column")
            places = image.min(0 if image.shape[1] == long else 1).reshape(-1, 20).mean(-1)
            middle = (places.argmax() + 0.5) * 20 - long / 2
            assert half.labels[index] == (-1 if middle == 0 else int(middle > 0))
        else:
            assert orientation.labels[index] == half.labels[index] == -1
    digit = first.labels[strips.digits == 1]
    np.testing.assert_array_equal(digit, strips.manifest.labels[strips.digits == 1])
    for k in range(2, 9):
        share = half.labels[(strips.digits == k) & (half.labels >= 0)].mean()
        assert abs(share - 0.5) < 0.35


def test_attributes_go_with_their_images():
    """Through other names of classes, and through a cache."""
    strips = DigitStrips("val", 5, 0)
    for source in (with_classes(strips, tuple("9876543210")), CachedInMemory(strips, 100)):
        assert [a.name for a in attributes_of(source)] == ["count", "orientation", "half", "first digit"]
    assert attributes_of(Arrays([np.zeros((2, 2, 3), np.uint8)], np.zeros(1, np.int32), ("a",))) == ()


def values_of(source) -> dict[str, list[str]]:
    names = {a.name: [(*a.values, "")[i] for i in a.labels] for a in attributes_of(source)}
    assert all(list(a.values) == sorted(a.values) for a in attributes_of(source))
    return names


@pytest.fixture
def root(tmp_path):
    for part, name in (("train", "a"), ("train", "b"), ("val", "a")):
        put(tmp_path / part / "cat" / f"{name}.png", len(name))
        put(tmp_path / part / "dog" / f"{name}.png", 9)
    return tmp_path


def test_a_folder_has_a_table_of_attributes(root):
    """At the root for all splits, or in the folder of one; cells may be empty, images missing."""
    assert attributes_of(Folder().open(str(root), "train")) == ()
    lines = ["file,style,place", "train/cat/a.png,drawn,left", "train/dog/b.png,,right", "val/cat/a.png,photo,left"]
    (root / "attributes.csv").write_text("\n".join(lines))
    train = Folder().open(str(root), "train")
    assert values_of(train) == {"style": ["drawn", "", "", ""], "place": ["left", "", "", "right"]}
    (root / "val" / "attributes.csv").write_text("file,style\ndog/a.png,photo\n")
    assert values_of(Folder().open(str(root), "val")) == {"style": ["", "photo"]}


def test_label_sets_and_parquet_have_columns_of_attributes(tmp_path):
    (tmp_path / "sets").mkdir()
    for name in "ab":
        put(tmp_path / "sets" / f"{name}.png", 1)
    (tmp_path / "sets" / "labels.csv").write_text("file,labels,style\na.png,x;y,drawn\nb.png,x,photo\n")
    assert values_of(LabelSets().open(str(tmp_path / "sets"), "all")) == {"style": ["drawn", "photo"]}
    table = {"image": [encoded(picture(k)) for k in range(4)], "label": ["x", "y"] * 2, "style": ["p", "", "q", "p"]}
    for part in ("train", "val"):
        pq.write_table(pa.table(table), tmp_path / f"{part}.parquet")
    found = Parquet(attributes=("style",)).open(str(tmp_path), "train")
    assert values_of(found) == {"style": ["p", "", "q", "p"]}
    with pytest.raises(DataError, match="color"):
        Parquet(attributes=("color",)).open(str(tmp_path), "train")


@pytest.mark.parametrize(
    "text, message",
    [
        ("name,style\na,b\n", "no column file"),
        ("file,style\na.png,b\na.png,c\n", "line 3: file 'a.png' is empty or listed twice"),
        ("file,style\nelsewhere.png,b\n", "names none of the images"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        table_attributes(tmp_path / "t.csv", ["a.png"])


@pytest.mark.parametrize(
    "read, columns",
    [
        (lambda path: table_attributes(path, ["a.png"]), "file"),
        (lambda path: read_table(path, ";"), "file,labels"),
        (lambda path: read_map(path, ["cat"], ["pet"]), "source,target"),
    ],
)
def test_every_damaged_table_is_refused_in_the_same_words(tmp_path, read, columns):
    path, head = tmp_path / "t.csv", columns.encode()
    named = f"{re.escape(str(path))} has no columns? {columns.replace(',', ' and ')} in its first line"
    damages = {b"": named, b"name\na\n": named, head + b'\n"a': "is not a table in UTF-8, unexpected end",
               head + b"\n\xff": "is not a table in UTF-8, .* save it again",
               head + b"," + head + b"\n": f"has two columns '{columns.partition(',')[0]}'",
               head + b"\na,b,c\n": "line 2: more cells than columns, from '[bc]' on: quote commas"}  # fmt: skip
    for content, message in damages.items():
        path.write_bytes(content)
        with pytest.raises((DataError, ConfigError), match=message):
            read(path)


# the study ------------------------------------------------------------------------------------------


def test_probes_read_what_features_say():
    """Also where one value is rare; noise gives chance."""

    def features(count, seed):
        labels = (rng(seed).random(count) < 0.15).astype(int)
        return np.append(rng(seed).normal(size=(count, 5)), 4.0 * labels[:, None], 1), labels

    (x, labels), (test, truth) = features(200, 0), features(100, 1)
    for probe in (by_ridge, by_logistic):
        assert balanced_accuracy(probe(x, labels, test), truth) > 0.95
        assert balanced_accuracy(probe(x[:, :5], labels, test[:, :5]), truth) < 0.65


def test_values_go_by_name():
    own = Attribute("style", ("drawn", "photo"), np.zeros(0, int))
    train = Attribute("style", ("clay", "photo", "drawn"), np.array([2, 0, 1, -1]))
    assert numbered_alike([train], own).tolist() == [0, -1, 1, -1]
    with pytest.raises(ConfigError, match="no attribute 'style'"):
        numbered_alike([], own)


def test_the_study(monkeypatch):
    """Of a random model: rows for both views; what the size gives away is said; squares lose the orientation."""
    monkeypatch.setattr(sys.modules["harness.evaluation.studies.attributes"], "FEWEST", 3)
    found = attributes(context())
    rows = {(r["attribute"], r["view"]): r for r in found.rows}
    assert len(rows) == 8 and all(0 <= r["score"] <= 1 for r in found.rows)
    assert rows["orientation", "native"]["size_alone"] == 1.0 and rows["count", "native"]["size_alone"] > 0.5
    assert rows["half", "native"]["size_alone"] < 0.75 and rows["half", "native"]["chance"] == 0.5
    assert "4 can never be below 0.125" in found.summary
    assert differences(found.rows).shape == (4,) and "never" not in compared(np.ones(6))
    half = rows["half", "native"]
    assert half["images"] == (attributes_of(context().source)[2].labels >= 0).sum()
    shares = {name: share for name, share in half["groups"].items() if share is not None}
    assert half["gap"] == max(shares.values()) - shares[half["worst_group"]] and half["worst"] == min(shares.values())
    bare = Arrays([context().source.image(k) for k in range(3)], np.zeros(3, np.int32), tuple("0123456789"))
    with pytest.raises(ConfigError, match="has no attributes"):
        attributes(replace(context(), source=bare, cache={}))
