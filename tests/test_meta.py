"""The tests can fail: each sabotage must be caught by the law that guards against it."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import navit_eqx
from data.plan import epoch_order, plan_epoch
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from navit_eqx import encoder as fast_encoder
from navit_eqx import kernels as fast_kernels
from navit_eqx import layers as fast_layers
from navit_eqx import model as fast_model
from navit_eqx import posembed as fast_posembed
from navit_eqx.rows import to_device
from navit_eqx.tasks import classify, distill, multi_label
from navit_eqx.weights.bridge import to_reference
from reference.packing import exact_fit
from reference.rows import Batch, Row, pack
from reference.tasks.classify import Targets
from tests.support import laws
from tests.support.laws import caught
from tests.support.strategies import CONFIG, I, Packed, T, backbone, initialize, model, tokens_of
from tests.support.tasks import TASKS, on_device, targets_of
from tests.support.tolerances import FLOAT64, assert_close

FAST = backbone()
PARAMS = to_reference(FAST)
MEANING = laws.backbone_of(PARAMS)


@pytest.fixture
def packed():
    """Three images, one with dropped tokens, and padding."""
    rng = np.random.default_rng(7)
    images = [tokens_of(rng, (2, 3)), tokens_of(rng, (3, 4), keep=5), tokens_of(rng, (1, 4))]
    return Packed(pack(images, [0, 1, 2], T, I), images)


@pytest.fixture
def forward():
    """Compiled anew for each test, since sabotage happens before tracing."""
    compiled = jax.jit(lambda row: FAST(row))
    return lambda row: np.asarray(compiled(to_device(row)))


@pytest.fixture
def pixel_gradient():
    compiled = jax.jit(jax.grad(lambda patches, row, slot: FAST(row._replace(patches=patches))[slot].sum()))
    return lambda row, slot: np.asarray(compiled(to_device(row).patches, to_device(row), slot))


def test_the_real_model_passes(forward, pixel_gradient, packed):
    laws.gives_each_image_its_meaning(forward, MEANING, packed)
    laws.does_not_see_order(forward, packed, [2, 0, 1])
    laws.ignores_padding(forward, packed, np.nan)
    laws.keeps_gradients_apart(pixel_gradient, packed)


def everybody(segment_ids):
    real = segment_ids > 0
    return real[..., :, None] & real[..., None, :]


def padding_is_image_one(segment_ids):
    return _same(jnp.maximum(segment_ids, 1))


def off_by_one(segment_ids):
    return _same(jnp.roll(segment_ids, 1, axis=-1))


def causal(segment_ids):
    return _same(segment_ids) & jnp.tril(jnp.ones((segment_ids.shape[-1],) * 2, bool))


def _same(segment_ids):
    return (segment_ids[..., :, None] == segment_ids[..., None, :]) & (segment_ids > 0)[..., None]


@pytest.mark.parametrize("mask", [everybody, padding_is_image_one, off_by_one, causal])
def test_a_wrong_attention_mask(forward, monkeypatch, packed, mask):
    monkeypatch.setattr(fast_kernels, "same_image", mask)
    caught(laws.gives_each_image_its_meaning, forward, MEANING, packed)


def test_a_leak_shows_in_the_gradient(pixel_gradient, monkeypatch, packed):
    monkeypatch.setattr(fast_kernels, "same_image", everybody)
    caught(laws.keeps_gradients_apart, pixel_gradient, packed)


def test_pooling_over_the_whole_row(forward, monkeypatch, packed):
    def all_real(segment_ids, slots):
        return jnp.broadcast_to(segment_ids > 0, (slots, len(segment_ids)))

    monkeypatch.setattr(fast_model, "slot_tokens", all_real)
    caught(laws.gives_each_image_its_meaning, forward, MEANING, packed)


def test_pooling_includes_padding(forward, monkeypatch, packed):
    real = fast_model.slot_tokens
    monkeypatch.setattr(fast_model, "slot_tokens", lambda ids, slots: real(jnp.maximum(ids, 1), slots))
    caught(laws.gives_each_image_its_meaning, forward, MEANING, packed)


def test_coordinates_exchanged(forward, monkeypatch, packed):
    monkeypatch.setattr(fast_posembed.Factorised, "__call__", _exchanged(fast_posembed.Factorised.__call__))
    caught(laws.gives_each_image_its_meaning, forward, MEANING, packed)


def _exchanged(call):
    return lambda self, coords, grids: call(self, coords[..., ::-1], grids[..., ::-1])


def test_positions_from_the_place_in_the_row(forward, packed):
    def shifted(row):
        place = np.stack([np.arange(T) // 6, np.arange(T) % 6], -1).astype(np.int32)
        return forward(row._replace(coords=place))

    caught(laws.gives_each_image_its_meaning, shifted, MEANING, packed)
    caught(laws.does_not_see_order, shifted, packed, [2, 1, 0])


def test_padding_not_zeroed_at_the_door(packed):
    class Careless(navit_eqx.NaViT):
        def __call__(self, row, gates=None):
            slot = jnp.maximum(row.segment_ids, 1) - 1
            grids = jnp.take_along_axis(row.grids, slot[..., None], axis=-2)
            x = self.embed_patches(row.patches, row.coords, grids)
            x = self.encoder(x, fast_kernels.same_image(row.segment_ids))
            none = jnp.zeros((len(row.grids), 0, x.shape[-1]))
            return self.pool(x, fast_model.slot_tokens(row.segment_ids, row.grids.shape[-2]), none)

    fields = {f.name: getattr(FAST, f.name) for f in dataclasses.fields(FAST)}
    careless = object.__new__(Careless)
    for name, value in fields.items():
        object.__setattr__(careless, name, value)
    run = jax.jit(lambda row: careless(row))
    caught(laws.ignores_padding, lambda row: np.asarray(run(to_device(row))), packed, np.nan)


def test_softmax_with_minus_infinity(forward, monkeypatch, packed):
    def careless(logits, mask):
        return jax.nn.softmax(jnp.where(mask, logits, -jnp.inf), axis=-1)

    monkeypatch.setattr("navit_eqx.attention.masked_softmax", careless)
    caught(laws.empty_slots_are_finite, forward, packed)


def test_no_norm_of_queries(forward, monkeypatch, packed):
    monkeypatch.setattr(fast_layers.LayerNorm, "__call__", lambda self, x: x)
    caught(laws.gives_each_image_its_meaning, forward, MEANING, packed)


# losses ---------------------------------------------------------------------------------------------


def losses_of(name):
    """A loss in the backend, compiled anew, and targets for three images of which all count."""
    module = model(task=TASKS[name])
    run = jax.jit(lambda batch: module.loss(batch, jr.key(0))[:2])

    def loss(batch):
        total, count = run(on_device(TASKS[name], batch))
        return float(total), int(count)

    return loss


def counted(name, packed):
    """Targets without an unlabelled image: each sabotage has something to spoil."""
    targets = targets_of(TASKS[name], packed.row, 0)
    if name == "softmax":
        targets = targets._replace(labels=np.array([1, 2, 3, -1, -1], np.int32))
    return targets


def obeys(name, packed):
    loss, targets = losses_of(name), counted(name, packed)
    laws.loss_is_the_sum_over_images(loss, packed, targets)
    laws.loss_does_not_see_order(loss, packed, targets, [2, 0, 1])


@pytest.mark.parametrize("name", ["softmax", "label sets", "distill"])
def test_the_real_losses_pass(name, packed):
    obeys(name, packed)


def over_all_slots(loss, real, weights=1.0):
    """An empty slot counts."""
    return (loss * jnp.asarray(weights, loss.dtype)).sum(), jnp.asarray(real.size, jnp.int32)


def mean_of_a_row(loss, real, weights=1.0):
    """Divided by the count of the row."""
    count = real.sum(dtype=jnp.int32)
    return jnp.where(real, loss * jnp.asarray(weights, loss.dtype), 0).sum() / jnp.maximum(count, 1).astype(
        loss.dtype
    ), count


@pytest.mark.parametrize("name, module", [("softmax", classify), ("label sets", classify), ("distill", distill)])
@pytest.mark.parametrize("wrong", [over_all_slots, mean_of_a_row])
def test_a_wrong_sum_over_images(monkeypatch, packed, name, module, wrong):
    monkeypatch.setattr(module, "sum_over_real", wrong)
    caught(obeys, name, packed)


@pytest.mark.parametrize("name, module", [("label sets", multi_label), ("distill", distill)])
def test_used_slots_off_by_one(monkeypatch, packed, name, module):
    honest = module.used_slots
    monkeypatch.setattr(module, "used_slots", lambda ids, slots: jnp.roll(honest(ids, slots), 1, axis=-1))
    caught(obeys, name, packed)


def test_targets_of_the_next_slot(packed):
    """What a task reads of a slot is of the image in it."""
    for name in ("softmax", "label sets", "distill"):
        honest = losses_of(name)

        def shifted(batch, honest=honest):
            return honest(batch._replace(targets=type(batch.targets)(*(np.roll(x, 1, 0) for x in batch.targets))))

        caught(laws.loss_is_the_sum_over_images, shifted, packed, counted(name, packed))


@pytest.mark.parametrize("sabotage", ["shifted", "exchanged", "lost"])
def test_labels_off_their_slots(packed, sabotage):
    labels = np.array([1, 2, 3, -1, -1], np.int32)
    right = Targets(labels.copy(), np.full(I, -1, np.int32), np.zeros(I))
    if sabotage == "shifted":
        labels = np.roll(labels, 1)
    elif sabotage == "exchanged":
        labels[[0, 1]] = labels[[1, 0]]
    else:
        labels[1] = -1
    laws.gives_slots_their_labels(Batch(packed.row, right), {0: 1, 1: 2, 2: 3})
    wrong = Batch(packed.row, right._replace(labels=labels))
    caught(laws.gives_slots_their_labels, wrong, {0: 1, 1: 2, 2: 3})


@pytest.mark.parametrize("sabotage", ["shifted", "exchanged", "a slot later"])
def test_a_teacher_off_its_slots(packed, sabotage):
    """The row that a teacher reads holds the images of the student's row in the same slots."""
    rng = np.random.default_rng(8)
    images = [tokens_of(rng, (1, 2)), tokens_of(rng, (2, 2)), tokens_of(rng, (1, 2))]
    row, teacher = packed.row, pack(images, [0, 1, 2], T, I)
    laws.stand_in_the_same_slots(row, teacher)
    ids, segment_ids = (leaf.copy() for leaf in (teacher.image_ids, teacher.segment_ids))
    if sabotage == "shifted":
        ids = np.roll(ids, 1)
    elif sabotage == "exchanged":
        ids[[0, 1]] = ids[[1, 0]]
    else:
        segment_ids[segment_ids > 0] += 1
    caught(laws.stand_in_the_same_slots, row, teacher._replace(image_ids=ids, segment_ids=segment_ids))


