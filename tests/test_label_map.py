"""Answers in other classes, and crops: names that are unknown, targets without a source, honest denominators."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.sampling.resolution import Native, NeverEnlarged, Sides, Square
from data.sources.cropped import CentralCrop, Cropped
from data.sources.source import Arrays
from evaluate import Options, evaluate
from harness.evaluation.label_map import LabelMap, Mapped, answerable, read_map
from harness.evaluation.studies.crops import VIEWS, is_factor, row_of
from navit_eqx.errors import ConfigError
from reference.evaluation.calibration import softmax
from reference.evaluation.label_map import How, target_scores
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.studies import context, saved_run
from tests.support.tolerances import EXACT, assert_close

rng = np.random.default_rng
SOURCES, TARGETS = ("tabby", "siamese", "beagle", "bus"), ("cat", "dog", "bird")


def members_of(seed: int, sources: int, targets: int) -> list[np.ndarray]:
    return [np.flatnonzero(rng([seed, t]).random(sources) < 0.5) for t in range(targets)]


# the forced choice ----------------------------------------------------------------------------------


def does_not_prefer_large_targets(answer) -> None:
    """A class that is split in two equal halves is as likely as before."""
    p = np.array([[0.2, 0.2, 0.3, 0.3]])
    assert answer(p, [np.array([0, 1]), np.array([2])]).argmax() == 1


@given(seed=seeds, targets=st.integers(1, 4))
def test_a_target_has_the_mean_of_its_members(seed, targets):
    p = rng(seed).dirichlet(np.ones(5), 3)
    members = members_of(seed, 5, targets)
    found = target_scores(p, members)
    for t, sources in enumerate(members):
        want = p[:, sources].mean(1) if len(sources) else np.full(3, -np.inf)
        np.testing.assert_allclose(found[:, t], want)
    np.testing.assert_allclose(target_scores(p, members[::-1])[:, ::-1], found)
    one = [np.array([t]) for t in range(5)]
    ways: tuple[How, ...] = ("mean", "max", "sum")
    for how in ways:
        np.testing.assert_array_equal(target_scores(p, one, how), p)


@given(seed=seeds)
def test_log_sum_exp_of_logits_answers_as_the_sum_of_their_softmax(seed):
    """Where probabilities are too small to be told apart, too."""
    logits, members = rng(seed).normal(size=(4, 5)), members_of(seed, 5, 3)
    found, total = target_scores(logits, members, "logsumexp"), target_scores(softmax(logits), members, "sum")
    known = np.isfinite(found)
    np.testing.assert_allclose(np.exp(found[known]), total[known] * np.exp(logits).sum(-1)[np.nonzero(known)[0]])
    np.testing.assert_allclose(target_scores(logits - 1e4, members, "logsumexp") + 1e4, found, atol=1e-9)
    labels = LabelMap(TARGETS, (np.array([0, 1]), np.array([2]), np.array([], int)))
    far, manifest = np.array([[-2e3, -2e3, -2e3 + 1, 0.0]]), arrays([1], TARGETS).manifest
    # The probabilities of all three are 0, and the first is then the answer.
    assert Mapped(labels, softmax, "logsumexp").scores(far, np.arange(1), manifest).tolist() == [1.0]
    assert Mapped(labels, softmax).scores(far, np.arange(1), manifest).tolist() == [0.0]


def test_large_targets_are_not_preferred():
    does_not_prefer_large_targets(target_scores)
    caught(does_not_prefer_large_targets, lambda p, members: target_scores(p, members, "sum"))


def test_answers_are_targets():
    """Source classes in no target are never the answer, however likely; a target without members neither."""
    labels = LabelMap(TARGETS, (np.array([0, 1]), np.array([2]), np.array([], int)))
    logits = np.array([[1.0, 1.0, 0.0, 9.0], [0.0, 0.0, 1.0, 9.0], [0.0, 0.0, 1.0, 0.0]])
    manifest = arrays([0, 1, 0], TARGETS).manifest
    assert Mapped(labels, softmax).scores(logits, np.arange(3), manifest).tolist() == [1.0, 1.0, 0.0]


# the table ------------------------------------------------------------------------------------------


def arrays(labels: list[int], classes: tuple[str, ...]) -> Arrays:
    images = [rng(k).integers(0, 256, (4 + k, 7, 3)).astype(np.uint8) for k in range(len(labels))]
    return Arrays(images, np.array(labels, np.int32), classes)


def test_a_table_names_members(tmp_path):
    (tmp_path / "m.csv").write_text("source,target\ntabby,cat\nsiamese,cat\nbeagle,dog\nbeagle,cat\ntabby,cat\n")
    found = read_map(tmp_path / "m.csv", SOURCES, TARGETS)
    assert [m.tolist() for m in found.members] == [[0, 1, 2], [2], []]


@pytest.mark.parametrize(
    "text, message",
    [
        ("source,target\ntabbi,cat\n", r"line 2: source 'tabbi' is no class of the model, did you mean 'tabby'\?"),
        ("source,target\ntabby,cats\n", r"line 2: target 'cats' is no class of the images, did you mean 'cat'\?"),
        ("source,target\ntabby\n", "target .. is no class of the images"),
        ("from,to\ntabby,cat\n", "no columns source and target"),
        (None, "cannot be read, No such file"),
    ],
)
def test_a_table_with_unknown_names_is_refused(tmp_path, text, message):
    if text:
        (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_map(tmp_path / "m.csv", SOURCES, TARGETS)


def test_images_that_cannot_be_answered_are_left_out_and_counted():
    labels = LabelMap(TARGETS, (np.array([0]), np.array([2]), np.array([], int)))
    kept = answerable(arrays([0, 2, 1, 2], TARGETS), labels)
    assert kept.manifest.labels.tolist() == [0, 1]
    assert "2 of 3 target classes have a source; 2 of 4 images cannot be answered" in kept.manifest.notes[-1]
    with pytest.raises(ConfigError, match="no image .* has a target with a source"):
        answerable(arrays([2, 2], TARGETS), labels)


def test_the_command(tmp_path, capsys):
    """Digits as odd and even ones; those above seven are left out."""
    (tmp_path / "m.csv").write_text("source,target\n" + "".join(f"{d},{d}\n" for d in range(8)))
    run = context()
    folder = saved_run(tmp_path / "run", run)
    options = Options(run.config.data, "val", (0.8,), label_map=str(tmp_path / "m.csv"), out=str(tmp_path / "out"))
    evaluate(folder, run.config, options)
    said = capsys.readouterr().out
    labels, outputs = run.source.manifest.labels, run.predict(run.sampling_at(0.8)).outputs
    kept = labels < 8
    assert f"{(~kept).sum()} of 60 images cannot be answered" in said
    want = (outputs[kept, :8].argmax(-1) == labels[kept]).mean()
    assert f"accuracy {want:.3f}" in said


# crops ----------------------------------------------------------------------------------------------


@given(height=st.integers(1, 9), width=st.integers(1, 9), share=st.floats(0.05, 1), square=st.booleans())
def test_a_crop_is_the_middle(height, width, share, square):
    image = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    source = Cropped(Arrays([image], np.zeros(1, np.int32), ("a",)), CentralCrop(share, square))
    part = source.image(0)
    assert part.shape[:2] == tuple(source.manifest.sizes[0])
    h, w = part.shape[:2]
    sides = (min(height, width),) * 2 if square else (height, width)
    assert all(abs(n - share * side) <= 0.5 or n == 1 for n, side in zip((h, w), sides))
    above = (height - h) // 2
    assert above - (height - h - above) in (0, -1) and h == w if square else True
    np.testing.assert_array_equal(part, image[above : above + h, (width - w) // 2 :][:, :w])
    if share == 1 and not square:
        np.testing.assert_array_equal(part, image)


def test_crops_have_about_as_many_tokens():
    """The middle is enlarged where a resolution is a factor of the native size, and not where it is a side."""
    rows = {view: row_of(context(), view) for view in VIEWS}
    whole = rows["whole, aspect kept"]
    assert whole["score"] == context().predict(context().sampling_at(0.8)).score[0]
    assert_close(rows["middle 75 %, aspect kept"]["mean_tokens"], whole["mean_tokens"], 0.15)
    laws = (Native(), NeverEnlarged(Native()), Square(Native()), Sides(8, 8), Square(Sides(8, 8)))
    assert [is_factor(law) for law in laws] == [True, True, True, False, False]
    assert set(whole["groups"]) == {f"digits {k}" for k in range(1, 9)} and EXACT < 1


def test_crops_of_what_has_places_are_refused():
    boxed = arrays([0], ("a",))
    boxed.manifest = replace(boxed.manifest, masks=True)
    with pytest.raises(DataError, match="without boxes and masks"):
        Cropped(boxed, CentralCrop())
