"""Classes of boxes that are named by texts: any texts may be asked for, and only what they say counts."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import navit_eqx as navit
from data.errors import DataError
from data.sources.digit_boxes import DigitBoxes, DigitPages
from data.sources.unboxed import Unboxed, unboxed
from data.tasks.detect import Detect as DataDetect
from harness.detect_presets import detect_digits_texts
from harness.run import loading, warm_start
from navit_eqx.errors import ConfigError
from navit_eqx.layers import Linear
from navit_eqx.rows import to_device
from navit_eqx.tasks import class_heads as fast
from navit_eqx.tasks import prepare
from navit_eqx.tasks.config import Classify, Contrast
from navit_eqx.tasks.config_detect import ByText, Detect, PerClass
from navit_eqx.tasks.model import abstract_model
from navit_eqx.weights.bridge import to_reference
from reference.evaluation.zero_shot import unit
from reference.layers import linear
from reference.rows import pack
from reference.tasks import class_heads as slow
from reference.tasks.detect import class_logits
from tests.support.detect import BY_TEXT, CLASSES, HEAD, NAMES, TASKS, detector
from tests.support.rounding import call
from tests.support.strategies import CONFIG, I, T, filled, rows, seeds, tokens_of
from tests.support.tolerances import FLOAT64, assert_close

MODEL = detector("texts")
PAGES = DigitPages("train", 40, 0, words=True)
TOWERS = filled(
    abstract_model(CONFIG, Contrast(text=HEAD.text, tokenizer=HEAD.tokenizer, embedding=HEAD.embedding)), 3, "float64"
)


def detected(model: navit.Model, row) -> np.ndarray:
    return np.array(call(model, to_device(row)))


# the head -------------------------------------------------------------------------------------------


@given(seed=seeds)
def test_with_a_table_of_vectors_it_is_a_linear_head(seed):
    """Where shift and scale are the same for all tokens, W x / ‖W x‖ has a linear head with the vectors as its rows."""
    rng = np.random.default_rng(seed)
    head = to_reference(MODEL)["task"]["class_head"]
    x, vectors, shift, scale = rng.normal(size=(9, 16)), unit(rng.normal(size=(4, 6))), rng.normal(), rng.normal()
    flat = {name: {"w": np.zeros((16, 1)), "b": np.array([b])} for name, b in (("shift", shift), ("scale", scale))}
    factor = scale + 1 if scale > 0 else np.exp(scale)
    plain = {"w": factor * vectors.T, "b": np.full(4, factor * shift)}
    want = linear(plain, unit(linear(head["projection"], x)))
    assert_close(slow.text_head(head | flat, x, vectors), want, FLOAT64)
    params = {"class_head": plain}
    assert_close(class_logits(params, unit(linear(head["projection"], x))), want, FLOAT64)


MOVED = [2, 0, 1]
ASKED = navit.zero_shot(MODEL, {NAMES[y]: HEAD.prompts(NAMES)[NAMES[y]] for y in MOVED})


@given(packed=rows(least=1))
@settings(max_examples=5)
def test_the_order_of_texts_does_not_matter(packed):
    """Each class keeps its boxes and scores, wherever its texts stand."""
    assert ASKED.info and ASKED.info.classes == tuple(NAMES[y] for y in MOVED)
    found = detected(ASKED, packed.row)
    found[..., 5] = np.where(found[..., 5] >= 0, np.array(MOVED)[found[..., 5].astype(int)], -1)
    assert_close(found, detected(MODEL, packed.row), FLOAT64)


def test_a_text_that_names_a_class_has_its_score():
    """Among other texts, with another number of them, and however it is written."""
    x = np.random.default_rng(0).normal(size=(9, 16))

    def logits(*texts: str) -> np.ndarray:
        head = navit.zero_shot(MODEL, texts).task.class_head
        return np.asarray(call(lambda head, x: head(x, head.class_vectors()), head, jnp.asarray(x)))

    own, other = logits("a", "the second", "dog"), logits("a cat", "DOG!")
    assert_close(other[:, 1], own[:, 2], FLOAT64)
    assert np.abs(other[:, 0] - own[:, 2]).max() > 1e-3


def test_negatives_are_asked_for_and_never_found():
    vectors = call(lambda head: head.class_vectors(), MODEL.task.class_head)
    assert vectors.shape == (CLASSES + 1, HEAD.embedding) and BY_TEXT.owners == (0, 0, 1, 1, 2, 2, 3)
    row = pack([tokens_of(np.random.default_rng(0), (4, 4))], [0], T, I)
    assert {*np.unique(detected(MODEL, row)[0, :, 5]).tolist()} <= {0.0, 1.0, 2.0}


def test_a_token_alone_is_an_image_of_one_token():
    """Both sides, with an attention pool: its output for the token, not the token."""
    x = np.random.default_rng(0).normal(size=(5, 16))
    pool = to_reference(MODEL)["backbone"]["pool"]
    got = np.asarray(call(fast.alone, MODEL.backbone.pool, jnp.asarray(x)))
    assert_close(got, slow.alone(pool, x), FLOAT64)
    for t in range(5):
        assert_close(got[t], slow.alone(pool, x[t : t + 1])[0], FLOAT64)
    assert np.abs(got - x).max() > 0.1


def test_a_fresh_head_finds_no_class_likely():
    fresh = lambda key, x, vectors: fast.TextHead(BY_TEXT, 16, key=key)(x, vectors)
    logits = np.asarray(call(fresh, jax.random.key(0), jnp.zeros((1, 16)), jnp.zeros((2, 6))))
    assert_close(1 / (1 + np.exp(-logits)), np.full((1, 2), fast.PRIOR), 1e-6)


# configurations -------------------------------------------------------------------------------------


def test_what_cannot_be_asked_for_is_refused():
    bare = Detect(ByText())
    with pytest.raises(ConfigError, match="no tower reads them: .*--start RUN"):
        prepare(bare, NAMES, lambda start: None)
    with pytest.raises(ConfigError, match="'dog' and 'Dog!' have the same texts"):
        prepare(Detect(HEAD), ("dog", "cat", "Dog!"), lambda start: None)
    with pytest.raises(ConfigError, match=r"forms needs texts with \{\}"):
        ByText(("a dog",))
    with pytest.raises(ConfigError, match="its task is Detect: .*--task.head bytext"):
        navit.zero_shot(detector("hungarian"), ["a dog"])
    prepared = prepare(Detect(HEAD), NAMES, lambda start: None)
    assert prepared.config.head == BY_TEXT and prepared.data["seen"] == NAMES
    assert prepare(prepared.config, NAMES, lambda start: None).config == prepared.config


def test_the_tower_is_that_of_the_start():
    config = detect_digits_texts()
    for saved in (TOWERS.task.config, TASKS["texts"]):
        found, (note,) = config.task.started_from(lambda saved=saved: saved, "a run")
        head = found.head
        assert (head.text, head.tokenizer, head.embedding) == (HEAD.text, HEAD.tokenizer, HEAD.embedding)
        assert head.held_out == config.task.head.held_out and "text tower of a run" in note
    for saved in (Classify(classes=3), Detect()):
        with pytest.raises(ConfigError, match="the model in a run reads none, its task is"):
            config.task.started_from(lambda saved=saved: saved, "a run")
    unread = lambda: pytest.fail("a saved task is read that nothing is taken from")
    assert Detect().started_from(unread, "a run") == (Detect(), [])


@pytest.mark.parametrize("saved", [TOWERS, MODEL], ids=["a contrastive run", "such a detector"])
def test_the_tower_is_kept(saved, monkeypatch):
    """Of a contrastive run: the tower, and its projection of images for tokens; of such a detector everything, though
    the classes are others."""
    monkeypatch.setattr(warm_start, "trained_model", lambda start: saved)
    fresh = filled(
        abstract_model(CONFIG, replace(TASKS["texts"], head=HEAD.asking({"x": ["x"]}), classes=1)), 9, "float64"
    )
    config = replace(detect_digits_texts(), model=CONFIG, start="a run", task=fresh.task.config)
    started = to_reference(warm_start.warm_start(fresh, config, ("x",)))
    before, new = to_reference(saved), to_reference(fresh)["task"]
    if saved is MODEL:
        want = before["task"]
    else:
        tower = {name: before["task"][name] for name in ("text", "text_projection")}
        want = new | {"class_head": new["class_head"] | tower | {"projection": before["task"]["image_projection"]}}
    for part, whole in ((started["backbone"], before["backbone"]), (started["task"], want)):
        same = jax.tree.map(np.array_equal, arrays(part), arrays(whole))
        assert all(jax.tree.leaves(same)) and len(jax.tree.leaves(same)) > 5


def arrays(params: dict) -> dict:
    """The arrays of nested parameters."""
    kept = {name: arrays(part) if isinstance(part, dict) else part for name, part in params.items()}
    return {name: part for name, part in kept.items() if isinstance(part, dict | np.ndarray)}


def test_a_tower_that_would_be_lost_is_named(monkeypatch, capsys):
    """With weights for each class the head starts anew, also from a detector with the same classes named by texts."""
    for saved in (TOWERS, filled(abstract_model(CONFIG, TASKS["texts"], navit.ModelInfo(NAMES)), 1, "float64")):
        monkeypatch.setattr(warm_start, "trained_model", lambda start, saved=saved: saved)
        fresh = detector("hungarian")
        config = replace(detect_digits_texts(), model=CONFIG, start="a run", task=Detect(PerClass()))
        started = warm_start.warm_start(fresh, config, NAMES)
        assert isinstance(started.task, type(fresh.task)) and isinstance(started.task.class_head, Linear)
        assert "--task.head bytext keeps it" in capsys.readouterr().out


def test_a_saved_detector_is_asked_again(tmp_path):
    model = filled(abstract_model(CONFIG, TASKS["texts"], navit.ModelInfo(NAMES)), 0, "float32")
    navit.save_model(tmp_path, model, model.info)
    again = navit.load(tmp_path)
    assert again.info and again.info.classes == NAMES
    ours, theirs = (navit.zero_shot(m, ["dog", "another"]) for m in (model, again))
    assert ours.task.config == theirs.task.config and theirs.task.config.head.texts == (
        "dog",
        "another",
        "nothing at all",
    )
    same = jax.tree.map(np.array_equal, *(arrays(to_reference(m)) for m in (ours, theirs)))
    assert all(jax.tree.leaves(same))


# data -----------------------------------------------------------------------------------------------


def test_classes_that_are_held_out_have_no_box():
    """Nor a name; the images are the same, and so are the other boxes."""
    bare = Unboxed(PAGES, ("seven", "three"))
    assert len(bare.manifest.classes) == 8 and not {"seven", "three"} & {*bare.manifest.classes}
    assert bare.manifest.notes[-1].startswith("held out: seven, three; ")
    for i in range(len(PAGES.manifest)):
        whole, part = PAGES.manifest.boxes.of(i), bare.manifest.boxes.of(i)
        kept = [name not in ("seven", "three") for name in np.array(PAGES.manifest.classes)[whole.classes]]
        np.testing.assert_array_equal(part.corners, whole.corners[kept])
        names = [np.array(m.classes)[b.classes] for m, b in ((bare.manifest, part), (PAGES.manifest, whole))]
        np.testing.assert_array_equal(names[0], names[1][kept])
    np.testing.assert_array_equal(bare.image(3), PAGES.image(3))
    assert unboxed(PAGES, ()) is PAGES
    with pytest.raises(DataError, match="no class 'eleven'; it has zero, one"):
        Unboxed(PAGES, ("eleven",))
    with pytest.raises(DataError, match="leaves no class"):
        Unboxed(PAGES, PAGES.manifest.classes)


def test_validation_has_all_classes():
    config = detect_digits_texts()
    config = replace(config, data=replace(config.data, source=DigitBoxes(20, 10, words=True)))
    train, val = loading.open_sources(config)
    assert (len(train.manifest.classes), len(val.manifest.classes)) == (8, 10)
    plain = replace(config, task=replace(config.task, head=PerClass()))
    assert len(loading.open_sources(plain)[0].manifest.classes) == 10


def test_scores_of_held_out_classes_stand_apart():
    """All is found but what was never boxed; nothing is told apart where there is no such class."""
    manifest = PAGES.manifest
    outputs = np.zeros((len(manifest), 12, 6))
    outputs[..., 5] = -1
    for i, size in enumerate(manifest.sizes.tolist()):
        boxes = manifest.boxes.of(i)
        kept = boxes.only(boxes.classes != 7)
        places = (kept.corners[:, :2] + kept.corners[:, 2:]) / 2, kept.corners[:, 2:] - kept.corners[:, :2]
        outputs[i, : len(kept.classes), :4] = np.concatenate(places, -1) / np.tile([size[1], size[0]], 2)
        outputs[i, : len(kept.classes), 4], outputs[i, : len(kept.classes), 5] = 0.9, kept.classes
    ids, names = np.arange(len(manifest)), tuple(name for name in manifest.classes if name != "seven")
    found = DataDetect(boxes=12, detections=12, seen=names).metrics(outputs, ids, manifest)
    assert found["ap_seen"] == found["ap50_seen"] == 1 and found["ap_held_out"] == found["ap50_held_out"] == 0
    for seen in (None, manifest.classes, ("a", "b")):
        task = DataDetect(boxes=12, detections=12, seen=seen)
        assert "ap_seen" not in task.metrics(outputs, ids, manifest) and task.own_classes == (seen is None)
