"""Contrastive training end to end: rows of pairs, the loss of packed towers, classifiers made from texts."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import navit_eqx as navit
from data.errors import DataError
from data.pipeline import batches
from data.sampling.augment import Augment, Mix
from data.sampling.patch_size import PerStep
from data.sources.source import Arrays
from data.tasks.contrast import Contrast as PairData
from data.tasks.contrast import distinct_tokens
from data.texts import Texts
from harness.config import Config
from navit_eqx.errors import ConfigError
from navit_eqx.rows import Row as DeviceRow
from navit_eqx.tasks.config import Bytes, Classify, Contrast, SigLip, TextRows
from navit_eqx.training.config import OptimConfig
from navit_eqx.training.optim import decay_groups
from navit_eqx.weights.bridge import to_reference
from reference import model as slow_model
from reference import text as slow_text
from reference.evaluation.zero_shot import class_vectors as slow_vectors
from reference.layers import linear
from reference.rows import Batch, Row
from reference.tasks import contrast as slow
from tests.support.contrast_rows import (
    CAPTIONS,
    COUNT,
    IMAGES,
    ROWS,
    SETS,
    SHAPE,
    TASK,
    TOKENIZER,
    in_float64,
    loss_of,
    on_device,
    rows_of,
    towers,
)
from tests.support.laws import caught
from tests.support.programs import compiled
from tests.support.strategies import model
from tests.support.tolerances import FLOAT64, GRADIENT64, assert_close

# rows of pairs ------------------------------------------------------------------------------------------------


def both_rows_hold_the_same_pairs(group: Batch, sets: np.ndarray, bad: frozenset[int]) -> None:
    """Every readable image has one of its own texts, with its key, in the same group; no other text is there."""
    row, (keys, text_row, text_keys) = group
    table = Texts(CAPTIONS, TOKENIZER)
    readable = sorted(i for i in row.image_ids[row.image_ids >= 0].tolist() if i not in bad)
    used = text_row.grids[..., 0] > 0
    assert sorted(text_row.image_ids[used].tolist()) == readable
    key = dict(zip(text_row.image_ids[used].tolist(), text_keys[used].tolist()))
    for r, slot in np.argwhere(row.image_ids >= 0):
        image = int(row.image_ids[r, slot])
        assert keys[r, slot] == key.get(image, -1)
    for r, slot in np.argwhere(used):
        ids = text_row.patches[r, text_row.segment_ids[r] == slot + 1, 0].tolist()
        own = [c for c in sets[text_row.image_ids[r, slot]] if c >= 0]
        assert ids in [TOKENIZER.encode(CAPTIONS[c]) for c in own]
        assert text_keys[r, slot] in table.keys[own]
    assert (keys[row.grids[..., 0] == 0] == -1).all() and (text_keys[~used] == -1).all()


spoilt = st.frozensets(st.integers(0, COUNT - 1), max_size=6)


@given(bad=spoilt, shards=st.sampled_from([1, 2]), seed=st.integers(0, 9))
def test_an_image_and_its_text_come_together(bad, shards, seed):
    rows = rows_of(bad, shards, seed=seed)
    assert rows.rows_each == ROWS // shards
    for g in range(6):
        both_rows_hold_the_same_pairs(rows[g], SETS, bad)


def test_first_texts_are_candidates_for_all_images():
    """Each column is the first text of some image, and right for all images that have it, first or not."""
    manifest = Arrays(IMAGES, SETS.astype(np.int32), CAPTIONS).manifest
    task = PairData(tokenizer=TOKENIZER, texts=TextRows(), shards=1, loss=SigLip())
    keys, ids = Texts(CAPTIONS, TOKENIZER).keys, np.array([4, 5, 12, 19])
    scores, right = task.main(np.arange(7.0) * np.ones((4, 1)), ids, manifest)
    assert scores[0].tolist() == sorted({*keys[SETS[ids, 0]].tolist()}) == [4, 5]
    own = [{*keys[row[row >= 0]].tolist()} for row in SETS[ids]]
    np.testing.assert_array_equal(right, [[key in texts for key in (4, 5)] for texts in own])


def test_a_loss_over_all_pairs_is_not_added_up_from_parts():
    with pytest.raises(ConfigError, match="optim.accumulate=2, .* --task.parts 2 "):
        Config(task=TASK, optim=OptimConfig(accumulate=2))


def one_text_serves_all_its_images(group: Batch, sets: np.ndarray) -> None:
    """The texts are different, and those that the readable images ask for; each image asks for one of its own."""
    row, (keys, text_row, text_keys) = group
    table, used = Texts(CAPTIONS, TOKENIZER), text_row.grids[..., 0] > 0
    found = text_keys[used].tolist()
    assert len({*found}) == len(found) and {*found} == {*keys[row.grids[..., 0] > 0].tolist()}
    for r, slot in np.argwhere(row.grids[..., 0] > 0):
        own = [c for c in sets[row.image_ids[r, slot]] if c >= 0]
        assert keys[r, slot] in table.keys[own]
    for r, slot in np.argwhere(used):
        ids = text_row.patches[r, text_row.segment_ids[r] == slot + 1, 0].tolist()
        assert ids == TOKENIZER.encode(CAPTIONS[text_keys[r, slot]])


@given(bad=spoilt, shards=st.sampled_from([1, 2]), seed=st.integers(0, 9))
def test_a_text_stands_once_for_all_its_images(bad, shards, seed):
    """Every image comes once in an epoch, in fewer groups than with a text for each."""
    rows = rows_of(bad, shards, seed, TextRows(2, 24, 8, unique=True))
    groups = [rows[g] for g in range(4)]
    for group in groups:
        one_text_serves_all_its_images(group, SETS)
    images = np.concatenate([group.row.image_ids[group.row.image_ids >= 0] for group in groups])
    assert (np.diff(np.sort(np.bincount(images, minlength=COUNT))[[0, -1]]) <= 1).all()


@given(seed=st.integers(0, 9))
def test_doubling_every_text_changes_nothing_where_each_stands_once(seed):
    """Captions that read alike are one text, under whatever names the data have them."""
    texts = TextRows(2, 24, 8, unique=True)
    coin = np.random.default_rng(seed).integers(0, 2, SETS.shape)
    captions = (*CAPTIONS, *(f"{text.upper()}." for text in CAPTIONS))
    sets = np.where(SETS < 0, -1, SETS + len(CAPTIONS) * coin)
    once, twice = rows_of(seed=seed, texts=texts), rows_of(seed=seed, texts=texts, captions=captions, sets=sets)
    for group in range(4):
        jax.tree.map(np.testing.assert_array_equal, once[group], twice[group])


def test_a_text_for_each_image_is_caught():
    group = next(g for g in (rows_of(seed=s)[0] for s in range(9)) if len({*g.targets.text_keys.ravel()}) < 8)
    caught(one_text_serves_all_its_images, group, SETS)


@given(count=st.integers(1, 30), seed=st.integers(0, 9))
def test_tokens_of_distinct_texts_are_their_mean_over_batches(count, seed):
    rng, table = np.random.default_rng(seed), Texts(CAPTIONS, TOKENIZER)
    sets = SETS.astype(np.int32)
    total, draws = 0.0, 2000
    images = rng.integers(0, COUNT, (draws, count))
    own = (sets >= 0).sum(-1)
    keys = table.keys[sets[images, (rng.random((draws, count)) * own[images]).astype(int)]]
    for row in keys:
        total += table.lengths[np.unique(row)].sum()
    assert_close(distinct_tokens(sets, table, count), total / draws, 0.05)


def test_texts_that_serve_all_are_positives_of_all():
    with pytest.raises(ConfigError, match="task.texts.unique .* task.duplicates=negative"):
        Contrast(texts=TextRows(unique=True), duplicates="negative")


def test_a_text_of_another_image_is_caught():
    row, targets = rows_of()[0]
    ids = targets.text_row.image_ids.copy()
    ids[0, :2] = ids[0, 1::-1]
    swapped = targets._replace(text_row=targets.text_row._replace(image_ids=ids))
    caught(both_rows_hold_the_same_pairs, Batch(row, swapped), SETS, frozenset())


def test_every_pair_is_in_an_epoch_once_with_a_caption_of_its_own():
    rows = rows_of()
    seen = []
    for epoch in range(4):
        plan = rows.rows.epochs.plan(epoch)
        assert plan.texts is not None
        assert len(plan.image_ids) % ROWS == 0
        assert sorted(plan.image_ids[plan.image_ids >= 0].tolist()) == list(range(COUNT))
        assert sorted(plan.texts.image_ids[plan.texts.image_ids >= 0].tolist()) == list(range(COUNT))
        own = plan.texts.image_ids >= 0
        seen.append(dict(zip(plan.texts.image_ids[own].tolist(), plan.texts.captions[own].tolist())))
    assert all(epoch[i] in SETS[i] for epoch in seen for i in range(COUNT))
    assert any(seen[0][i] != epoch[i] for epoch in seen for i in range(COUNT)), "always the first caption"
    first, then = ([seen[e][i] == SETS[i, 0] for i in rows.plans.plans.images(e).tolist()] for e in (0, 1))
    choice = [(SETS[rows.plans.plans.images(e), 1] >= 0) for e in (0, 1)]
    assert (np.array(first) != then)[choice[0] & choice[1]].any(), "the same caption at the same place of the order"


def test_texts_that_are_alike_have_one_key():
    keys = Texts(CAPTIONS, TOKENIZER).keys
    assert keys[0] == keys[1] and len({*keys.tolist()}) == len(CAPTIONS) - 1
    assert len({*Texts(("a small dog", "a small cat"), Bytes(8)).keys.tolist()}) == 1  # cut alike


def test_hosts_share_a_batch_of_pairs():
    whole = [next(batches(rows_of(shards=2), ROWS, start=s)) for s in range(2)]
    halves = [[next(batches(rows_of(shards=2), ROWS, start=s, host=h, hosts=2)) for h in (0, 1)] for s in range(2)]
    for batch, parts in zip(whole, halves):
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        jax.tree.map(np.testing.assert_array_equal, joined, batch)
        assert batch.row.segment_ids.shape == (ROWS, 24) and batch.targets.text_row.segment_ids.shape == (2, 30)
    with pytest.raises(ValueError, match="groups of 4"):
        batches(rows_of(), ROWS, hosts=2)


def test_pairs_that_cannot_be_are_refused():
    rows = rows_of()
    task = PairData(tokenizer=TOKENIZER, texts=TextRows(2, 30, 8), shards=1, loss=SigLip())
    with pytest.raises(DataError, match="no caption"):
        task.check(
            Arrays(IMAGES, np.where(np.arange(COUNT)[:, None] == 5, -1, SETS).astype(np.int32), CAPTIONS).manifest
        )
    with pytest.raises(DataError, match="mixture"):
        task.batches(replace(rows.rows, augment=Augment(mix=Mix(0.5))))
    with pytest.raises(DataError, match="task.shards=3"):
        PairData(tokenizer=TOKENIZER, texts=TextRows(3, 30, 8), shards=3, loss=SigLip()).plans(rows.plans.plans, ROWS)
    stepwise = replace(rows.plans.plans, sampling=rows.plans.plans.sampling | {"patch_size": PerStep((2, 4))})
    with pytest.raises(DataError, match="per step"):
        task.plans(stepwise, ROWS)
    short = PairData(tokenizer=TOKENIZER, texts=TextRows(2, 5, 8), shards=1, loss=SigLip())
    with pytest.raises(DataError, match="a caption has 10 tokens"):
        short.plans(rows.plans.plans, ROWS)(0)


# loss ---------------------------------------------------------------------------------------------------------


def slow_loss(made: Any, batch: Batch) -> tuple[float, int]:
    """The loss by the reference: both towers row by row, then the formula on all slots."""
    params = to_reference(made)
    row, (keys, text_row, text_keys) = batch

    def side(backbone: dict, projection: dict, rows: Row, keys: np.ndarray) -> slow.Slots:
        pooled = np.concatenate([slow_model.forward(backbone, Row(*leaves)) for leaves in zip(*rows)])
        x = linear(projection, pooled)
        length = np.sqrt((x**2).sum(-1, keepdims=True))
        return slow.Slots(x / (length + 1e-8), keys.ravel(), rows.image_ids.ravel())

    task = params["task"]
    one_hot = [slow_text.with_one_hot(Row(*leaves), slow_text.VOCABULARY) for leaves in zip(*text_row)]
    texts = Row(*map(np.stack, zip(*one_hot)))
    images = side(params["backbone"], task["image_projection"], row, keys)
    texts = side(task["text"], task["text_projection"], texts, text_keys)
    loss = slow.sigmoid_loss if made.task.config.kind == "sigmoid" else slow.softmax_loss
    more = (float(task["bias"]),) if made.task.config.kind == "sigmoid" else ()
    return loss(images, texts, float(task["log_scale"]), *more, duplicates=made.task.config.duplicates)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
@pytest.mark.parametrize("duplicates", ["positive", "ignore", "negative"])
def test_the_loss_is_that_of_the_reference(kind, duplicates):
    batch, made = in_float64(rows_of(frozenset({3}))[0]), towers(kind, duplicates)
    (got, count), (want, images) = loss_of(made, batch), slow_loss(made, batch)
    assert count == images
    assert_close(got, want, FLOAT64)


def the_place_of_a_pair_is_invisible(loss, batch: Batch) -> None:
    """Rows of images and rows of texts may stand in any order."""
    row, (keys, text_row, text_keys) = batch
    turned = lambda leaf: leaf[::-1].copy()
    images = Batch(jax.tree.map(turned, row), batch.targets._replace(keys=turned(keys)))
    texts = Batch(row, batch.targets._replace(text_row=jax.tree.map(turned, text_row), text_keys=turned(text_keys)))
    for other in (images, texts):
        (got, count), (want, same) = loss(other), loss(batch)
        assert count == same
        assert_close(got, want, FLOAT64)


def test_the_order_of_rows_is_invisible():
    the_place_of_a_pair_is_invisible(lambda batch: loss_of(towers(), batch), rows_of()[0])


def test_pairs_by_place_are_caught():
    """A loss that takes text slot n for the text of image slot n."""

    def by_place(batch: Batch) -> tuple[float, int]:
        row, (keys, text_row, text_keys) = batch
        places = lambda leaf: np.where(leaf >= 0, np.arange(leaf.size).reshape(leaf.shape), -1).astype(np.int32)
        return loss_of(towers(), Batch(row, batch.targets._replace(keys=places(keys), text_keys=places(text_keys))))

    caught(the_place_of_a_pair_is_invisible, by_place, rows_of()[0])


@pytest.mark.slow
def test_the_loss_mixes_images_and_the_tower_does_not():
    """Pixels of an image move its own vector alone; its gradient depends on every other image of the batch."""
    made, batch = towers(), on_device(in_float64(rows_of()[0]))
    row, seen, r = batch.row, np.asarray(batch.row.segment_ids), 0

    def of_vector(patches, slot):
        return made.task.predict(made.backbone, row._replace(patches=patches))[r, slot].sum()

    def of_loss(patches):
        return made.loss(batch._replace(row=row._replace(patches=patches)), jr.key(0))[0]

    slope, pull = jax.jit(jax.grad(of_vector)), jax.jit(jax.grad(of_loss))
    before = np.abs(np.asarray(pull(row.patches))).sum(-1)
    assert (before[seen > 0] > 0).all()
    for slot in range(seen[r].max()):
        own = np.zeros(seen.shape, bool)
        own[r] = seen[r] == slot + 1
        np.testing.assert_array_equal(np.abs(np.asarray(slope(row.patches, slot))).sum(-1) > 0, own)
        after = np.abs(np.asarray(pull(jnp.where(own[..., None], -row.patches, row.patches)))).sum(-1)
        assert (after[seen > 0] != before[seen > 0]).all()


def test_embedding_twice_changes_nothing():
    batch = on_device(rows_of()[0])

    def gradients(made: navit.Model):
        return eqx.filter_jit(eqx.filter_grad(lambda made: made.loss(batch, jr.key(0))[0]))(made)

    once, twice = (jax.tree.leaves(gradients(towers(parts=parts))) for parts in (1, 2))
    for a, b in zip(once, twice):
        assert_close(b, a, GRADIENT64)


def test_temperature_and_bias_do_not_decay():
    """The text tower does as the backbone, the projections as a head."""
    leaves = jax.tree_util.tree_leaves_with_path(decay_groups(towers()))
    groups = {".".join(key.name for key in path): group for path, group in leaves}
    assert groups["task.log_scale"] == groups["task.bias"] == "none"
    assert groups["task.text.patch_embedding.w"] == "body" == groups["backbone.patch_embedding.w"]
    assert groups["task.image_projection.w"] == groups["task.text_projection.w"] == "head"


def test_the_scale_stays_below_its_limit():
    made = towers()
    high = eqx.tree_at(lambda m: m.task.log_scale, made, jnp.log(jnp.asarray(250.0)))
    assert float(jnp.exp(high.after_update().task.log_scale)) == pytest.approx(100)
    assert float(made.after_update().task.log_scale) == float(made.task.log_scale)


# classifiers from texts ---------------------------------------------------------------------------------------


def test_a_classifier_of_texts_compares_images_with_texts():
    made = towers()
    batch = rows_of()[0].row
    row = DeviceRow(*map(jnp.asarray, batch))
    classifier = navit.zero_shot(made, ["a dog", "a cat"])
    images, texts = np.asarray(made(row)), navit.embed_texts(made, ["a dog", "a cat"])
    want = np.exp(float(made.task.log_scale)) * images @ texts.T + float(made.task.bias)
    assert_close(np.asarray(classifier(row)), want, 1e-6)  # vectors of texts are stored in float32
    assert classifier.info is not None and classifier.info.classes == ("a dog", "a cat")


def test_several_prompts_are_averaged_to_unit_length():
    made = towers()
    several: Any = navit.zero_shot(made, {"dog": ["a dog", "a small red dog"], "cat": ["a cat"]})
    texts = [navit.embed_texts(made, each).astype(float) for each in (["a dog", "a small red dog"], ["a cat"])]
    vectors = np.asarray(several.task.class_vectors)
    assert_close(vectors, slow_vectors(texts), 1e-6)
    assert_close(np.linalg.norm(vectors, axis=-1), np.ones(2), 1e-6)


@given(count=st.integers(0, 40), seed=st.integers(0, 99))
def test_texts_keep_their_order_in_one_program(count, seed):
    made = towers()
    rng = np.random.default_rng(seed)
    texts = [CAPTIONS[i] for i in rng.integers(0, len(CAPTIONS), count)]
    alone = navit.embed_texts(made, CAPTIONS)
    with compiled() as programs:
        vectors = navit.embed_texts(made, texts)
    assert vectors.shape == (count, 6) and programs == [0]
    if count:
        assert_close(vectors, np.stack([alone[CAPTIONS.index(text)] for text in texts]), 1e-6)


def test_texts_cannot_name_classes_of_every_model():
    with pytest.raises(ConfigError, match="does not read texts"):
        navit.zero_shot(model(0, SHAPE, Classify(classes=3)), ["a dog"])
    with pytest.raises(ConfigError, match="prompts"):
        navit.zero_shot(towers(), {"dog": []})
    with pytest.raises(ConfigError, match="two classes"):
        navit.zero_shot(towers(), ["a dog", "a dog"])
