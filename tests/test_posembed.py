"""Position embeddings: the two sides agree, each kind is its formula, and sabotage is caught."""

import dataclasses
from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.sources.source import Arrays
from data.tasks import TASKS
from harness.digit_presets import large_digits
from harness.run.loading import training_rows
from navit_eqx.config import Factorised, Fourier, Joint, Sinusoidal
from navit_eqx.weights.bridge import to_reference
from reference import posembed as slow
from tests.support.laws import caught
from tests.support.positions import CONFIGS, MODULES, PARAMS, WIDTH, M, T, backend, embed, module, slope, tokens, whole
from tests.support.strategies import seeds
from tests.support.tolerances import CANCELLED64, FINITE_DIFFERENCE, FLOAT64, assert_close

# Reference and backend ---------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [1, 2, 3])
@given(seed=seeds)
@settings(max_examples=8)
def test_both_sides_agree(axes, seed):
    """Values, and gradients along a random direction against central differences."""
    rng = np.random.default_rng(seed)
    coords, grids = tokens(seed, axes)
    weights = rng.normal(size=(T, WIDTH))
    values, gradients = backend(coords, grids, weights)
    for name, value in values.items():
        assert_close(value, embed(name, coords, grids), FLOAT64)
        for parameter, gradient in to_reference(gradients[name]).items():
            if isinstance(gradient, np.ndarray):
                direction = rng.normal(size=gradient.shape)
                error = (gradient * direction).sum() - slope(name, parameter, direction, coords, grids, weights)
                assert abs(error) <= FINITE_DIFFERENCE * max(1.0, float(np.linalg.norm(gradient))), name


@given(seed=seeds)
@settings(max_examples=5)
def test_a_token_has_its_position_alone(seed):
    """Order and company of tokens change nothing: the embedding of some tokens is some of the embedding."""
    coords, grids = tokens(seed, 2)
    rng = np.random.default_rng(seed)
    order, some = rng.permutation(T), rng.permutation(T)[: 1 + seed % T]
    together, mixed = backend(coords, grids)[0], backend(coords[order], grids[order])[0]
    for name in together:
        assert_close(mixed[name], together[name][order], FLOAT64)
        assert_close(embed(name, coords[some], grids[some]), together[name][some], FLOAT64)


