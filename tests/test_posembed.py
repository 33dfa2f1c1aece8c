"""Position embeddings: the two sides agree, each kind is its formula, and sabotage is caught."""

import dataclasses
import json
from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.sources import Arrays
from harness.command import parse
from harness.config import Config, digits
from harness.loading import training_rows
from navit_eqx import posembed as fast
from navit_eqx.bridge import to_reference
from navit_eqx.config import Factorised, Fourier, Joint, ModelConfig, PosEmbed, Sinusoidal
from navit_eqx.config_json import ConfigError, decode, encode
from navit_eqx.optim import decay_groups
from navit_eqx.types import to_device
from reference import posembed as slow
from reference.patches import raster
from tests import laws
from tests.strategies import CONFIG, Packed, model, rows, seeds
from tests.tolerances import FINITE_DIFFERENCE, FLOAT64, assert_close

T, M, WIDTH = 24, 6, 24
PAPER = {
    "learned 1-D": Joint(4),
    "learned 2-D": Joint(M, "absolute", "learned"),
    "factorised sum": Factorised(M),
    "factorised stack": Factorised(M, combine="stack"),
    "factorised product": Factorised(M, combine="product"),
    "sinusoidal": Sinusoidal(),
    "fourier": Fourier(),
    "factorised fractional": Factorised(M, "fractional"),
    "sinusoidal fractional": Sinusoidal(M, "fractional"),
    "fourier fractional": Fourier(M, "fractional"),
}
MORE = {
    "factorised aspect": Factorised(M, "fractional_aspect", combine="product"),
    "factorised resized": Factorised(4, "fractional", "resized", "stack"),
    "joint aspect": Joint(4, "fractional_aspect"),
    "sinusoidal aspect": Sinusoidal(M, "fractional_aspect", "sum"),
    "fourier aspect": Fourier(M, "fractional_aspect"),
}
OTHER_AXES = ("learned 1-D", "factorised stack", "sinusoidal", "fourier fractional")
CONFIGS = {f"{name}, 2 axes": config for name, config in (PAPER | MORE).items()} | {
    f"{name}, {axes} axes": dataclasses.replace(PAPER[name], axes=axes) for name in OTHER_AXES for axes in (1, 3)
}


def module(config: PosEmbed, width: int = WIDTH):
    """An embedding in float64 whose parameters are all unlike."""
    rng = np.random.default_rng(0)
    like = eqx.filter_eval_shape(fast.build, config, width, key=jr.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), like)


MODULES = {name: module(config) for name, config in CONFIGS.items()}
PARAMS = {name: to_reference(layer) for name, layer in MODULES.items()}


def tokens(seed, axes, side=M):
    """Coordinates of tokens, each with a grid of its own."""
    rng = np.random.default_rng(seed)
    grids = rng.integers(1, side + 1, (T, axes)).astype(np.int32)
    return rng.integers(0, grids).astype(np.int32), grids


def whole(grid):
    """Every token of one image."""
    coords = raster(grid)
    return coords, np.broadcast_to(np.array(grid, np.int32), coords.shape)


def embed(name, coords, grids):
    """In the reference."""
    return slow.posembed(PARAMS[name], coords, grids)


@eqx.filter_jit
def run(layers, coords, grids, weights):
    """Of each embedding the value, and the gradient of Σ weights · value."""

    def total(layers):
        values = {name: layer(coords, grids) for name, layer in layers.items()}
        return sum((weights * value).sum() for value in values.values()), values

    gradients, values = eqx.filter_grad(total, has_aux=True)(layers)
    return values, gradients


def backend(coords, grids, weights=None):
    """Values and gradients of all embeddings for as many axes, by name."""
    axes = coords.shape[-1]
    weights = np.zeros((T, WIDTH)) if weights is None else weights
    layers = {name: layer for name, layer in MODULES.items() if CONFIGS[name].axes == axes}
    return run(layers, *map(jnp.asarray, (coords, grids, weights)))


def slope(name, parameter, direction, coords, grids, weights):
    """Central difference of Σ weights · value in the reference."""
    ends = []
    for step in (1e-5, -1e-5):
        params = PARAMS[name] | {parameter: PARAMS[name][parameter] + step * direction}
        ends.append((weights * slow.posembed(params, coords, grids)).sum())
    return (ends[0] - ends[1]) / 2e-5


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
    moved, some = rng.permutation(T), rng.permutation(T)[: 1 + seed % T]
    together, mixed = backend(coords, grids)[0], backend(coords[moved], grids[moved])[0]
    for name in together:
        assert_close(mixed[name], together[name][moved], FLOAT64)
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
    assert_close(first @ second, np.cos((pair[0] - pair[1]) @ frequencies).sum(), 1e-9)
    moved = slow.waves(frequencies, pair + shift)
    assert_close(moved[0] @ moved[1], first @ second, 1e-9)


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
        ends = config.coordinate == "absolute" and name.startswith(("learned", "factorised"))
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
        config = dataclasses.replace(digits(), model=dataclasses.replace(digits().model, posembed=posembed))
        left.append([index for index, _ in training_rows(config, source).epochs.planned(0).left_out])
    assert left == [[2], [], []]