def test_a_mean_of_means():
    def sums(logits, labels):
        target = np.equal.outer(labels, np.arange(logits.shape[-1])).astype(float)
        total, count = classify.softmax_cross_entropy(*map(jnp.asarray, (logits, target, labels >= 0)))
        return float(total), int(count)

    def mean_over_images(logits, labels):
        total, count = sums(logits, labels)
        return total / max(count, 1)

    def mean_of_rows(logits, labels):
        return float(np.mean([mean_over_images(x, y) for x, y in zip(logits, labels)]))

    def mean_over_slots(logits, labels):
        return sums(logits, labels)[0] / labels.size

    logits = np.random.default_rng(0).normal(size=(2, 3, 4))
    labels = np.array([[1, 2, 3], [0, -1, -1]])
    laws.is_divided_once(mean_over_images, logits, labels)
    for wrong in (mean_of_rows, mean_over_slots):
        caught(laws.is_divided_once, wrong, logits, labels)


# packing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sabotage",
    [
        lambda rows: rows[:-1],
        lambda rows: [*rows, rows[0]],
        lambda rows: [rows[0] + rows[1], *rows[2:]],
        lambda rows: [*rows, []],
    ],
    ids=["loses the last row", "packs a row twice", "overfills", "empty row"],
)
def test_a_careless_packer(sabotage):
    lengths = [5, 9, 12, 3, 20, 7, 7, 18, 2]
    rows = exact_fit(lengths, T, I, 4)
    laws.packs_everything_once(rows, lengths, T, I)
    caught(laws.packs_everything_once, sabotage(rows), lengths, T, I)


