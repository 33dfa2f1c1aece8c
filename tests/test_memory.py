"""What the gradient keeps of a block: inputs of norms and GELU, not what they compute on the way."""

from math import prod

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from navit_eqx.config import ModelConfig
from navit_eqx.encoder import Block
from navit_eqx.layers import NORMS, Mlp, make_norm

TOKENS, WIDTH, HIDDEN = 48, 64, 256
CONFIG = ModelConfig((8, 8), width=WIDTH, depth=1, heads=2, mlp_width=HIDDEN)
X = jr.normal(jr.key(0), (TOKENS, WIDTH))


def kept(module, *inputs) -> int:
    """Numbers that lie in memory between the forward and the backward pass, parameters left out."""
    parameters, static = eqx.partition(module, eqx.is_inexact_array)
    _, back = jax.vjp(lambda p, x: eqx.combine(p, static)(x, *inputs[1:]), parameters, inputs[0])
    shapes = {leaf.shape for leaf in jax.tree.leaves(parameters)} | {(WIDTH, WIDTH)}  # heads laid flat
    return sum(leaf.size for leaf in jax.tree.leaves(back) if leaf.shape not in shapes)


@pytest.mark.parametrize("kind", NORMS)
def test_a_norm_keeps_its_input(kind):
    assert kept(make_norm(kind, WIDTH, False), X) == X.size


def test_the_mlp_keeps_its_input_and_both_sides_of_gelu():
    assert kept(Mlp(CONFIG, key=jr.key(1)), X) == X.size + 2 * TOKENS * HIDDEN


def test_a_block_keeps_little_beside():
    """x, both normalized inputs, q, k, v before and after their norms, the weights of attention, its output."""
    mask = jnp.ones((TOKENS, TOKENS), bool)
    pairs = CONFIG.heads * TOKENS**2
    assert kept(Block(CONFIG, key=jr.key(1)), X, mask) <= pairs + TOKENS * (13 * WIDTH + 2 * HIDDEN)


def test_plain_gelu_keeps_more():
    plain = jax.vjp(jax.nn.gelu, X)[1]
    assert sum(prod(leaf.shape) for leaf in jax.tree.leaves(plain)) >= 3 * X.size
