"""Which backend a run takes: those that pass a check on this device are timed on the run's shapes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int

from ..config import Auto, Backend, CuDNN, Dense, Loop, ModelConfig, Pallas, Splash
from ..encoder import Encoder
from ..errors import check
from ..kernels import attention_mask, packed_attention
from ..layers import compute_dtype, full

PLATFORMS: dict[type, str] = {Pallas: "gpu", CuDNN: "gpu", Splash: "tpu"}
CANDIDATES: dict[str, tuple[Backend, ...]] = {
    "cpu": (Loop(),),
    "gpu": (Pallas(32), Pallas(64), Pallas(128), CuDNN()),
    "tpu": (Splash(),),
}
SHORT = {"cpu": 512}  # tokens in rows so short that the dense mask is taken unmeasured
WORTH = 0.95  # of the time of the dense mask: what does not win so much is not taken
LIMITS = {"float64": 1e-9, "float32": 1e-2, "bfloat16": 3e-2}  # relative; GPUs multiply float32 in 10 bits
REPEATS = 3
STEPS = 5


def choose(config: ModelConfig, segment_ids: Int[np.ndarray, "B T"], slots: int) -> tuple[Backend, list[str]]:
    """The backend for rows like these, registers included, and what was found, in words.

    `segment_ids` are rows as one device sees them. One that is named is only checked.   Raises ConfigError where it
    fails. `Auto` on a CPU is dense in rows below `SHORT`, without a measurement.
    """
    platform, named = jax.default_backend(), config.attention
    if isinstance(named, Dense):
        return named, []
    if not isinstance(named, Auto):
        why = refusal(named, config, segment_ids.shape[-1], slots)
        check(why is None, f"model.attention={named} does not work here: {why}; Auto chooses one that does")
        return named, []
    length = segment_ids.shape[-1]
    if platform not in CANDIDATES or length < SHORT.get(platform, 0):
        return Dense(), []
    notes, seconds = [], {}
    for backend in (Dense(), *CANDIDATES[platform]):
        why = refusal(backend, config, length, slots)
        try:
            if why is None:
                seconds[backend] = block_seconds(replace(config, attention=backend), segment_ids, slots)
        except jax.errors.JaxRuntimeError as error:
            why = _first_line(error)
        notes.append(
            f"{backend}: " + (f"{1e3 * seconds[backend]:.3g} ms a block" if why is None else f"refused, {why}")
        )
    return fastest(seconds), notes


def fastest(seconds: dict[Backend, float]) -> Backend:
    """The fastest, unless it wins less than 5 % over the dense mask."""
    dense = seconds.get(Dense(), np.inf)
    best = min(seconds, key=seconds.__getitem__, default=Dense())
    return best if best in seconds and seconds[best] < WORTH * dense else Dense()


def refusal(backend: Backend, config: ModelConfig, length: int, slots: int) -> str | None:
    """Why a backend cannot be used for a model of this shape on this device; None where it can."""
    platform, needed = jax.default_backend(), PLATFORMS.get(type(backend))
    if needed not in (None, platform):
        return f"it runs on a {needed}, and this is a {platform}"
    try:
        replace(config, attention=backend)
        error = disagreement(partial(packed_attention, backend), config, length, slots)
    except Exception as reason:  # private functions and compilers raise what they like
        return _first_line(reason)
    limit = LIMITS[compute_dtype(config.dtype)]
    return None if error <= limit else f"its error against the dense mask is {error:.2g}, above {limit:g}"


def disagreement(attention: Callable[..., Array], config: ModelConfig, length: int, slots: int, seed: int = 0) -> float:
    """The largest relative error of outputs and gradients against the dense mask in full precision; ∞ for NaN.

    On rows with gaps, an image of one token and empty slots (`gappy`), at the run's length, heads and precision.
    """
    segment_ids = jnp.asarray(gappy(length, slots))
    shape = (len(segment_ids), config.heads, length, config.width // config.heads)
    dtype = compute_dtype(config.dtype)
    drawn = np.random.default_rng(seed).normal(size=(4, *shape))
    inputs = [jnp.asarray(x, dtype) for x in drawn]

    def both(attention, q, k, v, g):
        f = lambda q, k, v: attention(q, k, v, segment_ids, slots, shape[-1] ** -0.5)
        out, pull = jax.vjp(f, q, k, v)
        return out, *pull(jnp.where((segment_ids > 0)[:, None, :, None], g, 0))

    got = jax.jit(partial(both, attention))(*inputs)
    with jax.default_matmul_precision("highest"):
        want = jax.jit(partial(both, partial(packed_attention, Dense())))(*map(full, inputs))
    errors = [float(jnp.abs(full(a) - b).max() / jnp.abs(b).max()) for a, b in zip(got, want, strict=True)]
    return max(errors) if np.isfinite(errors).all() else np.inf


def gappy(length: int, slots: int) -> Int[np.ndarray, "2 T"]:
    """A row with padding before, between and after images, one of them a single token, and empty slots as far as
    slots go; and a row that one image fills."""
    ids = np.zeros((2, length), np.int32)
    half = length // 2
    for slot, (start, end) in enumerate(((length // 16, half), (half + 1, half + 2), (half, half), (half + 3, -3)), 1):
        ids[0, start:end] = slot if slot <= slots else 0
    ids[1] = 1
    return ids


def block_seconds(config: ModelConfig, segment_ids: Int[np.ndarray, "B T"], slots: int) -> float:
    """Seconds of one block, forward and backward, on rows like these: the best of REPEATS."""
    ids = jnp.asarray(segment_ids)
    dtype = compute_dtype(config.dtype)
    encoder = eqx.filter_jit(lambda: Encoder(replace(config, depth=1), key=jr.key(0)))()
    x = jnp.ones((*ids.shape, config.width), dtype) * jnp.linspace(-1, 1, config.width).astype(dtype)

    @eqx.filter_jit
    def step(encoder: Encoder, x: Array, ids: Array) -> Any:  # an argument, since of a constant the mask is folded
        def mean_square(both):
            encoder, x = both
            return (full(encoder(x, attention_mask(config.attention, ids, slots))) ** 2).mean()

        return eqx.filter_grad(mean_square)((encoder, x))

    def several(count: int) -> float:
        start = perf_counter()
        jax.block_until_ready(eqx.filter([step(encoder, x, ids) for _ in range(count)], eqx.is_array))
        return perf_counter() - start

    several(2)  # compiles and warms up
    return min(several(STEPS) for _ in range(REPEATS)) / STEPS


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
