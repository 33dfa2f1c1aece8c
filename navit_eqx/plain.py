"""Programs in few, plain operations: the form in which other compilers and converters understand a model.

A function is traced, and its program run again operation by operation: calls are inlined, loops over blocks unrolled,
every sum of products is a product of matrices, and what only derivatives or the compiler need is left out. The numbers
are the same.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jaxtyping import Array

Values = list[Any]


def plain(function: Callable[..., Array], *shapes: Any) -> Callable[..., Array]:
    """The function at these shapes, by plain operations alone.

    It is traced here, and not where it is called: a converter that replaces functions of JAX sees operations only.
    """
    program = jax.make_jaxpr(function)(*shapes)
    program = jax.make_jaxpr(lambda *args: evaluate(program, [*args]))(*shapes)
    return lambda *args: evaluate(program, [*args])[0]


def evaluate(program: core.ClosedJaxpr, args: Values) -> Values:
    """The outputs of a program, by plain operations."""
    found = dict(zip(program.jaxpr.constvars, program.consts)) | dict(zip(program.jaxpr.invars, args))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else found[atom]
    for equation in program.jaxpr.eqns:
        values = [read(atom) for atom in equation.invars]
        rule = RULES.get(equation.primitive.name, as_it_is)
        found |= dict(zip(equation.outvars, rule(equation, values)))
    return [read(atom) for atom in program.jaxpr.outvars]


def as_it_is(equation: Any, values: Values) -> Values:
    """The operation itself."""
    out = equation.primitive.bind(*values, **equation.params)
    return out if equation.primitive.multiple_results else [out]


def inlined(equation: Any, values: Values) -> Values:
    """A call becomes the program that is called."""
    inner = next(equation.params[name] for name in ("jaxpr", "call_jaxpr", "fun_jaxpr") if name in equation.params)
    return evaluate(inner if hasattr(inner, "consts") else core.ClosedJaxpr(inner, ()), values)


def unrolled(equation: Any, values: Values) -> Values:
    """A loop of known length becomes its steps, one after the other."""
    constants, carried = equation.params["num_consts"], equation.params["num_carry"]
    fixed, carry, stacked = values[:constants], values[constants : constants + carried], values[constants + carried :]
    order = range(equation.params["length"])
    outputs = []
    for n in reversed(order) if equation.params["reverse"] else order:
        step = evaluate(equation.params["jaxpr"], [*fixed, *carry, *(leaf[n] for leaf in stacked)])
        carry, output = step[:carried], step[carried:]
        outputs.append(output)
    outputs = outputs[::-1] if equation.params["reverse"] else outputs
    return [*carry, *(jnp.stack(leaves) for leaves in zip(*outputs))]


def as_matrices(equation: Any, values: Values) -> Values:
    """Any sum of products becomes a product of matrices, batch by batch: B m k, B k n → B m n."""
    (left, right), (contracted, batch) = values, equation.params["dimension_numbers"]
    one, shared, rows = arranged(left, batch[0], contracted[0], inner_last=True)
    other, _, columns = arranged(right, batch[1], contracted[1], inner_last=False)
    places = tuple(range(len(shared)))
    inner = ((len(shared) + 1,), (len(shared),))
    product = equation.primitive.bind(one, other, **equation.params | {"dimension_numbers": (inner, (places, places))})
    return [reshaped(product, (*shared, *rows, *columns))]


def arranged(
    x: Array, batch: Sequence[int], contracted: Sequence[int], *, inner_last: bool
) -> tuple[Array, tuple[Any, ...], tuple[Any, ...]]:
    """x as B m k, or B k n, with the shapes of its batch axes and of its free axes."""
    free = [axis for axis in range(x.ndim) if axis not in (*batch, *contracted)]
    shared, inner, outer = (tuple(x.shape[axis] for axis in axes) for axes in (batch, contracted, free))
    order = [*batch, *free, *contracted] if inner_last else [*batch, *contracted, *free]
    ends = (prod(outer), prod(inner)) if inner_last else (prod(inner), prod(outer))
    moved = x if order == list(range(x.ndim)) else lax.transpose(x, order)
    return reshaped(moved, (*shared, *ends)), shared, outer


def reshaped(x: Array, shape: tuple[Any, ...]) -> Array:
    """x in another shape; itself where it has that already."""
    return x if x.shape == shape else lax.reshape(x, shape)


def as_slices(equation: Any, values: Values) -> Values:
    """Pieces along an axis, one slice each."""
    axis, ends = equation.params["axis"], list(accumulate(equation.params["sizes"], initial=0))
    return [lax.slice_in_dim(values[0], *pair, axis=axis) for pair in pairwise(ends)]


def as_concatenation(equation: Any, values: Values) -> Values:
    """Padding of the ends of axes becomes a concatenation with the value repeated."""
    x, value = values
    for axis, (before, after, between) in enumerate(equation.params["padding_config"]):
        if between or min(before, after) < 0:
            return as_it_is(equation, values)
        more = [
            lax.broadcast(value, (*x.shape[:axis], n, *x.shape[axis + 1 :])) if n else None for n in (before, after)
        ]
        parts = [part for part in (more[0], x, more[1]) if part is not None]
        x = lax.concatenate(parts, axis) if len(parts) > 1 else x
    return [x]


CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint")
RULES: dict[str, Callable[[Any, Values], Values]] = {
    **dict.fromkeys(CALLS, inlined),
    "scan": unrolled,
    "split": as_slices,
    "pad": as_concatenation,
    "dot_general": as_matrices,
    "optimization_barrier": lambda equation, values: values,
    "stop_gradient": lambda equation, values: values,
    "copy": lambda equation, values: values,
}
