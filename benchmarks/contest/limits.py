"""Programs of a few lines that bound a training step on a CPU; NumPy alone, since peers import it too."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

TOKENS, WIDTHS = 2016, (192, 384)  # of a step; of Ti and S
ROWS, HEADS, ROW = 7, 3, 288  # of its attention matrix
TOLERANCE = 1e-4  # of the largest value


class Program(NamedTuple):
    """A function by name, what it is given, what it shall give, and how much that is."""

    name: str
    function: str
    inputs: tuple[np.ndarray, ...]
    want: np.ndarray
    amount: int
    """Numbers, or FLOPs of a product."""


def programs(tokens: int = TOKENS, row: int = ROW) -> Iterator[Program]:
    """Elementwise functions and softmax of an attention matrix; the three products of a layer that widens fourfold."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape, np.float32)
    scores, g = normal(ROWS, HEADS, row, row), normal(ROWS, HEADS, row, row)
    for function in ("exp", "tanh", "softmax"):
        yield Program(function, function, (scores,), WANTED[function](scores), scores.size)
    w = softmax(scores).astype(np.float32)
    yield Program("softmax_backward", "softmax_backward", (w, g), softmax_backward(w, g), w.size)
    for width in WIDTHS:
        x, g, matrix = normal(tokens, width), normal(tokens, 4 * width), normal(width, 4 * width)
        for function, inputs in {"forward": (x, matrix), "inputs": (g, matrix), "weights": (x, g)}.items():
            yield Program(f"{function}_{width}", function, inputs, WANTED[function](*inputs), 8 * tokens * width**2)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(float) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_backward(w: np.ndarray, g: np.ndarray) -> np.ndarray:
    w, g = w.astype(float), g.astype(float)
    return w * (g - (w * g).sum(-1, keepdims=True))


WANTED = {
    "exp": lambda x: np.exp(x.astype(float)),
    "tanh": lambda x: np.tanh(x.astype(float)),
    "softmax": softmax,
    "softmax_backward": softmax_backward,
    "forward": lambda x, w: x.astype(float) @ w,
    "inputs": lambda g, w: g.astype(float) @ w.T,
    "weights": lambda x, g: x.T.astype(float) @ g,
}


def check(program: Program, got: np.ndarray) -> None:
    """Raises AssertionError where a result is not that of float64."""
    error = float(np.abs(got - program.want).max() / np.abs(program.want).max())
    assert error <= TOLERANCE, f"{program.name}: relative error {error:.3g}, limit {TOLERANCE}"