# Each kind is its formula ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "combine, join", [("sum", np.add), ("product", np.multiply), ("stack", lambda *p: np.hstack(p))]
)
def test_factorised_is_an_explicit_loop(combine, join):
    params = to_reference(module(Factorised(M, combine=combine)))
    rows, columns = params["tables"]
    assert rows.shape == (M, WIDTH // 2 if combine == "stack" else WIDTH)
    coords, grids = whole((4, 5))
    want = [join(rows[y], columns[x]) for y in range(4) for x in range(5)]
    assert_close(slow.factorised(params, coords, grids), want, FLOAT64)


def test_joint_is_a_lookup():
    """Pix2Struct's table by (y, x); a ViT's by raster index on its own grid."""
    coords, grids = whole((4, 5))
    params = to_reference(module(Joint(M, "absolute", "learned")))
    assert_close(slow.joint(params, coords, grids), params["table"][coords[:, 0], coords[:, 1]], FLOAT64)
    vit = to_reference(module(Joint(5)))
    assert_close(slow.joint(vit, *whole((5, 5))), vit["table"].reshape(25, WIDTH), FLOAT64)


def test_sinusoidal_is_its_formula():
    params = to_reference(module(Sinusoidal()))
    coords, grids = whole((2, 3))
    width = WIDTH // 2
    slow_down = [10_000 ** (-2 * i / width) for i in range(width // 2)]
    axis = lambda p: [np.sin(p * f) for f in slow_down] + [np.cos(p * f) for f in slow_down]
    want = [axis(y) + axis(x) for y in range(2) for x in range(3)]
    assert_close(slow.sinusoidal(params, coords, grids), want, FLOAT64)


@given(seed=seeds, shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
@settings(max_examples=20)
def test_waves_see_differences_alone(seed, shift):
    """⟨p(u), p(v)⟩ = Σ_k cos((u − v) · frequency_k): the same wherever the pair stands."""
    rng = np.random.default_rng(seed)
    frequencies, pair = rng.normal(size=(2, 5)), rng.normal(size=(2, 2))
    first, second = slow.waves(frequencies, pair)
    assert_close(first @ second, np.cos((pair[0] - pair[1]) @ frequencies).sum(), CANCELLED64)
    moved = slow.waves(frequencies, pair + shift)
    assert_close(moved[0] @ moved[1], first @ second, CANCELLED64)


GRIDS = ((1, 9), (2, 3), (4, 4), (5, 3))  # of a table of 4 x 4: smaller, larger, both


@lru_cache
def resized(name, grid):
    """The whole table of a grid, by JAX."""
    with jax.numpy_dtype_promotion("standard"):
        return np.asarray(jax.image.resize(PARAMS[name]["table"], (*grid, WIDTH), "linear", antialias=True))


def resizes_its_table(embed, name, around):
    """A token gets what resizing the whole table to the grid `around` its image and picking its place would give."""
    for grid in GRIDS:
        coords, grids = whole(grid)
        assert_close(embed(name, coords, grids), resized(name, around(grid))[tuple(coords.T)], FLOAT64)


def test_the_table_is_resized_to_the_image():
    """ViT's way; with aspect kept, to the square around the image, of which the image takes a corner."""
    resizes_its_table(embed, "learned 1-D, 2 axes", lambda grid: grid)
    resizes_its_table(embed, "joint aspect, 2 axes", lambda grid: (max(grid),) * 2)


def test_the_backend_resizes_all_images_of_a_row_at_once():
    """Images of several grids, shuffled, in one call."""
    coords, grids = (np.concatenate(parts) for parts in zip(*map(whole, ((2, 3), (5, 2), (1, 8)))))
    order = np.random.default_rng(0).permutation(T)
    values, _ = backend(coords[order], grids[order])
    name = "learned 1-D, 2 axes"
    want = [resized(name, tuple(grids[t].tolist()))[tuple(coords[t])] for t in order]
    assert_close(values[name], want, FLOAT64)


def test_resizing_per_axis_is_resizing_each_table():
    name = "factorised resized, 2 axes"
    coords, grids = whole((2, 7))
    with jax.numpy_dtype_promotion("standard"):
        rows, columns = (
            np.asarray(jax.image.resize(table, (n, WIDTH // 2), "linear", antialias=True))
            for table, n in zip(PARAMS[name]["tables"], (2, 7))
        )
    assert_close(embed(name, coords, grids), np.hstack([rows[coords[:, 0]], columns[coords[:, 1]]]), FLOAT64)


# Coordinates -------------------------------------------------------------------------------------------


def does_not_see_scale(name, factors, seed):
    """The middle patch of each block of k patches in a grid k n has the position of the block in a grid n."""
    coords, grids = tokens(seed, len(factors))
    k = np.array(factors, np.int32)
    assert_close(embed(name, k * coords + k // 2, k * grids), embed(name, coords, grids), FLOAT64)


odd = st.sampled_from([1, 3, 5])


@given(seed=seeds, k=st.tuples(odd, odd))
@settings(max_examples=10)
def test_fractions_do_not_see_scale(seed, k):
    """That of each side by itself (fractional), or of all sides together (fractional_aspect)."""
    for name in ("factorised fractional", "sinusoidal fractional", "fourier fractional"):
        does_not_see_scale(f"{name}, 2 axes", k, seed)
    for name in ("factorised aspect", "sinusoidal aspect", "fourier aspect"):
        does_not_see_scale(f"{name}, 2 axes", (k[0], k[0]), seed)


@pytest.mark.parametrize("name, k", [("sinusoidal", (3, 3)), ("fourier aspect", (1, 3)), ("learned 1-D", (3, 3))])
def test_others_see_scale(name, k):
    """Absolute positions do, kept aspects see a stretch, and an antialiased table sees how large patches are."""
    caught(does_not_see_scale, f"{name}, 2 axes", k, 0)


@given(seed=seeds)
def test_the_longest_side_decides_where_aspect_is_kept(seed):
    """Images whose longest side is M read absolute positions; squares, fractional ones."""
    coords, grids = tokens(seed, 2)
    grids[:, seed % 2] = M
    absolute, aspect = (slow.locate(kind, coords, grids, M)[0] for kind in ("absolute", "fractional_aspect"))
    assert_close(aspect, absolute, FLOAT64)
    square = np.repeat(grids.min(-1, keepdims=True), 2, axis=-1)
    fractional, aspect = (slow.locate(kind, coords, square, 10)[0] for kind in ("fractional", "fractional_aspect"))
    assert_close(aspect, fractional, FLOAT64)


def test_coordinates_are_those_of_the_figure():
    """Patches of 32 px, images of 96 x 128 and 224 x 160 (width x height): where the last corner lies.   [fig. 16]"""
    for grid, corner in (((4, 3), (1.0, 0.75)), ((5, 7), (5 / 7, 1.0))):
        coords, grids = np.array([grid]) - 1, np.array([grid])
        u, step = slow.locate("fractional_aspect", coords, grids, 1)
        assert_close(u[0] + 0.5 + step[0] / 2, corner, FLOAT64)
        u, _ = slow.locate("absolute", coords, grids, 64)
        assert_close(u, coords, FLOAT64)


# Beyond the table --------------------------------------------------------------------------------------


def test_the_longest_side_has_positions_and_the_next_has_none():
    """Learned tables with absolute coordinates end, with NaN; everything else is defined everywhere."""
    for name, config in CONFIGS.items():
        side = min(config.longest_side, 100_000)
        last = np.full((1, config.axes), side - 1, np.int32)
        next = last.copy()
        next[0, -1] += 1
        assert np.isfinite(embed(name, last, last + 1)).all(), name
        ends = name.startswith(("learned", "factorised")) and config.coordinate == "absolute"
        assert np.isnan(embed(name, next, next + 1)).any() == ends, name
        assert (config.longest_side < 1000) == ends, name


def test_positions_beyond_the_table_are_nan_in_the_backend():
    coords, grids = tokens(0, 2)
    coords[:3] = [M - 1, M - 1], [0, M], [10_000, 0]
    values, _ = backend(coords, grids)
    for name in ("factorised sum, 2 axes", "learned 2-D, 2 axes", "factorised stack, 2 axes"):
        np.testing.assert_array_equal(np.isnan(values[name]).any(-1), np.isin(np.arange(T), (1, 2)))


def test_the_plan_asks_the_embedding_where_positions_end():
    source = Arrays([np.zeros((8 * side, 40, 3), np.uint8) for side in (3, 4, 9)], np.zeros(3, np.int32), ("",))
    left = []
    for posembed in (Factorised(5), Factorised(5, "fractional"), Fourier()):
        config = dataclasses.replace(large_digits(), model=dataclasses.replace(large_digits().model, posembed=posembed))
        left.append(
            [index for index, _ in training_rows(config, source, TASKS["Classify"]()).epochs.planned(0).left_out]
        )
    assert left == [[2], [], []]


@pytest.mark.parametrize("name", ["factorised sum, 2 axes", "learned 1-D, 2 axes", "fourier, 2 axes"])
def test_axes_that_do_not_match_are_refused(name):
    coords, grids = tokens(0, 3)
    with pytest.raises((ValueError, TypeError)):
        embed(name, coords, grids)
    with pytest.raises((ValueError, TypeError)):
        eqx.filter_eval_shape(MODULES[name], jnp.asarray(coords), jnp.asarray(grids))


# Sabotage ----------------------------------------------------------------------------------------------


def faded(u, size, radius):
    """Not normalised: fades at the edges."""
    return np.maximum(0, 1 - np.abs(u[:, None] - np.arange(size)) / radius[:, None])


def by_corners(coordinate, coords, grids, size):
    """First patch on the first entry, last on the last."""
    return coords * (size - 1) / np.maximum(grids - 1, 1), size / grids


@pytest.mark.parametrize(
    "target, wrong",
    [
        ("FEATURES.resized", slow.learned),
        ("tent", faded),
        ("locate", by_corners),
        ("COORDINATES.fractional", slow.fractional_aspect),
    ],
    ids=["no antialias", "not normalised", "corners aligned", "resized to a square"],
)
def test_a_wrong_resize(monkeypatch, target, wrong):
    sabotage(monkeypatch, target, wrong)
    caught(resizes_its_table, embed, "learned 1-D, 2 axes", lambda grid: grid)


def agrees(name):
    coords, grids = tokens(0, 2)
    assert_close(backend(coords, grids)[0][name], embed(name, coords, grids), FLOAT64)


@pytest.mark.parametrize(
    "target, wrong, name",
    [
        ("COMBINE.stack", lambda parts: slow.stack(parts[::-1]), "factorised stack"),
        ("COMBINE.product", slow.add, "factorised product"),
        ("COORDINATES.fractional_aspect", slow.fractional, "fourier aspect"),
        ("COORDINATES.fractional", slow.absolute, "sinusoidal fractional"),
        ("geometric", lambda width: slow.WAVELENGTHS ** (-np.arange(width // 2)[None] / width), "sinusoidal"),
    ],
    ids=["halves exchanged", "sum for product", "aspect lost", "absolute", "half the frequencies"],
)
def test_a_wrong_composition(monkeypatch, target, wrong, name):
    agrees(f"{name}, 2 axes")
    sabotage(monkeypatch, target, wrong)
    caught(agrees, f"{name}, 2 axes")


def sabotage(monkeypatch, target, wrong):
    """Replace a function of the reference, or an entry of one of its dicts."""
    name, _, key = target.partition(".")
    if key:
        monkeypatch.setitem(getattr(slow, name), key, wrong)
    else:
        monkeypatch.setattr(slow, name, wrong)
