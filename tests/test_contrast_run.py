"""A run on images and texts, from end to end: training, studies, the saved model, evaluation, search."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image

import navit_eqx as navit
import train
from data.sources.digit_captions import DigitCaptions
from data.sources.source import Arrays, Attribute, Foils
from evaluate import Options, evaluate
from harness.contrast_presets import contrast_digits
from harness.evaluation import predictions, studies
from harness.evaluation.predictions import context_of
from harness.evaluation.search import contact_sheet, similarities
from harness.evaluation.studies.zeroshot import attributes_of
from harness.run import loading
from harness.run.folder import read_config
from harness.run.loading import task_of
from navit_eqx.tasks.config import Bytes, Contrast, TextTower
from navit_eqx.training.config import OptimConfig
from tests.support.html import is_whole
from tests.support.strategies import CONFIG
from tests.support.tolerances import FLOAT32, assert_close

pytestmark = pytest.mark.slow  # trains a whole run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a small run of 20 steps."""
    base = contrast_digits()
    config = replace(
        base,
        model=replace(CONFIG, patch=(8, 8), posembed=base.model.posembed, depth=1, dtype="float32"),
        data=replace(base.data, source=DigitCaptions(300, 40), eval_resolutions=(1.0,), val_resolution=1.0),
        task=Contrast(text=TextTower(16, 1, 2, 16), tokenizer=Bytes(24), embedding=8),
        optim=OptimConfig(lr=3e-3),
        rows=8, steps=20, log_every=5, out=str(tmp_path_factory.mktemp("runs")), name="pairs",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(loading, "rows_at_once", lambda row_tokens, devices: 8)  # small programs, made quickly
        monkeypatch.setattr(predictions, "REPEATS", 1)
        with jax.numpy_dtype_promotion("standard"):  # Optax multiplies floats by integer step counts
            train.train(config, "contrast-digits")
        yield tmp_path_factory.getbasetemp() / config.out / "pairs"


def test_a_run_leaves_a_model_that_reads_texts(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["compiles"] == 1 and 0 <= summary["val_recall_at_1"] <= 1
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"] and 0 <= lines[-1]["text_padding"] < 0.5
    config = read_config(run)
    assert isinstance(config.task, Contrast) and config.task.texts.shape[2] >= 4
    model = navit.load(run)
    classifier = navit.zero_shot(model, ["one digit", "a row of digits"])
    batch = navit.pack([np.zeros((20, 60, 3), np.uint8)], classifier)
    shares = navit.probabilities(classifier, navit.unpack(batch, navit.forward(classifier, batch)))
    assert shares.shape == (1, 2) and abs(shares.sum() - 1) < FLOAT32


def test_studies_of_texts_leave_tables_and_pictures(run):
    for name, rows in (("retrieval", 3), ("zeroshot", 3)):
        assert len(json.loads((run / f"{name}.json").read_text())) == rows
        with Image.open(run / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 50


def test_a_report_shows_what_there_is(run):
    """Of this task too: what it is, the pictures of its studies, and where it looks."""
    page = is_whole((run / "report.html").read_text())
    assert {section["id"] for section in page.all("section")} >= {"about", "retrieval", "zeroshot", "attention"}
    assert "Contrast" in page.text and "R@1" in page.text and len(page.all("img")) >= 6


def test_zero_shot_accuracy_is_that_of_a_classifier_of_the_prompts(run):
    model, config = navit.load(run), read_config(run)
    source = config.data.source.open("", "val")
    context = context_of(model, config, source, task_of(model))
    found = {row["of"]: row for row in studies.zeroshot(context).rows}
    for attribute in attributes_of(source):
        for column, texts in (("accuracy", attribute.texts), ("class_name_only", [[v] for v in attribute.values])):
            classifier = context_of(
                navit.zero_shot(model, dict(zip(attribute.values, texts))), config, source, context.task
            )
            outputs = classifier.predict(classifier.sampling_at(1.0), output=lambda m, row: m(row))
            labels = attribute.labels[outputs.image_ids]
            logits, labels = outputs.outputs[labels >= 0], labels[labels >= 0]
            others = np.where(np.arange(logits.shape[1]) == labels[:, None], -np.inf, logits).max(-1)
            lead = logits[np.arange(len(labels)), labels] - others
            assert (lead > FLOAT32).mean() <= found[attribute.name][column] <= (lead > -FLOAT32).mean()
            assert found[attribute.name]["images"] == len(labels)


class Asked:
    """Strips with other questions."""

    def __init__(self, strips, attributes=(), foils=()):
        self.image, self.manifest, self.attributes, self.foils = strips.image, strips.manifest, attributes, foils


def asked(run, attributes=(), foils=()) -> list[dict]:
    """The table of the study for other questions on the same images."""
    model, config = navit.load(run), read_config(run)
    source = Asked(config.data.source.open("", "val"), attributes, foils)
    return studies.zeroshot(context_of(model, config, source, task_of(model))).rows


def test_a_true_caption_is_compared_with_a_false_one(run, tmp_path):
    """One by one; what cannot be told apart counts against the model, and so does a text that is cut to the same."""
    model = navit.load(run)
    strips = read_config(run).data.source.open("", "val")
    batch = navit.pack([strips.image(i) for i in (3, 7)], model)
    images = np.asarray(navit.unpack(batch, navit.forward(model, batch)))
    true, false = ("a row of digits", "a seven", "a nine"), ("a column of digits", "A seven!", "one")
    one, other = (navit.embed_texts(model, texts) for texts in (true, false))
    wins = [k != 1 and float(images[i] @ one[k]) > float(images[i] @ other[k]) for k, i in enumerate((0, 1, 1))]
    foils = Foils("order", np.array([3, 7, 7]), true, false, 0.6)
    long = Foils("end", np.array([3]), ("x" * 40 + "a",), ("x" * 40 + "b",))
    same = Foils("same", np.arange(40), ("a seven",) * 40, ("A seven!",) * 40)  # which rounding tells apart
    first, second, third = asked(run, foils=(foils, long, same))
    assert first["accuracy"] == pytest.approx(np.mean(wins)) and first["images"] == 3
    assert (first["of"], first["floor"], first["class_name_only"]) == ("foils: order", 0.6, None)
    assert second["accuracy"] == third["accuracy"] == 0


def test_classes_with_the_same_texts_are_one_class(run):
    labels = np.arange(40) % 2
    (alike,) = asked(run, (Attribute("alike", ("a", "A!"), labels),))
    assert alike["accuracy"] == alike["class_name_only"] == 1
    unknown = Attribute("unknown", ("a", "b"), np.full(40, -1), (("one", "two"), ("three",)))
    (row,) = asked(run, (unknown,))
    assert (row["accuracy"], row["images"]) == (None, 0)


def test_labels_of_other_images_are_named_by_their_classes():
    source = Arrays([np.zeros((4, 4, 3), np.uint8)] * 3, np.array([0, 1, 1], np.int32), ("a dog", "a cat"))
    (attribute,) = attributes_of(source)
    assert attribute.texts == (("a dog",), ("a cat",)) and attribute.labels.tolist() == [0, 1, 1]


def test_a_run_is_evaluated_again(run, tmp_path, capsys):
    config = read_config(run)
    evaluate(run, config, Options(config.data, split="val", resolutions=(1.0,), out=str(tmp_path)))
    assert "retrieval" in (said := capsys.readouterr().out) and "more studies: --studies mistakes calibration" in said
    before, after = (json.loads((folder / "retrieval.json").read_text()) for folder in (run, tmp_path))
    assert before == after


def test_a_text_finds_images(run, tmp_path):
    """The ranking is by cosine, images that cannot be read come last, and the best are shown."""
    model = navit.load(run)
    vectors = np.asarray([[1.0] + [0.0] * 7, [np.nan] * 8, [0.0] * 7 + [1.0]], np.float32)
    text = navit.embed_texts(model, ["a row"])[0]
    found = similarities(model, vectors, "A row!")
    assert_close(found[[0, 2]], text[[0, -1]], FLOAT32)
    assert found[1] == -np.inf
    paths = [str(tmp_path / f"${i}.png") for i in range(3)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((9, 30, 3), 60 * i, np.uint8)).save(path)
    contact_sheet(paths, [0.3, 0.2, 0.1], "a row of $5", tmp_path / "sheet")  # PNG, whatever its name says
    with Image.open(tmp_path / "sheet") as picture:
        assert picture.size[0] > 500
