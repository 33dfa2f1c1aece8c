"""Cost formulas against what is really there: the numbers of a model, and the products in its program."""

import dataclasses
import inspect
import re
from math import prod
from typing import get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cost import image_cost, row_cost
from navit_eqx.config import (
    Dense,
    Factorised,
    Fourier,
    Gated,
    Joint,
    Mean,
    ModelConfig,
    NoPositions,
    Pool,
    Sinusoidal,
    Stages,
    Token,
    variant,
)
from navit_eqx.model import NaViT
from navit_eqx.rows import Row
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import Model, abstract_model, is_shape
from reference.evaluation import cost
from reference.evaluation.cost import (
    efficiency,
    image_flops,
    parameters,
    position_flops,
    position_parameters,
    row_flops,
    state_bytes,
    step_bytes,
)
from tests.support.laws import caught
from tests.support.tolerances import FLOAT64, assert_close

CLASSES = 50
SHAPE = ModelConfig((16, 16), width=96, depth=3, heads=3, mlp_width=256, posembed=Factorised(20), attention=Dense())
SIZES = SHAPE.sizes | {"classes": CLASSES}
POSITIONS = {
    "sum": Factorised(20),
    "product": Factorised(20, combine="product"),
    "stack": Factorised(20, "fractional", combine="stack"),
    "joint": Joint(20),
    "sinusoidal": Sinusoidal(),
    "sinusoidal sum": Sinusoidal(combine="sum"),
    "fourier": Fourier(),
    "none": NoPositions(),
}
POOLS = [kind() for kind in get_args(Pool)]
positions = pytest.mark.parametrize("kind", POSITIONS)
pools = pytest.mark.parametrize("pool", POOLS, ids=lambda pool: type(pool).__name__)
registers = pytest.mark.parametrize("registers", [0, 1, 16])


def shaped(pool=SHAPE.pool, registers: int = 0, kind: str = "sum") -> ModelConfig:
    """The shape with another pool, registers or positions; a class token where the pool reads one."""
    registers = max(registers, 1) if isinstance(pool, Token) else registers
    return dataclasses.replace(SHAPE, pool=pool, registers=registers, posembed=POSITIONS[kind])


def abstract(shape: ModelConfig) -> Model:
    """The model with its classifier, shapes in place of arrays."""
    return abstract_model(shape, Classify(classes=CLASSES))


# parameters -------------------------------------------------------------------------------------------------


def has_the_parameters_of(shape: ModelConfig, kind: str) -> None:
    """The formula counts the numbers of the model."""
    count = sum(leaf.size for leaf in jax.tree.leaves(abstract(shape)))
    formula = cost.parameters(
        patch_dim=shape.patch_dim, width=shape.width, depth=shape.depth, heads=shape.heads, mlp_width=shape.mlp_width,
        classes=CLASSES, positions=position_parameters(width=96, size=20).get(kind, 0), registers=shape.registers,
        pool=type(shape.pool).__name__, head_size=shape.head_size or 0,
    )  # fmt: skip
    assert count == formula


@positions
def test_parameters_are_counted(kind):
    has_the_parameters_of(shaped(kind=kind), kind)


@pools
@registers
def test_parameters_of_pools_and_registers_are_counted(pool, registers):
    has_the_parameters_of(shaped(pool, registers), "sum")


def test_parameters_of_wide_heads_are_counted():
    has_the_parameters_of(dataclasses.replace(SHAPE, head_size=48), "sum")


@pytest.mark.parametrize("option", ["pool", "registers"])
def test_an_option_that_is_not_counted_is_caught(monkeypatch, option):
    blind = lambda **sizes: parameters(**{name: size for name, size in sizes.items() if name != option})
    monkeypatch.setattr(cost, "parameters", blind)
    caught(has_the_parameters_of, shaped(Mean(), 16), "sum")


@pytest.mark.parametrize("name, millions", [("Ti/16", 5.7), ("S/16", 22.1), ("B/16", 86.6), ("L/16", 304.3)])
def test_variants_have_their_known_sizes(name, millions):
    """Millions of parameters as published for 1,000 classes, of models whose pool has none and with positions left
    out here: within 2 %."""
    c = variant(name)
    count = parameters(
        patch_dim=c.patch_dim, width=c.width, depth=c.depth, heads=c.heads, mlp_width=c.mlp_width, classes=1000,
        positions=0, pool="Mean",
    )  # fmt: skip
    assert abs(count / 1e6 - millions) < 0.02 * millions


def test_the_docstring_of_variants_is_true():
    """Millions of parameters of the backbones, the pool included, to one decimal."""
    said = re.search(r"((?:[\d.]+, )+[\d.]+ and [\d.]+) M parameters", " ".join(inspect.getdoc(variant).split()))
    counts = []
    for name in ("Ti/16", "S/16", "B/16", "L/16"):
        like = eqx.filter_eval_shape(NaViT, variant(name), key=jax.random.key(0))
        counts.append(sum(leaf.size for leaf in jax.tree.leaves(like)))
    assert [float(number) for number in re.findall(r"[\d.]+", said[1])] == [round(count / 1e6, 1) for count in counts]


# FLOPs ------------------------------------------------------------------------------------------------------


def dot_products(jaxpr) -> int:
    """FLOPs of all sums of products: two for each multiply-add, the body of a scan as often as it runs."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            terms = prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * prod(equation.outvars[0].aval.shape) * terms if contracted else 0
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(map(dot_products, inner(equation.params)))
    return total


def inner(params: dict):
    """The programs that an operation holds."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            program = getattr(item, "jaxpr", item)
            if hasattr(program, "eqns"):
                yield program