@pytest.mark.parametrize(
    "sabotage",
    [
        lambda plans: [plans[0], plans[0]],
        lambda plans: plans[::-1],
        lambda plans: [plans[0], plans[1]._replace(image_ids=plans[1].image_ids[:-1])],
    ],
    ids=["a block twice", "another order", "loses a row"],
)
def test_careless_blocks(sabotage):
    sizes = np.full((30, 2), 160, np.int32)
    options = dict(seed=0, epoch=1, patch_size=(16, 16), resolution=Native(), dropping=Constant(), longest_side=20)
    plans = [plan_epoch(sizes, packing=Packing(200, 2), block=b, blocks=2, **options) for b in (0, 1)]
    laws.has_every_image_in_its_block(plans, epoch_order(30, 0, 1))
    caught(laws.has_every_image_in_its_block, sabotage(plans), epoch_order(30, 0, 1))


def test_shared_keys_between_layers(monkeypatch):
    fresh = initialize(CONFIG, 0)
    laws.layers_differ(np.asarray(fresh.encoder.blocks.attention.q))
    monkeypatch.setattr(fast_encoder.jr, "split", lambda key, n=2: jnp.stack([key] * n))
    alike = fast_encoder.Encoder(CONFIG, key=jr.key(0))
    caught(laws.layers_differ, np.asarray(alike.blocks.attention.q))


