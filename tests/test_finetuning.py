"""Fine-tuning in a loop of one's own: each step descends along the mean loss, with the head of the task."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from navit_eqx import Batch, Row, finetune
from navit_eqx.tasks.classify import Targets
from navit_eqx.tasks.config import Classify
from navit_eqx.weights.bridge import flatten
from reference.rows import pack
from reference.tasks import classify
from tests.support.strategies import CLASSES, I, T, model, tokens_of
from tests.support.tolerances import FLOAT64, assert_close

RATE = 0.5


def batch(labels=(3, 0, -1)) -> Batch:
    """Two rows: three images, one of them without a label, and padding alone."""
    rng = np.random.default_rng(0)
    images = [tokens_of(rng, grid) for grid in ((2, 3), (3, 3), (1, 2))]
    rows = [pack(images, range(3), T, I), pack(images[:1], [3], T, I)]
    rows[1].segment_ids[:], rows[1].grids[:], rows[1].image_ids[:] = 0, 0, -1
    known = np.full((2, I), -1, np.int32)
    known[0, :3] = labels
    row = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *rows)
    targets = Targets(jnp.asarray(known), jnp.full((2, I), -1, jnp.int32), jnp.zeros((2, I)))
    return Batch(Row(*row), targets)


def mean_loss(trained, given: Batch):
    """Of the two labelled images, from the logits alone."""
    targets = classify.Targets(*(np.asarray(leaf)[0] for leaf in given.targets))
    target = jnp.asarray(classify.soft_labels(targets, CLASSES, 0.0))
    log_probability = jax.nn.log_softmax(trained(given.row)[0])
    return -(target * log_probability)[:2].sum() / 2


def test_a_step_is_that_of_the_mean_loss():
    """Every parameter, of backbone and head, moves along the gradient of the mean, and the loss is that before."""
    given, start = batch(), model()
    state, step = finetune(start, start.task, optax.sgd(RATE))
    want, gradient = eqx.filter_jit(lambda start: eqx.filter_value_and_grad(mean_loss)(start, given))(start)
    after, loss = step(state, given)
    assert_close(loss, want, FLOAT64)
    moved, slopes = flatten(after.model), flatten(gradient)
    for name, value in flatten(start).items():
        assert_close(moved[name], value - RATE * slopes[name], FLOAT64)
        assert (np.abs(slopes[name]) > 0).any(), name
    assert int(after.step) == 1 and int(state.step) == 0


def test_without_a_label_nothing_is_learned():
    start = model()
    state, step = finetune(start, start.task, optax.sgd(RATE))
    after, loss = step(state, batch((-1, -1, -1)))
    assert loss == 0
    found = flatten(after.model)
    for name, value in flatten(start).items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("classes", [2, CLASSES])
def test_a_configuration_gives_a_head_that_starts_anew(classes):
    """Zero, and of its own number of classes; the backbone is that of the saved model, which stays as it was."""
    start = model()
    before = flatten(start)
    state, _ = finetune(start, Classify(classes=classes), optax.sgd(RATE))
    assert state.model.task.head.w.shape == (start.config.width, classes)
    assert not np.asarray(state.model.task.head.w).any() and state.model.task.config == Classify(classes=classes)
    for name, value in flatten(state.model.backbone).items():
        np.testing.assert_array_equal(value, before[f"backbone.{name}"])
    np.testing.assert_array_equal(flatten(start)["task.head.w"], before["task.head.w"])


def test_every_step_has_a_key_of_its_own():
    keys = []

    class Counting(type(model().task)):
        def loss(self, backbone, given, key):
            jax.debug.callback(lambda key: keys.append(key.tolist()), jr.key_data(key), ordered=True)
            return super().loss(backbone, given, key)

    plain = model()
    like = eqx.filter_eval_shape(Counting, Classify(classes=CLASSES), plain.config.width, key=jr.key(0))
    task = eqx.tree_at(lambda t: t.head, like, plain.task.head)
    state, step = finetune(plain, task, optax.sgd(RATE))
    for _ in range(3):
        state, _ = step(state, batch())
    jax.effects_barrier()
    assert len({tuple(key) for key in keys}) == 3