def row_of(shape: ModelConfig, tokens: int, slots: int) -> Row:
    """A row of so many places, shapes in place of arrays."""
    return Row(
        jax.ShapeDtypeStruct((tokens, shape.patch_dim), jnp.float32),
        *(jax.ShapeDtypeStruct(axes, jnp.int32) for axes in ((tokens, 2), (tokens,), (slots, 2), (slots,))),
    )


def forward(shape: ModelConfig, tokens: int, slots: int):
    """The forward pass of a row as a function, and its arguments."""
    arrays, static = eqx.partition(abstract(shape), is_shape)
    return lambda arrays, row: eqx.combine(arrays, static)(row), arrays, row_of(shape, tokens, slots)


def costs_what_its_program_does(shape: ModelConfig, kind: str = "sum") -> None:
    """The formulas, for a row and for an image that fills one, are the sums of all dot products in the program."""

    def counted(tokens: int, slots: int) -> int:
        function, *arguments = forward(shape, tokens, slots)
        return dot_products(jax.make_jaxpr(function)(*arguments).jaxpr)

    sizes = shape.sizes | {"classes": CLASSES}
    assert sizes["positions"] == position_flops(width=96, size=20)[kind]
    assert cost.row_flops([], 40, 5, **sizes)[1] == counted(40, 5)
    assert cost.image_flops(24, **sizes) == counted(24, 1)


@pools
@registers
def test_the_formula_is_the_program_for_every_pool(pool, registers):
    costs_what_its_program_does(shaped(pool, registers))


@positions
def test_the_formula_is_the_program_for_every_position(kind):
    costs_what_its_program_does(shaped(kind=kind), kind)


@pytest.mark.parametrize(
    "changes",
    [{"unroll": 3}, {"remat": True}, {"heads": 6}, {"channels": 5}, {"patch": (8, 24)}, {"mlp": Gated()}]
    + [{"head_size": 48}]
    + [{"stages": Stages((1, 2), widths, pool)} for widths, pool in (((), "mean"), ((96, 160), "max"), ((), "concat"))],
)
def test_the_formula_is_the_program_however_it_runs(changes):
    costs_what_its_program_does(dataclasses.replace(SHAPE, **changes))


def test_positions_on_other_axes():
    """Tables of one and of three axes."""
    for axes in (1, 3):
        flops = position_flops(width=96, size=5, axes=axes)
        kinds = {"sum": Factorised, "joint": Joint, "fourier": Fourier}
        for kind, make in kinds.items():
            shape = dataclasses.replace(SHAPE, posembed=make(size=5, axes=axes))
            assert shape.sizes["positions"] == flops[kind]


@pytest.mark.parametrize("option, default", [("registers", 0), ("pool", "Map"), ("positions", 0), ("depth", 1)])
@pytest.mark.parametrize("name", ["row_flops", "image_flops"])
def test_a_formula_that_ignores_an_option_is_caught(monkeypatch, name, option, default):
    honest = getattr(cost, name)
    monkeypatch.setattr(cost, name, lambda *args, **sizes: honest(*args, **sizes | {option: default}))
    caught(costs_what_its_program_does, shaped(Mean(), 16))


def test_costs_at_a_configured_shape():
    assert image_cost(SHAPE, CLASSES, 64) == row_cost(SHAPE, CLASSES, 64, 1) == image_flops(64, **SIZES)
    assert row_cost(SHAPE, CLASSES, 400, 8) == row_flops([64], 400, 8, **SIZES)[1]
    other = shaped(Mean(), 4, "joint")
    assert image_cost(other, CLASSES, 64) == image_flops(64, **other.sizes, classes=CLASSES)


def test_flops_are_those_that_xla_counts():
    """One image that fills its row, against the compiler's count of the whole forward pass."""
    tokens = 128
    # Unrolled, since XLA counts the body of a loop once.
    function, *arguments = forward(dataclasses.replace(SHAPE, unroll=SHAPE.depth), tokens, 1)
    counted = jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]
    formula = image_flops(tokens, **SIZES)
    assert formula < counted < 1.15 * formula  # XLA counts norms, softmax and weights of positions too


@registers
@pools
@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=6))
def test_a_row_needs_what_its_images_need(pool, registers, lengths):
    sizes = shaped(pool, registers).sizes | {"classes": CLASSES}
    needed, spent = row_flops(lengths, 400, 8, **sizes)
    assert needed == sum(image_flops(n, **sizes) for n in lengths)
    assert spent >= needed
    assert row_flops([64], 64, 1, **sizes) == (image_flops(64, **sizes),) * 2
    assert image_flops(64.0, **sizes) == image_flops(64, **sizes), "a mean of lengths is no whole number"


@given(st.integers(1, 10**9), st.integers(1, 1024))
def test_what_a_step_sends(numbers, devices):
    """Nothing alone; at most twice the gradient, or thrice where parameters are split, which divides their memory."""
    whole, split = step_bytes(numbers, devices), step_bytes(numbers, devices, split=True)
    assert (whole > 0) == (devices > 1) and whole < 8 * numbers
    assert_close(split, 1.5 * whole, FLOAT64)
    assert_close(state_bytes(numbers, devices, split=True) * devices, state_bytes(numbers, devices), FLOAT64)


@given(st.floats(1e-6, 1e3), st.floats(0, 1e3))
def test_efficiency_is_a_share(compute, communication):
    waits, overlaps = efficiency(compute, communication)
    assert 0 < waits <= overlaps <= 1 and (overlaps == 1) == (communication <= compute)