def test_assert_close_can_fail():
    caught(assert_close, np.ones(3), np.ones(3) + 1e-6, FLOAT64)
    caught(assert_close, np.ones(3), np.ones((3, 1)), FLOAT64)
    caught(assert_close, np.array([np.nan]), np.array([np.nan]), FLOAT64)
    caught(assert_close, np.array([1e-9]), np.array([0.0]), FLOAT64)


def test_annotations_are_checked():
    """The shapes in the annotations are assertions in every test."""
    from jaxtyping import TypeCheckError

    from reference.layers import linear

    with pytest.raises(TypeCheckError):
        linear({"w": np.ones((3, 2)), "b": np.zeros(2)}, np.ones((2, 3, 3)))
    with pytest.raises(TypeCheckError):
        eqx.filter_jit(fast_layers.matmul)(jnp.ones((2, 3), int), jnp.ones((3, 2)))


@pytest.mark.slow
def test_rows_strategy_reaches_the_corners():
    """Full rows, empty rows, single-token images, all slots used: the strategy produces each."""
    from hypothesis import find, settings

    from tests.support.strategies import rows

    quick = settings(max_examples=5000, database=None, deadline=None)
    for corner in (
        lambda p: (p.row.segment_ids > 0).all(),
        lambda p: not p.images,
        lambda p: any(len(i.patches) == 1 for i in p.images),
        lambda p: len(p.images) == I,
        lambda p: any(len(i.patches) < i.grid.prod() for i in p.images),
    ):
        assert isinstance(find(rows(), corner, settings=quick).row, Row)
