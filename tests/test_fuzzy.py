"""Fuzzy positions: moved in training, exact in evaluation, and not changed by packing."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings

from data.sampling.merge import Merge
from harness.adaptive import fuzzy as resolver
from navit_eqx import fuzzy as fast
from navit_eqx.config import Factorised, Fuzzy, Levels, Local, NoPositions, Rope, Sinusoidal, Stages, Table
from navit_eqx.errors import ConfigError
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Segment
from reference import fuzzy as slow
from reference.hierarchy import in_blocks
from reference.rows import Batch, Tokens, pack
from tests.support.strategies import CONFIG, TASK, I, T, model, seeds, tokens_of
from tests.support.tasks import on_device, targets_of
from tests.support.tolerances import EXACT, assert_close
from tests.test_resolve import config_of, images_for

STRONG = Fuzzy(0.49, 0.3, 2.0)
WAVES = replace(CONFIG, posembed=Sinusoidal(6))
moved = jax.jit(lambda row, key: fast.fuzzy_row(row, STRONG, key).coords)


def images(seed: int) -> list[Tokens]:
    rng = np.random.default_rng(seed)
    return [tokens_of(rng, grid, keep) for grid, keep in (((2, 3), None), ((3, 4), 7), ((1, 5), 3))]


def coords_of(row, key) -> dict[tuple[int, ...], np.ndarray]:
    """Moved coordinates by image id and cell."""
    got = np.asarray(moved(to_device(row), key))
    return {
        (int(row.image_ids[slot - 1]), *row.coords[t].tolist()): got[t]
        for t, slot in enumerate(row.segment_ids)
        if slot
    }


@given(seed=seeds)
@settings(max_examples=5)
def test_packing_order_and_dropping_do_not_change_moves(seed):
    found, key = images(seed), jr.key(seed % 99)
    here = coords_of(pack(found, [4, 7, 9], T, I), key)
    there = coords_of(pack([found[2], found[0]], [9, 4], T, I), key)
    fewer = found[1]._replace(patches=found[1].patches[::2], coords=found[1].coords[::2])
    alone = coords_of(pack([fewer], [7], T, I), key)
    for other in (there, alone):
        for place, value in other.items():
            assert_close(value, here[place], EXACT)
    assert all(not np.array_equal(here[place], value) for place, value in coords_of(
        pack(found, [4, 7, 9], T, I), jr.fold_in(key, 1)).items())  # fmt: skip
    assert len({tuple(value.tolist()) for value in here.values()}) == len(here)


@given(seed=seeds)
@settings(max_examples=5)
def test_both_sides_move_alike(seed):
    rng = np.random.default_rng(seed)
    image = tokens_of(rng, (3, 4))
    grids = np.broadcast_to(image.grid, image.coords.shape)
    noise, shift, scale = slow.sample_moves(rng, (12, 2), 0.5, 0.3, 2.0)
    assert abs(noise).max() <= 0.5 and abs(shift).max() <= 0.3 and 0.5 <= scale.item() <= 2
    want = slow.move(image.coords, grids, noise, shift, scale)
    wide = [np.broadcast_to(x, (12, x.shape[1])) for x in (shift, scale)]
    got = fast.move(*map(jnp.asarray, (image.coords, grids, noise, *wide)))
    assert_close(np.asarray(got), want, EXACT)
    nothing = slow.move(image.coords, grids, 0 * noise, 0 * shift, np.ones((1, 1)))
    assert_close(nothing, image.coords, EXACT)
    center = slow.move(grids / 2 - 0.5, grids, 0 * noise, 0 * shift, scale)  # rescaling keeps the center
    assert_close(center, grids / 2 - 0.5, EXACT)


def test_noise_is_as_wide_as_said_and_stays_within_the_image():
    row = to_device(pack([tokens_of(np.random.default_rng(0), (4, 6))], [3], T, I))
    drawn = jax.vmap(lambda key: fast.sample_moves(key, jnp.full(T, 3), row.coords, STRONG))(jr.split(jr.key(0), 200))
    for values, width in zip(drawn[:2], (0.49, 0.3), strict=True):
        assert 0.95 * width < np.abs(values).max() <= width and abs(float(values.mean())) < 0.05 * width
    assert 1.9 < drawn[2].max() <= 2 and 0.5 <= drawn[2].min() < 0.53
    assert (np.ptp(np.asarray(drawn[1]), axis=1) == 0).all() and np.ptp(np.asarray(drawn[0]), axis=1).min() > 0


def test_the_farthest_move_stays_within_a_table():
    """In float32, for every side and every length of a table; half a patch would not, and NaN would end a step."""
    n, size = np.meshgrid(np.arange(1, 257, dtype=np.float32), np.arange(1, 129, dtype=np.float32))
    last = lambda jitter: (n - 1 + np.float32(jitter) + np.float32(0.5)) * (size / n) - np.float32(0.5)
    assert (last(Fuzzy().jitter) <= size - 0.5).all() and (last(0.5) > size - 0.5).any()
    with pytest.raises(ConfigError, match="jitter"):
        Fuzzy(0.5)


@pytest.mark.parametrize("stages", [None, Stages((1, 1))])
def test_training_sees_moves_and_evaluation_none(stages):
    """A loss depends on the key; width zero is the exact loss; predictions know nothing of it. Learned tables too."""
    fuzzy, exact = (replace(CONFIG, stages=stages, fuzzy=how) for how in (Fuzzy(), None))
    subject, plain = model(config=fuzzy, task=TASK), model(config=exact, task=TASK)
    still = eqx.tree_at(
        lambda m: m.backbone, subject, model(config=replace(fuzzy, fuzzy=Fuzzy(0.0)), task=TASK).backbone
    )
    found = [tokens_of(np.random.default_rng(k), grid) for k, grid in enumerate(((2, 4), (4, 2)))]
    packed = pack([in_blocks(image, 1) for image in found] if stages else found, range(2), T, I)
    batch = on_device(TASK, Batch(packed, targets_of(TASK, packed, 3)))
    row = batch.row
    loss = eqx.filter_jit(lambda m, key: m.loss(batch, key)[0])
    first, again, other = (float(loss(subject, jr.key(k))) for k in (0, 0, 1))
    assert first == again != other and np.isfinite([first, other]).all()
    assert_close(np.asarray(loss(still, jr.key(0))), np.asarray(loss(plain, jr.key(0))), EXACT)
    np.testing.assert_array_equal(eqx.filter_jit(subject)(row), eqx.filter_jit(plain)(row))


@pytest.mark.parametrize(
    "change, said",
    [
        ({"local": Local()}, "model.fuzzy moves .* model.local"),
        ({"levels": Levels()}, "model.fuzzy moves .* model.levels"),
        ({"posembed": Table(6)}, "imported towers"),
        ({"posembed": Factorised(6)}, "leave a learned table"),
    ],
)
def test_what_needs_whole_coordinates_is_refused(change, said):
    assert replace(WAVES, fuzzy=STRONG) and replace(WAVES, posembed=NoPositions(), rope=Rope(), fuzzy=STRONG)
    with pytest.raises(ConfigError, match=said):
        replace(WAVES, **{"fuzzy": STRONG, **change})


def test_a_run_that_needs_whole_coordinates_is_refused():
    config = config_of()
    config = replace(config, model=replace(config.model, fuzzy=Fuzzy()))
    assert resolver(config, images_for(config)) == (config, [])
    with pytest.raises(ConfigError, match="every patch"):
        resolver(replace(config, task=Segment()), images_for(config))
    with pytest.raises(ConfigError, match="data.merge"):
        resolver(replace(config, data=replace(config.data, merge=Merge())), images_for(config))