@pytest.mark.parametrize("name", ["factorised sum, 2 axes", "learned 1-D, 2 axes", "fourier, 2 axes"])
def test_axes_that_do_not_match_are_refused(name):
    coords, grids = tokens(0, 3)
    with pytest.raises((ValueError, TypeError)):
        embed(name, coords, grids)
    with pytest.raises((ValueError, TypeError)):
        eqx.filter_eval_shape(MODULES[name], jnp.asarray(coords), jnp.asarray(grids))


# The whole model ---------------------------------------------------------------------------------------


class OneOf(eqx.Module):
    """One embedding of several, by a number: one program for all."""

    layers: list
    which: jax.Array

    def __call__(self, coords, grids):
        return jnp.stack([layer(coords, grids) for layer in self.layers])[self.which]


LAYERS = [module(config, CONFIG.width) for config in PAPER.values()]


def with_positions(posembed):
    """The model of the tests with another position embedding."""
    return eqx.tree_at(lambda m: m.posembed, model(), posembed)


jitted = eqx.filter_jit(lambda which, row: with_positions(OneOf(LAYERS, which))(row))


def forward(name):
    which = jnp.asarray(list(PAPER).index(name))
    return lambda row: np.asarray(jitted(which, to_device(row)))


def params_of(name):
    return to_reference(model()) | {"posembed": to_reference(LAYERS[list(PAPER).index(name)])}


@pytest.mark.parametrize("name", PAPER)
@given(packed=rows(least=1), seed=seeds)
@settings(max_examples=5)
def test_packed_is_alone(name, packed, seed):
    laws.gives_each_image_its_meaning(forward(name), params_of(name), packed)
    laws.does_not_see_order(forward(name), packed, np.random.default_rng(seed).permutation(len(packed.images)).tolist())


# Configuration -----------------------------------------------------------------------------------------


def test_every_kind_survives_json():
    for config in CONFIGS.values():
        saved = json.loads(json.dumps(encode(ModelConfig(width=48, heads=2, posembed=config))))
        assert decode(ModelConfig, saved).posembed == config


def test_every_kind_can_be_chosen_on_the_command_line():
    choose = lambda *words: parse(Config, default=digits(), args=words).model.posembed
    assert choose() == choose("--model.posembed.size", "40") == Factorised(40)
    assert choose("--model.posembed", "joint", "--model.posembed.size", "7") == Joint(7)
    assert choose("--model.posembed=fourier", "--model.posembed.scale=0.5") == Fourier(scale=0.5)
    assert choose("--rows", "8", "--model.posembed", "Sinusoidal") == Sinusoidal()


@pytest.mark.parametrize("words", [["--model.posembed", "learned"], ["--model.posembed"]])
def test_an_unknown_kind_is_explained(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(Config, default=digits(), args=words)
    assert stopped.value.code == 2 and "factorised, joint, sinusoidal, fourier" in capsys.readouterr().err


@pytest.mark.parametrize(
    "posembed, message",
    [
        (Factorised(0), "posembed.size must be at least 1"),
        (Joint(axes=0), "posembed.axes must be at least 1"),
        (Factorised(combine="stack", axes=3), "multiple of 3"),
        (Sinusoidal(axes=3), "multiple of 6"),
        (Fourier(), "multiple of 2"),
    ],
)
def test_wrong_sizes_are_named(posembed, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(width=25, heads=1, posembed=posembed)


def test_positions_do_not_decay():
    for layer in LAYERS:
        assert set(jax.tree.leaves(decay_groups(with_positions(layer)).posembed)) <= {"none"}
    assert "body" in jax.tree.leaves(decay_groups(model()))


def test_fresh_tables_are_near_their_neutral_value():
    for combine, centre in (("sum", 0), ("product", 1)):
        tables = np.asarray(fast.build(Factorised(64, combine=combine), 64, key=jr.key(0)).tables)
        assert abs(tables.mean() - centre) < 1e-3 and 0.019 < tables.std() < 0.021


# Sabotage ----------------------------------------------------------------------------------------------


def caught(law, *args):
    with pytest.raises(AssertionError):
        law(*args)


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


@pytest.fixture
def packed():
    """Two images with dropped tokens: the last row and column of the first are gone."""
    from reference.packing import pack
    from reference.types import Tokens
    from tests.strategies import I, tokens_of

    rng = np.random.default_rng(3)
    image = tokens_of(rng, (3, 4))
    stays = (image.coords < image.grid - 1).all(-1)
    images = [Tokens(image.patches[stays], image.coords[stays], image.grid), tokens_of(rng, (2, 5), keep=7)]
    return Packed(pack(images, [1, 2], [0, 1], T, I), images)


@pytest.mark.parametrize("name", ["factorised fractional", "learned 1-D"])
def test_wrong_positions_in_a_row(packed, name):
    """Grids after dropping instead of before, and coordinates exchanged."""
    right, params = forward(name), params_of(name)

    def after_dropping(row):
        grids = row.grids.copy()
        for slot in range(len(packed.images)):
            grids[slot] = row.coords[row.segment_ids == slot + 1].max(0) + 1
        return right(row._replace(grids=grids))

    def exchanged(row):
        return right(row._replace(coords=row.coords[:, ::-1].copy()))

    laws.gives_each_image_its_meaning(right, params, packed)
    for wrong in (after_dropping, exchanged):
        caught(laws.gives_each_image_its_meaning, wrong, params, packed)
