"""Choice of the attention backend: backends that pass a check on this device are timed on the shapes of the run."""

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
SHORT = {"cpu": 512}  # shorter rows use the dense mask, without timing
WORTH = 0.95  # a backend must take less than this share of the time of the dense mask
LIMITS = {"float64": 1e-9, "float32": 1e-2, "bfloat16": 3e-2}  # relative errors; GPUs multiply float32 in 10 bits
REPEATS = 3
STEPS = 5


def choose(config: ModelConfig, segment_ids: Int[np.ndarray, "B T"], slots: int) -> tuple[Backend, list[str]]:
    """The attention backend for rows like these, registers included, and notes on the timings.

    `segment_ids` are the rows of one device. A backend other than `Auto` is only checked.   Raises ConfigError where
    the check fails. `Auto` on a CPU is dense in rows below `SHORT`, without timing.
    """
    platform, configured = jax.default_backend(), config.attention
    if isinstance(configured, Dense):
        return configured, []
    if not isinstance(configured, Auto):
        why = refusal(configured, config, segment_ids.shape[-1], slots)
        check(why is None, f"model.attention={configured} does not work here: {why}; Auto chooses one that does")
        return configured, []
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
    """The fastest backend, if it is at least 5 % faster than the dense mask, else the dense mask."""
    dense = seconds.get(Dense(), np.inf)
    best = min(seconds, key=seconds.__getitem__, default=Dense())
    return best if best in seconds and seconds[best] < WORTH * dense else Dense()


def refusal(backend: Backend, config: ModelConfig, length: int, slots: int) -> str | None:
    """The reason why a backend cannot be used for this model on this device; None where it can."""
    platform, needed = jax.default_backend(), PLATFORMS.get(type(backend))
    if needed not in (None, platform):
        return f"it runs on a {needed}, and this is a {platform}"
    try:
        replace(config, attention=backend)
        error = disagreement(partial(packed_attention, backend), config, length, slots)
    except Exception as reason:  # private functions and compilers raise exceptions of any kind
        return _first_line(reason)
    limit = LIMITS[compute_dtype(config.dtype)]
    return None if error <= limit else f"its error against the dense mask is {error:.2g}, above {limit:g}"


def disagreement(attention: Callable[..., Array], config: ModelConfig, length: int, slots: int, seed: int = 0) -> float:
    """Largest relative error of outputs and gradients against the dense mask in full precision; ∞ for NaN.

    Measured on rows with gaps, an image of one token and empty slots (`gappy`), with the row length, heads and dtype of
    the run.
    """
    segment_ids = jnp.asarray(gappy(length, slots))
    shape = (len(segment_ids), config.heads, length, config.head_channels)
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
    """Segment ids of two rows: one with padding before, between and after images, a single-token image and, where there
    are enough slots, an empty slot; and one filled by a single image."""
    ids = np.zeros((2, length), np.int32)
    half = length // 2
    for slot, (start, end) in enumerate(((length // 16, half), (half + 1, half + 2), (half, half), (half + 3, -3)), 1):
        ids[0, start:end] = slot if slot <= slots else 0
    ids[1] = 1
    return ids


def block_seconds(config: ModelConfig, segment_ids: Int[np.ndarray, "B T"], slots: int) -> float:
    """Seconds of one block, forward and backward, on these rows: the minimum of REPEATS."""
    ids = jnp.asarray(segment_ids)
    dtype = compute_dtype(config.dtype)
    encoder = eqx.filter_jit(lambda: Encoder(replace(config, depth=1), key=jr.key(0)))()
    x = jnp.broadcast_to(jnp.linspace(-1, 1, config.width).astype(dtype), (*ids.shape, config.width))

    @eqx.filter_jit
    def step(encoder: Encoder, x: Array, ids: Array) -> Any:  # ids are an argument: XLA would fold a constant mask
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
