"""A class for every pixel: what a packed image gets is what it gets alone, with every decoder, on both sides."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from navit_eqx.rows import Batch, to_device
from navit_eqx.tasks import segment as fast
from reference.resize import resize_image
from reference.rows import pack
from reference.tasks import segment as slow
from tests.support.laws import caught
from tests.support.segment import (
    CLASSES,
    DECODERS,
    PATCH,
    encoded,
    params_of,
    segmenter,
    slow_sums,
    targets_of,
    whole_rows,
)
from tests.support.strategies import CONFIG, I, Packed, T, seeds, tokens_of
from tests.support.tasks import fast_loss, mean_gradient
from tests.support.tolerances import FLOAT64, GRADIENT64, assert_close

decoders = pytest.mark.parametrize("decoder", DECODERS)
few = settings(max_examples=8)


@eqx.filter_jit
def fast_logits(model, row, neighbors):
    """Logits of the pixels of a row."""
    logits = model.task.pixel_logits(model(row), neighbors)
    return jnp.broadcast_to(logits, (*logits.shape[:-3], *PATCH, CLASSES))


def logits_of(decoder, row) -> np.ndarray:
    """The same in the reference."""
    params = params_of(decoder)
    outputs = slow.predict(params["task"], encoded(params, row))
    return slow.pixel_logits(params["task"], outputs, slow.neighbors(row.coords, row.segment_ids, row.grids))


def on_device(row, targets) -> Batch:
    return Batch(to_device(row), fast.Targets(*map(jnp.asarray, targets)))


def gives_pixels_what_they_get_alone(logits, packed: Packed, alone) -> None:
    """The pixels of each image of a row have the logits of the image alone in a row."""
    together = logits(packed.row)
    for slot, image in enumerate(packed.images):
        own = alone(pack([image], [slot], T, I))[: len(image.coords)]
        assert_close(together[packed.row.segment_ids == slot + 1], own, FLOAT64)


@decoders
@few
@given(packed=whole_rows())
def test_packed_is_alone(decoder, packed):
    """In the backend as in the reference, alone."""
    neighbors = lambda row: jnp.asarray(slow.neighbors(row.coords, row.segment_ids, row.grids))
    got = lambda row: np.asarray(fast_logits(segmenter(decoder), to_device(row), neighbors(row)))
    for logits in (got, lambda row: logits_of(decoder, row)):
        gives_pixels_what_they_get_alone(logits, packed, lambda row: logits_of(decoder, row))


def upsamples_each_image(neighbors, upsample, packed: Packed, seed: int) -> None:
    """As if the grid of each image were resized by itself."""
    row = packed.row
    logits = np.random.default_rng(seed).normal(size=(T, CLASSES))
    pixels = np.asarray(upsample(logits, neighbors(row.coords, row.segment_ids, row.grids)))
    for slot, image in enumerate(packed.images):
        here = row.segment_ids == slot + 1
        (y, x), grid = image.coords.T, tuple(image.grid.tolist())
        picture = np.zeros((*grid, CLASSES))
        picture[y, x] = logits[here]
        size = (grid[0] * PATCH[0], grid[1] * PATCH[1])
        cut = resize_image(picture, size).reshape(grid[0], PATCH[0], grid[1], PATCH[1], CLASSES).swapaxes(1, 2)
        assert_close(pixels[here], cut[y, x], FLOAT64)


UPSAMPLE = {
    "reference": lambda logits, places: slow.upsample_in_row(logits, places, PATCH),
    "backend": lambda logits, places: fast.upsample_in_row(jnp.asarray(logits), jnp.asarray(places), PATCH),
}


@pytest.mark.parametrize("side", UPSAMPLE)
@few
@given(packed=whole_rows(), seed=seeds)
def test_upsampling_in_the_row_is_resizing(side, packed, seed):
    upsamples_each_image(slow.neighbors, UPSAMPLE[side], packed, seed)


def test_resizing_is_that_of_jax():
    picture = np.random.default_rng(0).normal(size=(2, 5, CLASSES))
    want = jax.image.resize(picture, (6, 20, CLASSES), "linear", antialias=False)
    assert_close(resize_image(picture, (6, 20)), want, FLOAT64)


def in_the_row(coords, segment_ids, grids):
    """Neighbors that do not end where the image ends: the tokens before and after in the row."""
    places = np.arange(T)[:, None, None] + np.array([-1, 0, 1])[:, None] * grids[0, 1] + np.array([-1, 0, 1])
    return np.clip(places, 0, T - 1).astype(np.int32)


def transposed(coords, segment_ids, grids):
    return slow.neighbors(coords, segment_ids, grids).swapaxes(1, 2)


@pytest.mark.parametrize("wrong", [in_the_row, transposed])
def test_wrong_neighbors_are_caught(wrong):
    images = [tokens_of(np.random.default_rng(0), grid) for grid in ((2, 3), (3, 4))]
    packed = Packed(pack(images, [0, 1], T, I), images)
    upsamples_each_image(slow.neighbors, UPSAMPLE["reference"], packed, 0)
    caught(upsamples_each_image, wrong, UPSAMPLE["reference"], packed, 0)


def test_a_neighbor_that_was_dropped_is_the_token_itself():
    image = tokens_of(np.random.default_rng(0), (2, 3))
    image = image._replace(patches=image.patches[[0, 2, 3]], coords=image.coords[[0, 2, 3]])
    row = pack([image], [0], T, I)
    found = slow.neighbors(row.coords, row.segment_ids, row.grids)
    assert found[0].tolist() == [[0, 0, 0], [0, 0, 0], [2, 2, 0]]
    assert (found[3:] == np.arange(3, T)[:, None, None]).all()


# losses ---------------------------------------------------------------------------------------------


@decoders
@few
@given(packed=st.tuples(whole_rows(), whole_rows()), seed=seeds)
def test_the_loss_of_a_batch_is_that_of_its_images(decoder, packed, seed):
    """Added up, whatever the row; in the backend as in the reference, and the count of labeled pixels."""
    parts = [(p, targets_of(p.row, seed + n)) for n, p in enumerate(packed)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(on_device(p.row, targets) for p, targets in parts))
    total, count, extras = fast_loss(segmenter(decoder), batch)
    want, labeled, right = 0.0, 0, 0
    for p, targets in parts:
        predicted = logits_of(decoder, p.row).argmax(-1)
        right += int(((predicted == targets.labels) & (targets.labels != slow.IGNORE)).sum())
        together, seen = slow_sums(decoder, p.row, targets)
        alone = 0.0
        for slot, image in enumerate(p.images):
            row = pack([image], [slot], T, I)
            labels = np.full_like(targets.labels, slow.IGNORE)
            labels[: len(image.coords)] = targets.labels[p.row.segment_ids == slot + 1]
            own = slow.Targets(labels, slow.neighbors(row.coords, row.segment_ids, row.grids))
            alone += slow_sums(decoder, row, own)[0]
        assert_close(alone, together, FLOAT64)
        want, labeled = want + together, labeled + seen
    assert int(count) == labeled and int(extras["pixel_accuracy"]) == right
    assert_close(total, want, FLOAT64)


@pytest.mark.parametrize("decoder", ["linear", *(pytest.param(d, marks=pytest.mark.slow) for d in ("pixels", "patch"))])
def test_padding_and_pixels_without_a_class_have_no_loss(decoder):
    """NaN in padding changes no bit of a gradient; a row without labels has a loss of 0."""
    image = tokens_of(np.random.default_rng(0), (3, 4))
    row = pack([image], [0], T, I)
    targets, pad = targets_of(row, 0), row.segment_ids == 0
    loud = row._replace(patches=np.where(pad[:, None], np.nan, row.patches))
    gradients = [mean_gradient(segmenter(decoder), on_device(r, targets)) for r in (row, loud)]
    for clean, other in zip(*map(jax.tree.leaves, gradients), strict=True):
        assert np.isfinite(clean).all()
        np.testing.assert_array_equal(clean, other)
    nothing = targets._replace(labels=np.full_like(targets.labels, slow.IGNORE))
    total, count, _ = fast_loss(segmenter(decoder), on_device(row, nothing))
    assert total == 0 and count == 0


def test_nothing_in_padding_reaches_the_head():
    """Attention may leave anything there."""
    row = pack([tokens_of(np.random.default_rng(0), (3, 4))], [0], T, I)
    tokens, pad = np.random.default_rng(1).normal(size=(T, CONFIG.width)), (row.segment_ids == 0)[:, None]
    head = segmenter("linear").task.outputs
    clean, spoiled = (head(jnp.asarray(np.where(pad, x, tokens)), to_device(row)) for x in (0, np.nan))
    np.testing.assert_array_equal(clean, spoiled)


def test_a_gradient_reaches_neighbors_of_the_image_alone():
    """A pixel at an edge depends on the tokens around it, and on no other image."""
    images = [tokens_of(np.random.default_rng(k), (2, 2)) for k in (0, 1)]
    row = pack(images, [0, 1], T, I)
    places = jnp.asarray(slow.neighbors(row.coords, row.segment_ids, row.grids))
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(T, CLASSES)))
    gradient = jax.grad(lambda x: fast.upsample_in_row(x, places, PATCH)[:4].sum())(logits)
    assert_close(gradient[:4], np.full((4, CLASSES), float(np.prod(PATCH))), GRADIENT64)
    assert (np.asarray(gradient)[4:] == 0).all()


# at the pixels of the photograph --------------------------------------------------------------------


@decoders
@few
@given(packed=whole_rows(), seed=seeds)
def test_native_logits_are_those_of_the_labels_at_their_size(decoder, packed, seed):
    """Where a photograph has as many pixels as its labels, the logits that the loss sees."""
    params, row = params_of(decoder)["task"], packed.row
    outputs = np.random.default_rng(seed).normal(size=(T, params["head"]["b"].shape[0]))
    neighbors = slow.neighbors(row.coords, row.segment_ids, row.grids)
    pixels = slow.pixel_logits(params, outputs, neighbors)
    for slot, image in enumerate(packed.images):
        here = row.segment_ids == slot + 1
        size = [n * p for n, p in zip(image.grid.tolist(), PATCH)]
        native = slow.native_logits(params, outputs[here], row.coords[here], image.grid.tolist(), size)
        host = segmenter(decoder).task.native_logits(outputs[here], row.coords[here], image.grid.tolist(), size)
        assert_close(host, native, FLOAT64)
        larger = [3 * size[0] + 1, 2 * size[1] - 1]
        how = (outputs[here], row.coords[here], image.grid.tolist(), larger)
        assert_close(segmenter(decoder).task.native_logits(*how), slow.native_logits(params, *how), FLOAT64)
        cut = native.reshape(size[0] // PATCH[0], PATCH[0], size[1] // PATCH[1], PATCH[1], CLASSES).swapaxes(1, 2)
        if decoder != "patch":  # whose logits are interpolated where they are compared, and not where they are trained
            assert_close(cut[image.coords[:, 0], image.coords[:, 1]], pixels[here], FLOAT64)
        else:
            assert native.shape == (*size, CLASSES)


def test_classes_are_compared_after_resizing():
    """Half of a pixel each of two classes is the class of the higher logit there, not one between."""
    params = {"decoder": "linear", "patch": (1, 1)}
    outputs = np.array([[4.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    coords = np.array([[0, 0], [0, 1]], np.int32)
    native = slow.native_logits(params, outputs, coords, (1, 2), (1, 8))
    assert native.argmax(-1).tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]
