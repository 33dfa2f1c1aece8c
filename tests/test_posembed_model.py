"""Position embeddings in a whole model: what a packed row means, and how they are configured."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings

from harness.cli import parse
from harness.config import Config
from harness.digit_presets import large_digits
from navit_eqx import posembed as fast
from navit_eqx.config import Factorised, Fourier, Joint, ModelConfig, Sinusoidal
from navit_eqx.errors import ConfigError
from navit_eqx.rows import to_device
from navit_eqx.serialize import decode, encode
from navit_eqx.training.optim import decay_groups
from navit_eqx.weights.bridge import to_reference
from reference.rows import Tokens, pack
from tests.support import laws
from tests.support.laws import caught
from tests.support.positions import CONFIGS, PAPER, module
from tests.support.strategies import CONFIG, I, Packed, T, backbone, model, rows, seeds, tokens_of

# The whole model ---------------------------------------------------------------------------------------


class OneOf(eqx.Module):
    """One embedding of several, by a number: one program for all."""

    layers: list
    which: jax.Array

    def __call__(self, coords, grids):
        return jnp.stack([layer(coords, grids) for layer in self.layers])[self.which]


LAYERS = [module(config, CONFIG.width) for config in PAPER.values()]


def with_positions(posembed):
    """The backbone of the tests with another position embedding."""
    return eqx.tree_at(lambda m: m.posembed, backbone(), posembed)


jitted = eqx.filter_jit(lambda which, row: with_positions(OneOf(LAYERS, which))(row))


def forward(name):
    which = jnp.asarray(list(PAPER).index(name))
    return lambda row: np.asarray(jitted(which, to_device(row)))


def meaning(name):
    return laws.backbone_of(to_reference(backbone()) | {"posembed": to_reference(LAYERS[list(PAPER).index(name)])})


@pytest.mark.parametrize("name", PAPER)
@given(packed=rows(least=1), seed=seeds)
@settings(max_examples=5)
def test_packed_is_alone(name, packed, seed):
    laws.gives_each_image_its_meaning(forward(name), meaning(name), packed)
    laws.does_not_see_order(forward(name), packed, np.random.default_rng(seed).permutation(len(packed.images)).tolist())


# Configuration -----------------------------------------------------------------------------------------


def test_every_kind_survives_json():
    for config in CONFIGS.values():
        saved = json.loads(json.dumps(encode(ModelConfig(width=48, heads=2, posembed=config))))
        assert decode(ModelConfig, saved).posembed == config


def test_every_kind_can_be_chosen_on_the_command_line():
    choose = lambda *words: parse(Config, default=large_digits(), args=words).model.posembed
    assert choose() == choose("--model.posembed.size", "40") == Factorised(40)
    assert choose("--model.posembed", "joint", "--model.posembed.size", "7") == Joint(7)
    assert choose("--model.posembed=fourier", "--model.posembed.scale=0.5") == Fourier(scale=0.5)
    assert choose("--rows", "8", "--model.posembed", "Sinusoidal") == Sinusoidal()


@pytest.mark.parametrize("words", [["--model.posembed", "learned"], ["--model.posembed"]])
def test_an_unknown_kind_is_explained(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(Config, default=large_digits(), args=words)
    assert stopped.value.code == 2 and "factorised, joint, sinusoidal, fourier" in capsys.readouterr().err


@pytest.mark.parametrize(
    "posembed, message",
    [
        (lambda: Factorised(0), "posembed.size=0 must be in"),
        (lambda: Joint(axes=0), "posembed.axes=0 must be in"),
        (lambda: Factorised(combine="stack", axes=3), "divisible by 3"),
        (lambda: Sinusoidal(axes=3), "divisible by 6"),
        (lambda: Fourier(), "divisible by 2"),
    ],
)
def test_wrong_sizes_are_named(posembed, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(width=25, heads=1, posembed=posembed())


def test_positions_do_not_decay():
    for layer in LAYERS:
        groups = decay_groups(eqx.tree_at(lambda m: m.backbone.posembed, model(), layer))
        assert set(jax.tree.leaves(groups.backbone.posembed)) <= {"none"}
        assert {"body", "head"} <= set(jax.tree.leaves(groups))


def test_fresh_tables_are_near_their_neutral_value():
    for combine, centre in (("sum", 0), ("product", 1)):
        tables = np.asarray(fast.make_posembed(Factorised(64, combine=combine), 64, key=jr.key(0)).tables)
        assert abs(tables.mean() - centre) < 1e-3 and 0.019 < tables.std() < 0.021


@pytest.fixture
def packed():
    """Two images with dropped tokens: the last row and column of the first are gone."""
    rng = np.random.default_rng(3)
    image = tokens_of(rng, (3, 4))
    stays = (image.coords < image.grid - 1).all(-1)
    images = [Tokens(image.patches[stays], image.coords[stays], image.grid), tokens_of(rng, (2, 5), keep=7)]
    return Packed(pack(images, [0, 1], T, I), images)


@pytest.mark.parametrize("name", ["factorised fractional", "learned 1-D"])
def test_wrong_positions_in_a_row(packed, name):
    """Grids after dropping instead of before, and coordinates exchanged."""
    right, alone = forward(name), meaning(name)

    def after_dropping(row):
        grids = row.grids.copy()
        for slot in range(len(packed.images)):
            grids[slot] = row.coords[row.segment_ids == slot + 1].max(0) + 1
        return right(row._replace(grids=grids))

    def exchanged(row):
        return right(row._replace(coords=row.coords[:, ::-1].copy()))

    laws.gives_each_image_its_meaning(right, alone, packed)
    for wrong in (after_dropping, exchanged):
        caught(laws.gives_each_image_its_meaning, wrong, alone, packed)
